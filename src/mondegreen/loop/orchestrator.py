"""FinetuningOrchestrator: checks the rule, asks for rounds, has them approved and runs them; `watch` does so again and
again."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from pydantic import BaseModel, ConfigDict
from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError
from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_attempt, stop_never, wait_exponential

from mondegreen.config import params_of
from mondegreen.errors import CaseError, JobError, RegistryError
from mondegreen.git import login
from mondegreen.loop.jobs import WORKING, Job, Jobs
from mondegreen.loop.pipeline import PIPELINE
from mondegreen.loop.trigger import (
    FinetuningConfig,
    Rest,
    ThresholdStep,
    TriggerDecision,
    adapt,
    apply_rule,
    count,
    needed_cases,
    rest,
)

if TYPE_CHECKING:
    from mondegreen.loop.rounds import OnStageProgress, Round, TakeSnapshot

TurnAction = Literal["nothing", "resting", "waiting", "working", "ran"]
_ATTEMPTS = 5  # of a single turn while the database is away; a watch that goes on has no end of them
_AWAY = (CaseError, DBAPIError)


class CaseStore(Protocol):
    """What the loop needs of a DataManager."""

    @property
    def engine(self) -> Engine: ...

    @property
    def folder(self) -> Path: ...


class FinetuningOrchestrator:
    """The loop from failed cases to a judged candidate.

    Args:
        data_manager: where the cases are; its database also holds the jobs.
        config: the trigger's knobs; those of params.yaml when not given, and the defaults without one.
        project: the folder with dvc.yaml, where rounds run.
        snapshot: freezes the corrected cases into data/failed_cases and returns the version that its card names;
            `take_snapshot` when not given.
        pipeline: the command that runs the stages; `dvc repro` when not given.
        clock: the time, aware.
    """

    def __init__(
        self,
        data_manager: CaseStore,
        config: FinetuningConfig | None = None,
        *,
        project: Path | str = ".",
        snapshot: "TakeSnapshot | None" = None,
        pipeline: Sequence[str] | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.data_manager = data_manager
        self.project = Path(project)
        self.config = config or FinetuningConfig.from_params(params_of(self.project))
        self.jobs = Jobs(data_manager.engine, clock)
        self.pipeline = tuple(pipeline or PIPELINE)
        self._snapshot = snapshot or self._freeze
        self._clock = clock

    def check_trigger_conditions(self) -> dict[str, Any]:
        """Whether a round should start, and why or why not.

        Returns:
            should_trigger; reasons, a sentence each; metrics: total_error_cases, new_error_cases, error_rate, …;
            conditions with value, threshold and met; adaptive, the threshold's history; rest, why `watch` waits.
        """
        decision, steps = self.decision(), self.adaptive_history()
        waiting = self.rest(decision)
        return {
            "should_trigger": decision.should_trigger,
            "reasons": decision.reasons,
            "metrics": decision.metrics,
            "conditions": [condition.model_dump() for condition in decision.conditions],
            "adaptive": [step.model_dump() for step in steps],
            "rest": waiting.model_dump(mode="json") if waiting else None,
        }

    def decision(self) -> TriggerDecision:
        """The rule's decision on the counts of this moment."""
        counts = count(self.jobs.engine, self.config.window_hours, self._clock())
        return apply_rule(counts, self.config, needed_cases(self.config, self.adaptive_history()))

    def adaptive_history(self) -> list[ThresholdStep]:
        """What the completed rounds did to the number of cases that the next one needs."""
        return adapt(self.config, self.jobs.gains())

    def rest(self, decision: TriggerDecision) -> Rest | None:
        """Why `watch` should not ask for a round now although the rule says so."""
        return rest(decision, self.jobs.last_ended(), self.config, self._clock())

    def trigger_finetuning(self, force: bool = False, approve: bool | None = None) -> Job:
        """Asks for a round.

        Args:
            force: also when the conditions are not met.
            approve: approve it at once; `auto_approve_finetuning` decides when not given.

        Returns:
            The new job; or the one that is open already, whose `note` says so.

        Raises:
            JobError: the conditions are not met.
        """
        job = self.jobs.open_job()
        created = False
        if job is None:
            decision = self.decision()
            if not (decision.should_trigger or force):
                raise JobError(
                    "No round should start: " + " ".join(decision.reasons),
                    "Wait for more cases, or start one all the same with force (`mondegreen trigger --force`).",
                )
            forced = [] if decision.should_trigger else ["Forced."]
            job, created = self.jobs.request([*forced, *decision.reasons], _compared(decision, self.config))
        if job.state == "pending_approval" and (self.config.auto_approve_finetuning if approve is None else approve):
            person = f"{_user()}, who forced it" if force else _user()
            job = self.approve_job(job.id, by=person if approve else "auto_approve_finetuning")
        if created:
            return job
        note = f"Job {job.id} is open already ({job.state}, since {job.requested_at:%Y-%m-%d %H:%M} UTC): no new one."
        return job.model_copy(update={"note": note})

    def approve_job(self, job_id: int, by: str | None = None) -> Job:
        """Lets a round that waits for approval run; raises JobError when it does not wait."""
        return self.jobs.move(job_id, "pending_approval", "approved", f"approved by {by or _user()}")

    def reject_job(self, job_id: int, reason: str, by: str | None = None) -> Job:
        """Ends a round that nobody works on: one that waits, or one whose runner died; leaves its branch.

        Raises:
            JobError: it has ended, or somebody works on it.
        """
        job = self.jobs.get(job_id)
        why = f"rejected by {by or _user()}: {reason}"
        was_begun = job.state in WORKING or (job.open and "branch" in job.details)
        if not was_begun:
            return self.jobs.move(job_id, job.state, "rejected", why)
        from mondegreen.loop.rounds import leave

        work = self._round()
        with work.hold():  # nobody may start on it meanwhile
            leave(work, job, f"Round {job_id} rejected while {job.state}")
            return self.jobs.move(job_id, job.state, "rejected", why)

    def get_job(self, job_id: int) -> Job:
        """A job with its history; raises UsageError when there is none."""
        return self.jobs.get(job_id)

    def list_jobs(self, limit: int | None = None) -> list[Job]:
        """The jobs, newest first."""
        return self.jobs.newest(limit)

    def open_job(self) -> Job | None:
        """The job that has not ended."""
        return self.jobs.open_job()

    def worker(self) -> str | None:
        """Who works on a round now, None when nobody does."""
        return self._round().worker()

    def run_job(self, job_id: int | None = None, on_progress: "OnStageProgress | None" = None) -> Job:
        """Runs the round that is approved, or goes on with one whose runner died or was stopped.

        Args:
            job_id: the open job when not given.
            on_progress: told of every line of the pipeline's output.

        Returns:
            The job, completed or failed; `passed` says whether the gate opened.

        Raises:
            JobError: there is no such round, it waits for approval, has ended, or somebody works on it.
        """
        from mondegreen.loop.rounds import run_round

        job = self.jobs.get(job_id) if job_id is not None else self.jobs.open_job()
        if job is None:
            raise JobError("There is no round to run.", "`mondegreen trigger` asks for one.")
        if job.state == "pending_approval":
            raise JobError(f"Job {job.id} waits for approval.", f"`mondegreen approve {job.id}`, then run it.")
        return run_round(self._round(), job.id, on_progress)

    def _freeze(self) -> int:
        """The dataset version that holds every corrected case."""
        from mondegreen.cases.snapshots import take_snapshot
        from mondegreen.cases.store import DataManager
        from mondegreen.registry.resolving import find_model

        store = self.data_manager
        manager = store if isinstance(store, DataManager) else DataManager(store.folder)
        return take_snapshot(manager, params_of(self.project), self.project, find_model=find_model).number

    def _round(self) -> "Round":
        from mondegreen.loop.rounds import Round

        return Round(
            jobs=self.jobs,
            project=self.project,
            snapshot=self._snapshot,
            pipeline=self.pipeline,
            branch=self.config.branch,
        )


