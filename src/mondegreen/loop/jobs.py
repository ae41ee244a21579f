"""Jobs: one fine-tuning round from the request to its end, in the database, with every transition.

A transition names the state that it expects (compare-and-swap): of two processes that want the same one, one gets it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict
from sqlalchemy import Engine, func, select, update
from sqlalchemy.orm import Session

from mondegreen.db import Advisory, open_database, reading, take_turns, transaction
from mondegreen.errors import JobError
from mondegreen.loop.trigger import EndedRound
from mondegreen.tables import JobEventRow, JobRow

RoundState = Literal[
    "pending_approval", "approved", "preparing", "training", "evaluating", "completed", "failed", "rejected"
]
STATES: tuple[RoundState, ...] = get_args(RoundState)
WORKING: tuple[RoundState, ...] = ("preparing", "training", "evaluating")
OPEN: tuple[RoundState, ...] = ("pending_approval", "approved", *WORKING)
ENDED: tuple[RoundState, ...] = ("completed", "failed", "rejected")
# A job whose runner died is prepared again; one whose runner was stopped waits for the next, approved as it was.
_AGAIN: tuple[RoundState, ...] = ("preparing", "approved")
TRANSITIONS: dict[RoundState, tuple[RoundState, ...]] = {
    "pending_approval": ("approved", "rejected"),
    "approved": ("preparing", "rejected"),
    "preparing": ("training", "failed", "rejected", *_AGAIN),
    "training": ("evaluating", "failed", "rejected", *_AGAIN),
    "evaluating": ("completed", "failed", "rejected", *_AGAIN),
    "completed": (),
    "failed": (),
    "rejected": (),
}


class _JobRecord(BaseModel):
    model_config = ConfigDict(frozen=True, from_attributes=True)


class JobEvent(_JobRecord):
    """A transition. The first has no state before it."""

    at: datetime
    before: RoundState | None
    after: RoundState
    reason: str


class Job(_JobRecord):
    """A fine-tuning round."""

    id: int
    state: RoundState
    requested_at: datetime
    reasons: tuple[str, ...]
    trigger: dict[str, Any]  # the values and thresholds that were compared
    dataset_version: int | None
    run_id: str | None  # MLflow's
    outcome: str | None  # of the verdict
    gain: float | None  # WER before minus after, absolute
    details: dict[str, Any]
    events: tuple[JobEvent, ...]  # as they were stored; the clock may have moved
    note: str = ""  # what the one who asked should know

    @property
    def job_id(self) -> int:
        """The guide's name for `id`."""
        return self.id

    @property
    def status(self) -> RoundState:
        """The guide's name for `state`."""
        return self.state

    @property
    def open(self) -> bool:
        """Whether it has not ended."""
        return self.state in OPEN

    @property
    def passed(self) -> bool:
        """Whether the gate opened: the verdict passed, and every regression suite that there is."""
        return self.state == "completed" and bool(self.details.get("passed"))

    @property
    def crashes(self) -> int:
        """How often its runner died while it worked."""
        return sum(event.before in WORKING and event.after == "preparing" for event in self.events)

    def to_dict(self) -> dict[str, Any]:
        """Plain data, with the guide's names beside ours."""
        return {"job_id": self.id, "status": self.state} | self.model_dump(mode="json")


