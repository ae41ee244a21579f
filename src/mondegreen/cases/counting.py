"""Which correction of a case counts: a person's newest, else a machine's, unless a reviewer said otherwise."""

from collections.abc import Collection, Iterable, Sequence
from itertools import groupby

from sqlalchemy import ColumnElement, select
from sqlalchemy.orm import Session

from mondegreen.cases.records import PEOPLE
from mondegreen.cases.tables import CorrectionRow
from mondegreen.cases.tables_review import ReviewDecisionRow, ReviewHoldRow


def stands() -> ColumnElement[bool]:
    """Of a correction: that nobody took it back."""
    undone = select(ReviewDecisionRow.correction_id).where(
        ReviewDecisionRow.action == "undo", ReviewDecisionRow.correction_id.is_not(None)
    )
    return CorrectionRow.id.not_in(undone)


def standing_corrections(session: Session, case_ids: Collection[str]) -> dict[str, list[CorrectionRow]]:
    """What was written for each case and not taken back, oldest first; cases without any are absent."""
    rows = session.scalars(
        select(CorrectionRow)
        .where(CorrectionRow.case_id.in_(case_ids), stands())
        .order_by(CorrectionRow.case_id, CorrectionRow.id)
    )
    return {key: list(found) for key, found in groupby(rows, lambda row: row.case_id)}


def holds(session: Session, case_ids: Iterable[str]) -> dict[str, ReviewHoldRow]:
    """The cases among these of which a reviewer's decision keeps something from counting."""
    rows = session.scalars(select(ReviewHoldRow).where(ReviewHoldRow.case_id.in_(list(case_ids))))
    return {row.case_id: row for row in rows}


def counting(history: Sequence[CorrectionRow], hold: ReviewHoldRow | None = None) -> CorrectionRow | None:
    """The one that counts.

    Args:
        history: what stands, oldest first.
        hold: of the case; what a person wrote after it counts all the same.
    """
    after = hold.after if hold else 0
    people = (row for row in reversed(history) if row.method in PEOPLE and row.id > after)
    machine = None if hold or not history else history[-1]
    return next(people, machine)