class WatchTurn(BaseModel):
    """What one turn of the watch found and did."""

    model_config = ConfigDict(frozen=True)

    at: datetime
    action: TurnAction
    text: str  # one line
    job: Job | None = None

    @property
    def ok(self) -> bool:
        """Whether no round failed or found the gate closed."""
        return self.action != "ran" or (self.job is not None and self.job.passed)


def take_turn(orchestrator: FinetuningOrchestrator, on_progress: "OnStageProgress | None" = None) -> WatchTurn:
    """One turn: looks whether a round is due, asks for it, and runs the one that may run."""
    job = orchestrator.open_job()
    if job is None:
        decision = orchestrator.decision()
        if not decision.should_trigger:
            return _turn("nothing", f"no round: {' '.join(decision.reasons)}")
        if waiting := orchestrator.rest(decision):
            return _turn("resting", waiting.text)
        job = orchestrator.trigger_finetuning()
    elif job.state == "pending_approval" and orchestrator.config.auto_approve_finetuning:
        job = orchestrator.trigger_finetuning()  # the open one, approved
    if job.state == "pending_approval":
        why = " ".join(job.reasons)
        return _turn("waiting", f"job {job.id} waits for approval (`mondegreen approve {job.id}`): {why}", job)
    if job.state in WORKING and (worker := orchestrator.worker()):
        return _turn("working", f"job {job.id} is {job.state}: {worker} works on it", job)
    try:
        job = orchestrator.run_job(job.id, on_progress)
    except JobError as error:  # another watch was faster, or the pipeline was stopped: the next turn goes on
        return _turn("working", f"job {job.id}: {error.problem}", orchestrator.get_job(job.id))
    return _turn("ran", f"job {job.id} {job.state}: {job.events[-1].reason}", job)


