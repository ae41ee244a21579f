"""What reviewers decide about a case: the rules of what follows, and writing a decision down or taking it back."""

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict
from sqlalchemy import ColumnElement, Engine, Select, delete, func, insert, select
from sqlalchemy.orm import Session

from mondegreen.cases.records import PEOPLE, NewCorrection, Text
from mondegreen.cases.writing import store_corrections, update_current_correction
from mondegreen.config import Params
from mondegreen.db import plain, transaction
from mondegreen.errors import CaseError
from mondegreen.scoring.normalizer import NormalizerName, normalize
from mondegreen.tables import CaseRow, CorrectionRow, ReviewDecisionRow, ReviewHoldRow, ReviewLeaseRow

Action = Literal["text", "bad_audio", "not_speech", "skip"]
ReviewRole = Literal["single", "first", "second", "final"]
Chosen = Literal["typed", "heard", "nbest", "llm", "reviewer", ""]  # where a text comes from
Held = Literal["bad_audio", "not_speech", "second", "disputed"]


class ReviewDecision(BaseModel):
    """A decision that counts: not skipped, not undone."""

    model_config = ConfigDict(frozen=True, from_attributes=True)

    id: int
    reviewer: str
    action: Action
    role: ReviewRole
    transcript: str | None
    after: int  # the case's newest correction then


class Adjudication(BaseModel):
    """What follows from the decisions of a case.

    `held` says why nothing that was written before counts, None when a text counts or nobody decided anything.
    """

    model_config = ConfigDict(frozen=True)

    held: Held | None = None
    by: str = ""  # who decided last
    after: int = 0
    open: bool = True  # nobody decided anything


def is_double(case_id: str, fraction: float, seed: int) -> bool:
    """Whether a case goes to two people: the same cases on every machine, and a larger fraction adds to them."""
    digest = hashlib.sha256(f"{seed}\0{case_id}".encode()).digest()
    return int.from_bytes(digest[:8]) < fraction * 2**64


def next_role(decided: Sequence[ReviewDecision], reviewer: str, *, double: bool, corrected: bool) -> ReviewRole:
    """What the next decision about a case is.

    Args:
        decided: what counts, oldest first.
        reviewer: who decides now.
        double: two people are to decide.
        corrected: a person corrected it already, here or elsewhere.
    """
    if corrected:
        return "final"
    if not decided:
        return "first" if double else "single"
    last = decided[-1]
    if last.role != "first":
        return "final"
    if last.reviewer != reviewer:
        return "second"
    return "first" if double else "single"


def adjudicate(decided: Sequence[ReviewDecision], normalizer: NormalizerName) -> Adjudication:
    """What follows for a case: the newest decision says it, a second one together with the first."""
    if not decided:
        return Adjudication()
    last = decided[-1]
    held: Held | None
    if last.role == "first":
        held = "second"
    elif last.role == "second" and not agree(decided[-2], last, normalizer):
        held = "disputed"
    else:
        held = last.action if last.action in ("bad_audio", "not_speech") else None
    return Adjudication(held=held, by=last.reviewer, after=last.after, open=False)


def agree(one: ReviewDecision, other: ReviewDecision, normalizer: NormalizerName) -> bool:
    """Whether two people say the same; bad audio and no speech both keep a case out."""
    if "text" in (one.action, other.action):
        return one.action == other.action and _words(one, normalizer) == _words(other, normalizer)
    return True


def _words(decision: ReviewDecision, normalizer: NormalizerName) -> str:
    return normalize(decision.transcript or "", normalizer)


class ReviewConflict(CaseError):
    """Somebody decided on the case meanwhile; nothing was stored."""


