"""A case store with made-up rows, for tests of the loop: cases and inferences go straight into the tables."""

import hashlib
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, update

from mondegreen.cases.card import Card, Quality
from mondegreen.db import open_database, transaction
from mondegreen.files import write_json
from mondegreen.tables import CaseRow, InferenceRow

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)


@dataclass
class Store:
    """What the loop needs of a DataManager, and a clock that tests move."""

    folder: Path
    now: datetime = NOON
    engine: Engine = field(init=False)
    made: int = 0

    def __post_init__(self) -> None:
        self.engine = open_database(self.folder)

    def clock(self) -> datetime:
        return self.now

    def cases(self, count: int, corrected: int = 0, version: int | None = None) -> None:
        """Adds cases, the first ones corrected by a person."""
        with transaction(self.engine) as session:
            for index in range(count):
                self.made += 1
                session.add(_case(self.made, self.now, "manual" if index < corrected else None, version))

    def inferences(
        self, good: int = 0, errors: int = 0, unmeasured: int = 0, ago: timedelta = timedelta(hours=1)
    ) -> None:
        """Adds inferences."""
        said = [False] * good + [True] * errors + [None] * unmeasured
        with transaction(self.engine) as session:
            session.add_all(
                InferenceRow(
                    at=self.now - ago, model_version="m", audio_sha256="0" * 64, duration=1.0, latency=0.1, is_error=x
                )
                for x in said
            )

    def freeze(self) -> int:
        """A stand-in for the snapshot: the next version for corrected cases that are in none, else the present one.

        data/failed_cases beside the store gets its card, and nothing else.
        """
        with transaction(self.engine) as session:
            version = max((row.dataset_version or 0 for row in session.query(CaseRow)), default=0)
            waiting = (CaseRow.label_method.is_not(None), CaseRow.dataset_version.is_(None))
            if session.query(CaseRow).where(*waiting).count():
                version += 1
                session.execute(update(CaseRow).where(*waiting).values(dataset_version=version))
        write_json(self.folder.parent / "data/failed_cases/card.json", _card(version))
        return version


def _card(version: int) -> Card:
    measured = Quality(completeness=1, validity=1, uniqueness=1, share_by_source={})
    counts: dict[str, Any] = dict.fromkeys(("new", "changed", "removed", "seconds"), 0)
    names = ("error_types", "methods", "sources", "model_versions", "left_out")
    named: dict[str, Any] = {name: {} for name in names}
    return Card(
        version=version, parent=version - 1 or None, cases=4, quality=measured, left_out_cases=[], **counts, **named
    )


def _case(number: int, at: datetime, method: str | None, version: int | None) -> CaseRow:
    digest = hashlib.sha256(str(number).encode()).hexdigest()
    return CaseRow(
        id=digest[:16],
        audio_sha256=digest,
        audio_name=f"{number}.wav",
        model_version="m",
        original_transcript="a misheard word",
        source="test",
        details={},
        first_seen=at,
        last_seen=at,
        times_seen=1,
        label_method=method,
        corrected_transcript="a word" if method else None,
        dataset_version=version,
    )