def watch(
    open_orchestrator: Callable[[], AbstractContextManager[FinetuningOrchestrator]],
    interval: float | None,
    warn: Callable[[str], None],
    progress: "Callable[[], AbstractContextManager[OnStageProgress | None]]" = nullcontext,
    wait: Callable[[float], None] = time.sleep,
) -> Iterator[WatchTurn]:
    """Takes one turn, or one every `interval` seconds until the caller stops; a database that is away is waited for.

    Args:
        open_orchestrator: opens it anew for each turn, so that new parameters count and connections are fresh.
        interval: None for one turn.
        warn: told of each attempt that failed.
        progress: shows how a round goes on.

    Yields:
        Every turn.

    Raises:
        CaseError, DBAPIError: the database stayed away from a single turn.
    """

    def failed(state: RetryCallState) -> None:
        problem = str(state.outcome.exception() if state.outcome else "").splitlines()[0]
        pause = state.next_action.sleep if state.next_action else 0
        warn(f"attempt {state.attempt_number}: {problem} Again in {pause:.0f} s.")

    patient = Retrying(
        retry=retry_if_exception_type(_AWAY),
        wait=wait_exponential(max=60),
        stop=stop_never if interval else stop_after_attempt(_ATTEMPTS),
        before_sleep=failed,
        sleep=wait,
        reraise=True,
    )

    def once() -> WatchTurn:
        with open_orchestrator() as orchestrator, progress() as on_progress:
            for sentence in _guarded(orchestrator):
                warn(sentence)
            return take_turn(orchestrator, on_progress)

    while True:
        yield patient(once)
        if interval is None:
            return
        wait(interval)


def _guarded(orchestrator: FinetuningOrchestrator) -> Iterator[str]:
    """Settles what was promoted by hand and lets the guard look; a sentence on whatever it did."""
    from mondegreen.monitoring.guard import settle, watch_guard

    params, folder = params_of(orchestrator.project), orchestrator.data_manager.folder
    try:
        yield from settle(orchestrator.jobs.engine, params, folder)
    except RegistryError as error:
        yield f"promotions by hand: {error.problem}"
    if said := watch_guard(orchestrator.jobs.engine, params, folder):
        yield said


def _turn(action: TurnAction, text: str, job: Job | None = None) -> WatchTurn:
    return WatchTurn(at=datetime.now(UTC), action=action, text=" ".join(text.split()), job=job)


def _compared(decision: TriggerDecision, config: FinetuningConfig) -> dict[str, Any]:
    """What a job keeps of the moment it was asked for."""
    conditions = [condition.model_dump() for condition in decision.conditions]
    return {"conditions": conditions, "metrics": decision.metrics, "config": config.to_dict()}


def _user() -> str:
    return login() or "somebody"