class NewDecision(BaseModel):
    """What a reviewer decided about a case.

    Args:
        basis: what `basis` said when the case was shown; None decides whatever happened since.
        holder: of the lease.
        chosen: where the text comes from.
        heard: the recording was played to its end before; None where nobody says.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    case_id: str
    reviewer: Text
    action: Action
    transcript: Text | None = None
    chosen: Chosen = ""
    basis: int | None = None
    holder: str = ""
    heard: bool | None = None


class Undone(BaseModel):
    """What was taken back."""

    model_config = ConfigDict(frozen=True)

    case_id: str
    decision: int
    action: Action
    transcript: str | None


def record_decision(engine: Engine, params: Params, new: NewDecision) -> Adjudication:
    """Appends a decision and lets it count as far as it does.

    The text of a single or final decision becomes a correction. Of a case that goes to two people it is held until the
    second agrees, and when they disagree until somebody decides. Bad audio and no speech keep a case from counting.

    Returns:
        What follows for the case.

    Raises:
        ReviewConflict: somebody decided since the case was shown.
        CaseError: there is no such case, or the database refuses.
    """
    now = datetime.now(UTC)
    with transaction(engine) as session:
        row = _locked(session, new.case_id)
        if new.basis is not None and new.action != "skip" and basis(session, row.id) != new.basis:
            raise ReviewConflict("Somebody has decided on this case since it was shown to you.", "Look at it again.")
        decided = decisions_of(session, row.id)
        seconds = _end_lease(session, new, now)
        double = is_double(row.id, params.review.double_fraction, params.seed)
        role = next_role(decided, new.reviewer, double=double, corrected=row.label_method in PEOPLE)
        if new.action == "skip":
            _insert(session, new, "", now, seconds)
            return adjudicate(decided, params.score.normalizer)
        return _let_count(session, params, decided, new, role, now, seconds)


def undo(engine: Engine, params: Params, reviewer: str) -> Undone:
    """Takes a reviewer's newest decision back; the one before it counts again.

    Raises:
        ReviewConflict: there is none, or somebody has decided on that case since.
    """
    with transaction(engine) as session:
        last = session.scalars(
            select(ReviewDecisionRow).where(*_mine(reviewer)).order_by(ReviewDecisionRow.id.desc()).limit(1)
        ).first()
        if last is None:
            raise ReviewConflict(f"{reviewer} has decided nothing that could be taken back.", "Correct a case first.")
        _locked(session, last.case_id)
        decided = decisions_of(session, last.case_id)
        if last.action != "skip" and (not decided or decided[-1].id != last.id):
            raise ReviewConflict(
                f"Somebody has decided on case {last.case_id} since.", "Open it from the history and correct it anew."
            )
        session.add(
            ReviewDecisionRow(
                case_id=last.case_id, reviewer=last.reviewer, at=datetime.now(UTC), action="undo", role="", chosen="",
                after=0, correction_id=last.correction_id, undoes=last.id,
            )
        )  # fmt: skip
        if last.action != "skip":
            _hold(session, last.case_id, adjudicate(decided[:-1], params.score.normalizer))
        return Undone.model_validate({**vars(last), "decision": last.id})


def release(engine: Engine, params: Params) -> int:
    """Lets first decisions count whose case no longer goes to two people, as the fraction was lowered; how many."""
    with transaction(engine) as session:
        waiting = session.scalars(select(ReviewHoldRow.case_id).where(ReviewHoldRow.reason == "second")).all()
    single = [key for key in sorted(waiting) if not is_double(key, params.review.double_fraction, params.seed)]
    released = 0
    for key in single:
        with transaction(engine) as session:
            row = _locked(session, key)
            decided = decisions_of(session, key)
            if decided and decided[-1].role == "first" and row.label_method not in PEOPLE:
                _release(session, params, decided)
                released += 1
    return released


def _release(session: Session, params: Params, decided: Sequence[ReviewDecision]) -> None:
    """Turns the first decision into a single one.

    Another one beside it would be the reviewer's newest, which undo takes back, and would be counted twice.
    """
    row = session.get_one(ReviewDecisionRow, decided[-1].id)
    new = NewDecision.model_validate(
        {name: getattr(row, name) for name in ("case_id", "reviewer", "action", "transcript", "chosen")}
    )
    result, row.after, row.correction_id = _follows(session, params, decided[:-1], new, "single", datetime.now(UTC))
    row.role = "single"
    _hold(session, new.case_id, result)


def basis(session: Session, case_id: str) -> int:
    """A number that grows with every decision and every person's correction of a case."""
    decided = select(func.count()).where(ReviewDecisionRow.case_id == case_id, ReviewDecisionRow.action != "skip")
    written = select(func.count()).where(CorrectionRow.case_id == case_id, CorrectionRow.method.in_(PEOPLE))
    return (session.scalar(decided) or 0) + (session.scalar(written) or 0)


