"""FinetuningCoordinator: the fine-tuning guide's six steps as one call, and where a workflow stopped, and why."""

import logging
import os
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict
from rich.console import Console

from mondegreen.config import params_of
from mondegreen.errors import UsageError
from mondegreen.loop.jobs import WORKING, Job
from mondegreen.loop.orchestrator import CaseStore, FinetuningOrchestrator
from mondegreen.loop.rounds import OnProgress
from mondegreen.loop.status import render_status, system_status
from mondegreen.loop.trigger import Decision, FinetuningConfig
from mondegreen.records import RegisteredVersion
from mondegreen.registry.mlflow_store import tracking_root

if TYPE_CHECKING:
    from mondegreen.loop.validator import ModelValidator
    from mondegreen.registry.deployer import ModelDeployer
    from mondegreen.regression.tester import RegressionTester

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


_log = logging.getLogger(__name__)


class FinetuningCoordinator:
    """Check trigger, prepare data, fine-tune, validate, regression test, deploy.

    Args:
        data_manager: where the cases are.
        finetuning_config: the trigger's knobs; those of params.yaml when not given.
        use_gcs: backups of deployed models go to the bucket of `gcp` in params.yaml too.
        project_id: the cloud project, when params.yaml names none.
        orchestrator: one of your own, for another project folder or pipeline.
    """

    def __init__(
        self,
        data_manager: CaseStore,
        finetuning_config: FinetuningConfig | None = None,
        use_gcs: bool = False,
        project_id: str | None = None,
        *,
        orchestrator: FinetuningOrchestrator | None = None,
    ) -> None:
        self.data_manager = data_manager
        self.use_gcs = use_gcs
        if project_id:
            os.environ.setdefault("GOOGLE_CLOUD_PROJECT", project_id)  # where Google's clients look
        self.orchestrator = orchestrator or FinetuningOrchestrator(data_manager, finetuning_config)

    @cached_property
    def validator(self) -> "ModelValidator":
        """Judges any two models by the rules of the project's params.yaml, with the project's ledger of looks."""
        from mondegreen.loop.validator import ModelValidator

        project = self.orchestrator.project
        return ModelValidator(params=params_of(project), ledger_folder=project / "var")

    @cached_property
    def regression_tester(self) -> "RegressionTester":
        """Runs the suites that the project's params.yaml names."""
        from mondegreen.regression.tester import RegressionTester

        project = self.orchestrator.project
        return RegressionTester(params=params_of(project), store=project / "var")

    @cached_property
    def deployer(self) -> "ModelDeployer":
        """Moves versions of the project's registered model.

        Raises:
            UsageError: the registry that is found from here is another project's.
        """
        from mondegreen.registry.deployer import DeploymentConfig, ModelDeployer

        project = self.orchestrator.project
        _check_root(project)
        params = params_of(project)
        config = DeploymentConfig.from_params(params)
        return ModelDeployer(
            config,
            model_name=params.register_.model_name,
            local_storage_dir=project / "var",
            use_gcs=self.use_gcs,
        )

    def run_complete_workflow(
        self, force_trigger: bool = False, auto_deploy: bool = False, on_progress: OnProgress | None = None
    ) -> WorkflowResult:
        """Goes through the steps as far as they lead; called again, goes on where it stopped.

        Args:
            force_trigger: ask for a round also when the conditions are not met. Approval is needed all the same.
            auto_deploy: make a candidate that passed everything the champion.

        Returns:
            status says where it stopped and reason why.
        """
        job = self.orchestrator.open_job()
        if job is None:
            decision = self.orchestrator.decision()
            if not (decision.should_trigger or force_trigger):
                return not_triggered(decision)
        job = self.orchestrator.trigger_finetuning(force=force_trigger)
        if job.state == "pending_approval":
            return waiting(job)
        if job.state in WORKING and (worker := self.orchestrator.worker()):
            return in_progress(job, worker)
        result = ended(self.orchestrator.run_job(job.id, on_progress))
        if result.status == "registered" and auto_deploy and result.job:
            return self._deploy(result.job)
        return result

    def get_system_status(self) -> dict[str, Any]:
        """Cases, trigger, rounds, registry, errors of the last day and the next thing to do, as plain data."""
        return system_status(self.orchestrator)

    def print_status(self) -> None:
        """The same as one screen, on stdout."""
        Console().print(render_status(self.get_system_status()))

    def _deploy(self, job: Job) -> WorkflowResult:
        """Promotes the candidate whose outputs are in build/."""
        from mondegreen.loop.candidate import register_candidate

        project = self.orchestrator.project
        _check_root(project)
        version = register_candidate(project / "build", params_of(project).register_, promote=True)
        _log.info("%s version %s is %s", version.name, version.version, version.stage)
        return deployed(job, version)


def _check_root(project: Path) -> None:
    """The registry is found from where we are: it must be this project's."""
    if tracking_root() != project.resolve():
        raise UsageError(
            f"The registry would be the one of {tracking_root()}, the round ran in {project.resolve()}.",
            "Run from the project root.",
        )
