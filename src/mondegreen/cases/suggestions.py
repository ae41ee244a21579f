"""Suggestions of language models for stored cases: kept with the guards' decision, shown to the people who review."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from pydantic import BaseModel, ConfigDict
from sqlalchemy import Engine, func, insert, select

from mondegreen.cases.database import plain, reading, transaction
from mondegreen.cases.records import NewCorrection, Text
from mondegreen.cases.storing import store_corrections
from mondegreen.cases.tables_labels import SuggestionRow

_BATCH = 500  # rows of one statement


class NewSuggestion(BaseModel):
    """What a language model wrote for a case, and the guards' decision."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    case_id: str  # whole
    text: Text
    model: Text  # as the server names it
    digest: str  # of its weights
    prompt_version: str
    accepted: bool
    guard: str  # the one that decided
    reason: Text


class CaseSuggestion(NewSuggestion):
    """A stored suggestion. A larger id is newer, whatever the clock said."""

    id: int
    at: datetime


def store_suggestions(
    engine: Engine, suggestions: Iterable[NewSuggestion], corrections: Iterable[NewCorrection] = ()
) -> None:
    """Appends suggestions, and the corrections that accepted ones became, in one transaction: all or none.

    Raises:
        CaseError: there is no such case, or the database refuses.
    """
    now, rows = datetime.now(UTC), [item.model_dump() for item in suggestions]
    with transaction(engine) as session:
        store_corrections(session, list(corrections), now)
        if rows:
            session.execute(insert(plain(SuggestionRow)), [row | {"at": now} for row in rows])


def newest_suggestion(engine: Engine, case_id: str) -> CaseSuggestion | None:
    """The newest suggestion for a case (by its whole id), None when there is none."""
    return newest_suggestions(engine, [case_id]).get(case_id)


def newest_suggestions(engine: Engine, case_ids: Sequence[str]) -> dict[str, CaseSuggestion]:
    """The newest suggestion of each case that has one."""
    found: dict[str, CaseSuggestion] = {}
    with reading(engine) as session:
        for start in range(0, len(case_ids), _BATCH):
            batch = case_ids[start : start + _BATCH]
            last = select(func.max(SuggestionRow.id)).where(SuggestionRow.case_id.in_(batch))
            rows = session.scalars(
                select(SuggestionRow).where(SuggestionRow.id.in_(last.group_by(SuggestionRow.case_id)))
            )
            found.update({row.case_id: _suggestion(row) for row in rows})
    return found


def _suggestion(row: SuggestionRow) -> CaseSuggestion:
    return CaseSuggestion(
        id=row.id,
        case_id=row.case_id,
        at=row.at,
        text=row.text,
        model=row.model,
        digest=row.digest,
        prompt_version=row.prompt_version,
        accepted=row.accepted,
        guard=row.guard,
        reason=row.reason,
    )
