"""Looking after the loop: check the rule, ask for a round, run what is approved or was interrupted; again and again."""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict
from sqlalchemy.exc import DBAPIError
from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_attempt, stop_never, wait_exponential

from mondegreen.errors import CaseError, JobError
from mondegreen.loop.auto_rollback import watch_champion
from mondegreen.loop.jobs import WORKING, Job
from mondegreen.loop.orchestrator import FinetuningOrchestrator, params_of
from mondegreen.loop.rounds import OnProgress

Action = Literal["nothing", "resting", "waiting", "working", "ran"]
Open = Callable[[], AbstractContextManager[FinetuningOrchestrator]]
_ATTEMPTS = 5  # of a single look while the database is away; a watch that goes on has no end of them
_AWAY = (CaseError, DBAPIError)


class Look(BaseModel):
    """What one look found and did."""

    model_config = ConfigDict(frozen=True)

    at: datetime
    action: Action
    text: str  # one line
    job: Job | None = None

    @property
    def ok(self) -> bool:
        """Whether no round failed or found the gate closed."""
        return self.action != "ran" or (self.job is not None and self.job.passed)


def look(orchestrator: FinetuningOrchestrator, on_progress: OnProgress | None = None) -> Look:
    """One look, and the round if there is one to run."""
    job = orchestrator.open_job()
    if job is None:
        decision = orchestrator.decision()
        if not decision.should_trigger:
            return _look("nothing", f"no round: {' '.join(decision.reasons)}")
        if waiting := orchestrator.rest(decision):
            return _look("resting", waiting.text)
        job = orchestrator.trigger_finetuning()
    elif job.state == "pending_approval" and orchestrator.config.auto_approve_finetuning:
        job = orchestrator.trigger_finetuning()  # the open one, approved
    if job.state == "pending_approval":
        why = " ".join(job.reasons)
        return _look("waiting", f"job {job.id} waits for approval (`mondegreen approve {job.id}`): {why}", job)
    if job.state in WORKING and (worker := orchestrator.worker()):
        return _look("working", f"job {job.id} is {job.state}: {worker} works on it", job)
    try:
        job = orchestrator.run_job(job.id, on_progress)
    except JobError as error:  # another watch was faster, or the pipeline was stopped: the next look goes on
        return _look("working", f"job {job.id}: {error.problem}", orchestrator.get_job(job.id))
    return _look("ran", f"job {job.id} {job.state}: {job.events[-1].reason}", job)


def watch(
    open_orchestrator: Open,
    interval: float | None,
    warn: Callable[[str], None],
    progress: Callable[[], AbstractContextManager[OnProgress | None]] = nullcontext,
    wait: Callable[[float], None] = time.sleep,
) -> Iterator[Look]:
    """Looks once, or every `interval` seconds until the caller stops; a database that is away is waited for.

    Args:
        open_orchestrator: opens it anew for each look, so that new parameters count and connections are fresh.
        interval: None to look once.
        warn: told of each attempt that failed.
        progress: shows how a round goes on.

    Yields:
        Every look.

    Raises:
        CaseError, DBAPIError: the database stayed away from a single look.
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

    def once() -> Look:
        with open_orchestrator() as orchestrator, progress() as on_progress:
            params, folder = params_of(orchestrator.project), orchestrator.data_manager.folder
            if said := watch_champion(orchestrator.jobs.engine, params, folder):
                warn(said)
            return look(orchestrator, on_progress)

    while True:
        found = patient(once)
        yield found
        if interval is None:
            return
        wait(interval)


def _look(action: Action, text: str, job: Job | None = None) -> Look:
    return Look(at=datetime.now(UTC), action=action, text=" ".join(text.split()), job=job)
