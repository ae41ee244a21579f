"""What waits to be erased, and what was: read from the store alone."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, select

from mondegreen.cases.selecting import Wanted, select_for_erasure
from mondegreen.config import RetentionDays
from mondegreen.db import reading
from mondegreen.tables import ErasureRow

JOURNAL = "erasure.json"  # in the folder of live state, while an erasure is under way


def overdue(engine: Engine, folder: Path, days: RetentionDays) -> dict[str, int]:
    """How much is older than retention_days allows: cases, recordings of cases that stay, inferences; and 1 for an
    erasure that was interrupted."""
    interrupted = {"interrupted": 1} if (folder / JOURNAL).is_file() else {}
    if days == RetentionDays():
        return interrupted
    with reading(engine) as session:
        found = select_for_erasure(session, Wanted("expired"), days, datetime.now(UTC))
    counts = {"cases": len(found.cases), "recordings": len(found.silenced), "inferences": found.inferences}
    return {name: count for name, count in counts.items() if count} | interrupted


def history(engine: Engine) -> list[dict[str, Any]]:
    """The record of erasures, newest first."""
    columns = ErasureRow.id, ErasureRow.at, ErasureRow.who, ErasureRow.reason, ErasureRow.what, ErasureRow.finished_at
    with reading(engine) as session:
        rows = session.execute(select(*columns, ErasureRow.counts).order_by(ErasureRow.id.desc()))
        return [dict(row._mapping) for row in rows]
