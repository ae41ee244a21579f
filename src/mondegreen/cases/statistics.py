"""Counters of cases, kept in the transactions that change the cases."""

from collections import Counter
from collections.abc import Iterable
from typing import Any, NamedTuple

from sqlalchemy import delete, func, select, text
from sqlalchemy.orm import Session

from mondegreen.cases.database import plain, upserting
from mondegreen.cases.records import Statistics
from mondegreen.cases.tables import CaseCountRow, CaseErrorRow, CaseRow, ErrorTypeCountRow


class Kind(NamedTuple):
    """What cases are counted by."""

    model_version: str
    source: str
    label_method: str  # "" without a correction
    used: bool


class Tally:
    """What a transaction changes in the counters. `write` comes last, and in key order, so that writers never cross."""

    def __init__(self) -> None:
        self.kinds: Counter[Kind] = Counter()
        self.error_types: Counter[str] = Counter()

    def move(self, before: Kind | None, after: Kind) -> None:
        """A case became another kind; `before` is None for a new one."""
        self.kinds[after] += 1
        if before:
            self.kinds[before] -= 1

    def write(self, session: Session) -> None:
        kinds = [{**kind._asdict(), "cases": count} for kind, count in sorted(self.kinds.items()) if count]
        types = [{"error_type": name, "cases": count} for name, count in sorted(self.error_types.items()) if count]
        _add(session, CaseCountRow, kinds)
        _add(session, ErrorTypeCountRow, types)


def _add(session: Session, table: type[CaseCountRow] | type[ErrorTypeCountRow], rows: list[dict[str, Any]]) -> None:
    insert, known = upserting(session, table), plain(table)
    add = insert.on_conflict_do_update(
        index_elements=known.primary_key, set_={"cases": known.c.cases + insert.excluded.cases}
    )
    for row in rows:  # one at a time: a single statement may lock them in any order
        session.execute(add, row)


def statistics(session: Session) -> Statistics:
    """Adds up the counters."""
    kinds = {
        Kind(row.model_version, row.source, row.label_method, row.used): row.cases
        for row in session.scalars(select(CaseCountRow).where(CaseCountRow.cases != 0))
    }
    types = session.scalars(select(ErrorTypeCountRow).where(ErrorTypeCountRow.cases != 0))
    return _summed(kinds, {row.error_type: row.cases for row in types})


def recounted(session: Session) -> Statistics:
    """The same from the cases themselves: what the counters must say."""
    return _summed(*_counted(session))


def rebuild(session: Session) -> None:
    """Writes the counters anew from the cases."""
    if session.get_bind().dialect.name == "postgresql":  # SQLite has one writer at a time anyway
        session.execute(text("LOCK TABLE case_counts, error_type_counts IN EXCLUSIVE MODE"))
    tally = Tally()
    kinds, types = _counted(session)
    tally.kinds.update(kinds)
    tally.error_types.update(types)
    for table in (CaseCountRow, ErrorTypeCountRow):
        session.execute(delete(table))
    tally.write(session)


def _counted(session: Session) -> tuple[dict[Kind, int], dict[str, int]]:
    by = (CaseRow.model_version, CaseRow.source, CaseRow.label_method, CaseRow.dataset_version.is_not(None))
    rows = session.execute(select(*by, func.count()).group_by(*by))
    kinds = {Kind(version, source, method or "", used): count for version, source, method, used, count in rows}
    types = session.execute(select(CaseErrorRow.error_type, func.count()).group_by(CaseErrorRow.error_type))
    return kinds, {row[0]: row[1] for row in types}


def _summed(kinds: dict[Kind, int], error_types: dict[str, int]) -> Statistics:
    total = sum(kinds.values())
    corrected = sum(count for kind, count in kinds.items() if kind.label_method)
    used = sum(count for kind, count in kinds.items() if kind.used)
    both = sum(count for kind, count in kinds.items() if kind.used and kind.label_method)
    return Statistics(
        total=total,
        corrected=corrected,
        uncorrected=total - corrected,
        correction_rate=corrected / total if total else 0.0,
        used=used,
        unused=total - used,
        unused_corrected=corrected - both,
        by_method=_by((kind.label_method, count) for kind, count in kinds.items() if kind.label_method),
        by_model_version=_by((kind.model_version, count) for kind, count in kinds.items()),
        by_source=_by((kind.source, count) for kind, count in kinds.items()),
        error_types=_by(error_types.items()),
    )


def _by(counts: Iterable[tuple[str, int]]) -> dict[str, int]:
    """Summed by name, the most frequent first."""
    total: Counter[str] = Counter()
    for name, count in counts:
        total[name] += count
    return dict(sorted(total.items(), key=lambda item: (-item[1], item[0])))