class Jobs:
    """The jobs in a database of live state."""

    def __init__(self, engine: Engine, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self.engine = engine
        self.clock = clock

    def request(self, reasons: list[str], trigger: dict[str, Any]) -> tuple[Job, bool]:
        """Asks for a round, which then waits for approval.

        Returns:
            The job and True; or the job that is open already and False: there is one at a time.
        """
        with transaction(self.engine) as session:
            take_turns(session.connection(), Advisory.JOB_REQUEST)
            if row := _open_row(session):
                return _job(session, row), False
            now = self.clock()
            row = JobRow(state="pending_approval", requested_at=now, reasons=reasons, trigger=trigger, details={})
            session.add(row)
            session.flush()
            session.add(JobEventRow(job_id=row.id, at=now, before=None, after=row.state, reason=" ".join(reasons)))
            return _job(session, row), True

    def move(self, job_id: int, before: RoundState, after: RoundState, reason: str, **facts: Any) -> Job:
        """Moves a job on and stores the transition, both or neither.

        Args:
            before: the state that it must be in.
            facts: what became known: dataset_version, run_id, outcome, gain; `details` adds to those it has.

        Raises:
            JobError: the transition is not legal, the job is in another state by now, or there is no such job.
        """
        if after not in TRANSITIONS[before]:
            allowed = ", ".join(TRANSITIONS[before]) or "nothing: it has ended"
            raise JobError(
                f"Job {job_id} cannot go from {before} to {after}.", f"From {before} it may go to {allowed}."
            )
        with transaction(self.engine) as session:
            row = _claimed(session, job_id, before, after)
            _learn(row, facts)
            session.add(JobEventRow(job_id=job_id, at=self.clock(), before=before, after=after, reason=reason))
            return _job(session, row)

    def learn(self, job_id: int, state: RoundState, **facts: Any) -> Job:
        """Stores what became known of a job in `state`; like `move`, without a transition."""
        with transaction(self.engine) as session:
            row = _claimed(session, job_id, state, state)
            _learn(row, facts)
            return _job(session, row)

    def get(self, job_id: int) -> Job:
        """One job with its history; raises JobError when there is none."""
        with reading(self.engine) as session:
            return _job(session, _row(session, job_id))

    def newest(self, limit: int | None = None) -> list[Job]:
        """The jobs, newest first."""
        with reading(self.engine) as session:
            rows = session.scalars(select(JobRow).order_by(JobRow.id.desc()).limit(limit)).all()
            return [_job(session, row) for row in rows]

    def open_job(self) -> Job | None:
        """The job that has not ended."""
        with reading(self.engine) as session:
            row = _open_row(session)
            return _job(session, row) if row else None

    def last_ended(self) -> EndedRound | None:
        """The job that ended last."""
        query = select(JobEventRow).where(JobEventRow.after.in_(ENDED)).order_by(JobEventRow.id.desc()).limit(1)
        with reading(self.engine) as session:
            event = session.scalars(query).one_or_none()
            if event is None:
                return None
            version = _row(session, event.job_id).dataset_version or 0
            earlier = select(func.max(JobRow.dataset_version)).where(
                JobRow.state == "completed", JobRow.id < event.job_id
            )
            new_data = event.after == "completed" and version > (session.scalar(earlier) or 0)
            return EndedRound(job=event.job_id, state=event.after, at=event.at, reason=event.reason, new_data=new_data)

    def gains(self) -> list[tuple[int, float | None]]:
        """Job and gain of every completed round, oldest first."""
        query = select(JobRow.id, JobRow.gain).where(JobRow.state == "completed").order_by(JobRow.id)
        with reading(self.engine) as session:
            return [(number, gain) for number, gain in session.execute(query)]


@dataclass(frozen=True)
class LiveState:
    """As much of a DataManager as the loop needs until a round starts: commands that only look start twice as fast."""

    folder: Path

    @cached_property
    def engine(self) -> Engine:
        """The database. Raises CaseError when it cannot be opened."""
        return open_database(self.folder)

    def close(self) -> None:
        """Lets the database's connections go."""
        self.engine.dispose()


def _claimed(session: Session, job_id: int, before: RoundState, after: RoundState) -> JobRow:
    """The row, moved from `before` to `after` and locked until the transaction ends."""
    changed = session.execute(update(JobRow).where(JobRow.id == job_id, JobRow.state == before).values(state=after))
    row = _row(session, job_id)
    if not changed.rowcount:  # type: ignore[attr-defined]  # the result of an UPDATE has it
        raise JobError(
            f"Job {job_id} is {row.state} by now, not {before}.",
            f"`mondegreen jobs {job_id}` shows who moved it, and why.",
        )
    return row


def _learn(row: JobRow, facts: dict[str, Any]) -> None:
    for name, value in facts.items():
        setattr(row, name, {**row.details, **value} if name == "details" else value)


def _open_row(session: Session) -> JobRow | None:
    return session.scalars(select(JobRow).where(JobRow.state.in_(OPEN)).order_by(JobRow.id)).first()


def _row(session: Session, job_id: int) -> JobRow:
    row = session.get(JobRow, job_id)
    if row is None:
        raise JobError(f"There is no job {job_id}.", "`mondegreen jobs` lists them.")
    return row


def _job(session: Session, row: JobRow) -> Job:
    session.flush()
    events = session.scalars(select(JobEventRow).where(JobEventRow.job_id == row.id).order_by(JobEventRow.id))
    facts = {name: getattr(row, name) for name in Job.model_fields if name not in ("events", "note")}
    return Job(**facts, events=tuple(map(JobEvent.model_validate, events)))