def decisions_of(session: Session, case_id: str) -> list[ReviewDecision]:
    """The decisions about a case that count, oldest first."""
    rows = session.scalars(
        select(ReviewDecisionRow)
        .where(
            ReviewDecisionRow.case_id == case_id,
            ReviewDecisionRow.action.not_in(("skip", "undo")),
            ReviewDecisionRow.id.not_in(taken_back()),
        )
        .order_by(ReviewDecisionRow.id)
    )
    return [ReviewDecision.model_validate(row) for row in rows]


def taken_back() -> Select[int | None]:
    """The decisions that were undone."""
    return select(ReviewDecisionRow.undoes).where(ReviewDecisionRow.undoes.is_not(None))


def _let_count(
    session: Session,
    params: Params,
    decided: Sequence[ReviewDecision],
    new: NewDecision,
    role: ReviewRole,
    now: datetime,
    seconds: float | None,
) -> Adjudication:
    """Appends the decision, and the correction that it makes, if it makes one."""
    result, newest, written = _follows(session, params, decided, new, role, now)
    _insert(session, new, role, now, seconds, newest, written)
    _hold(session, new.case_id, result)
    return result


def _follows(
    session: Session,
    params: Params,
    decided: Sequence[ReviewDecision],
    new: NewDecision,
    role: ReviewRole,
    now: datetime,
) -> tuple[Adjudication, int, int | None]:
    """What follows from the decision; the case's newest correction before, and the one that it makes, if any."""
    newest = session.scalar(select(func.max(CorrectionRow.id)).where(CorrectionRow.case_id == new.case_id)) or 0
    latest = ReviewDecision.model_validate({**new.model_dump(), "id": 0, "role": role, "after": newest})
    result = adjudicate([*decided, latest], params.score.normalizer)
    if result.held is not None:
        return result, newest, None
    facts: dict[str, str | bool] = {} if new.heard is None else {"heard": new.heard}
    facts |= {"agrees_with": decided[-1].reviewer} if role == "second" else {}
    correction = NewCorrection(
        case_id=new.case_id,
        transcript=new.transcript or "",
        author=new.reviewer,
        metadata={"review": role, "chosen": new.chosen} | facts,
    )
    return result, newest, store_corrections(session, [correction], now)[0]


def _insert(
    session: Session,
    new: NewDecision,
    role: ReviewRole | Literal[""],
    now: datetime,
    seconds: float | None,
    after: int = 0,
    correction_id: int | None = None,
) -> None:
    row = new.model_dump(include={"case_id", "reviewer", "action", "transcript", "chosen"})
    row |= {"role": role, "at": now, "seconds": seconds, "after": after, "correction_id": correction_id}
    session.execute(insert(plain(ReviewDecisionRow)), [row])


def _hold(session: Session, case_id: str, result: Adjudication) -> None:
    """Keeps from counting what must not count, and counts the rest anew."""
    session.execute(delete(ReviewHoldRow).where(ReviewHoldRow.case_id == case_id))
    if result.held:
        row = {"case_id": case_id, "reason": result.held, "reviewer": result.by, "after": result.after}
        session.execute(insert(plain(ReviewHoldRow)), [row])
    update_current_correction(session, case_id)


def _end_lease(session: Session, new: NewDecision, now: datetime) -> float | None:
    """Lets the case go, a skipped one only the holder's; returns the seconds that it was shown to the holder."""
    lease, mine = ReviewLeaseRow.case_id == new.case_id, ReviewLeaseRow.holder == new.holder
    shown = session.scalar(select(ReviewLeaseRow.shown_at).where(lease, mine))
    session.execute(delete(ReviewLeaseRow).where(lease & mine if new.action == "skip" else lease))
    return max(0.0, (now - shown).total_seconds()) if shown else None


def _mine(reviewer: str) -> tuple[ColumnElement[bool], ...]:
    return (
        ReviewDecisionRow.reviewer == reviewer,
        ReviewDecisionRow.action != "undo",
        ReviewDecisionRow.id.not_in(taken_back()),
    )


def _locked(session: Session, case_id: str) -> CaseRow:
    """The case, held until the transaction ends."""
    row = session.scalars(select(CaseRow).where(CaseRow.id == case_id).with_for_update()).one_or_none()
    if row is None:
        raise CaseError(f"There is no case {case_id}.", "`mondegreen cases list` shows the ids.")
    return row
