"""What came of the guide's six steps: where a workflow stopped, and why."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from mondegreen.loop.jobs import Job
from mondegreen.loop.trigger import Decision
from mondegreen.records import RegisteredVersion

Status = Literal["not_triggered", "pending_approval", "in_progress", "failed", "gate_closed", "registered", "deployed"]
StepState = Literal["done", "stopped", "not_reached"]
STEPS = ("check trigger", "prepare data", "fine-tune", "validate", "regression test", "deploy")
# The step that a failed stage belongs to.
_STEP_OF = {"regress": 5, "register": 6, "evaluate": 4, "validate": 4}


class _Result(BaseModel):
    model_config = ConfigDict(frozen=True)


class WorkflowStep(_Result):
    """One of the guide's steps."""

    number: int
    name: str
    state: StepState


class WorkflowResult(_Result):
    """Where a workflow stopped, and why."""

    status: Status
    reason: str
    steps: tuple[WorkflowStep, ...]
    job: Job | None = None
    version: RegisteredVersion | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return self.model_dump(mode="json")


def not_triggered(decision: Decision) -> WorkflowResult:
    """The rule said no."""
    return WorkflowResult(status="not_triggered", reason=" ".join(decision.reasons), steps=_steps(1))


def waiting(job: Job) -> WorkflowResult:
    """Somebody must approve the job first."""
    reason = f"Job {job.id} waits for approval: `mondegreen approve {job.id}`, then run the workflow again."
    return WorkflowResult(status="pending_approval", reason=reason, steps=_steps(1), job=job)


def in_progress(job: Job, worker: str) -> WorkflowResult:
    """Somebody else runs the round."""
    reached = {"approved": 1, "preparing": 2, "training": 3, "evaluating": 4}[job.state]
    return WorkflowResult(
        status="in_progress",
        reason=f"Job {job.id} is {job.state}: {worker} works on it.",
        steps=_steps(reached),
        job=job,
    )


def ended(job: Job) -> WorkflowResult:
    """The round ran to its end."""
    reason = job.events[-1].reason
    if job.state == "failed":
        stopped = _STEP_OF.get(job.details.get("stage", ""), 0)
        return WorkflowResult(status="failed", reason=reason, steps=_steps(stopped or _step_left(job)), job=job)
    version = RegisteredVersion(**job.details["version"])
    if not job.passed:
        stopped = 4 if job.outcome != "pass" else 5
        return WorkflowResult(status="gate_closed", reason=reason, steps=_steps(stopped), job=job, version=version)
    if version.alias == "champion":
        return deployed(job, version)
    return WorkflowResult(status="registered", reason=reason, steps=_steps(6), job=job, version=version)


def deployed(job: Job, version: RegisteredVersion) -> WorkflowResult:
    """The candidate is the champion now."""
    reason = f"{version.name} version {version.version} is {version.stage}/@{version.alias}."
    return WorkflowResult(status="deployed", reason=reason, steps=_steps(7), job=job, version=version)


def _step_left(job: Job) -> int:
    """The step of the state that a failed job was in."""
    before = job.events[-1].before
    return {"preparing": 2, "training": 3}.get(before or "", 4)


def _steps(stopped: int) -> tuple[WorkflowStep, ...]:
    """All steps; those before the one that it stopped at are done."""
    found = []
    for number, name in enumerate(STEPS, 1):
        state: StepState = "done" if number < stopped else "stopped" if number == stopped else "not_reached"
        found.append(WorkflowStep(number=number, name=name, state=state))
    return tuple(found)
