"""FinetuningCoordinator: the fine-tuning guide's six steps as one call, and where a workflow stopped, and why."""

import logging
import os
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict

from mondegreen.config import params_of
from mondegreen.errors import UsageError
from mondegreen.gcs import Bucket, gcp_settings
from mondegreen.loop.jobs import WORKING, Job
from mondegreen.loop.orchestrator import CaseStore, FinetuningOrchestrator
from mondegreen.loop.rounds import OnStageProgress
from mondegreen.loop.trigger import FinetuningConfig
from mondegreen.records import RegisteredVersion
from mondegreen.registry.mlflow_store import tracking_root

if TYPE_CHECKING:
    from mondegreen.loop.validator import ModelValidator
    from mondegreen.registry.deployer import ModelDeployer
    from mondegreen.regression.tester import RegressionTester

WorkflowStatus = Literal[
    "not_triggered", "pending_approval", "in_progress", "failed", "gate_closed", "registered", "deployed"
]
StepState = Literal["done", "stopped", "not_reached"]
STEPS = ("check trigger", "prepare data", "fine-tune", "validate", "regression test", "deploy")
# The step that a stage, or a state of the job, belongs to.
_STEP_OF = {
    "approved": 1, "preparing": 2, "training": 3, "evaluating": 4,
    "evaluate": 4, "validate": 4, "regress": 5, "register": 6,
}  # fmt: skip
_log = logging.getLogger(__name__)


class _WorkflowRecord(BaseModel):
    model_config = ConfigDict(frozen=True)


class WorkflowStep(_WorkflowRecord):
    """One of the guide's steps."""

    number: int
    name: str
    state: StepState


class WorkflowResult(_WorkflowRecord):
    """Where a workflow stopped, and why."""

    status: WorkflowStatus
    reason: str
    steps: tuple[WorkflowStep, ...]
    job: Job | None = None
    version: RegisteredVersion | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return self.model_dump(mode="json")


class FinetuningCoordinator:
    """Check trigger, prepare data, fine-tune, validate, regression test, deploy.

    Args:
        data_manager: where the cases are.
        finetuning_config: the trigger's knobs; those of params.yaml when not given.
        use_gcs: backups of deployed models go to the bucket of `gcp` in params.yaml too.
        project_id: the cloud project, when params.yaml names none.
        orchestrator: one of your own, for another project folder or pipeline.

    Raises:
        UsageError: `use_gcs`, and no bucket is named or Google's client is not installed.
        CloudError: `use_gcs`, and there are no credentials.
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
        if use_gcs:
            Bucket(gcp_settings())  # what is missing is said now, not after a night's round
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
        return ModelDeployer(
            DeploymentConfig.from_params(params),
            model_name=params.register_.model_name,
            local_storage_dir=project / "var",
            use_gcs=self.use_gcs,
        )

    def run_complete_workflow(
        self, force_trigger: bool = False, auto_deploy: bool = False, on_progress: OnStageProgress | None = None
    ) -> WorkflowResult:
        """Goes through the steps as far as they lead; called again, goes on where it stopped.

        Args:
            force_trigger: run a round also when the conditions are not met. Whoever says so approves the job, also one
                that was waiting; its history says by whom.
            auto_deploy: make a candidate that passed everything the champion.

        Returns:
            status says where it stopped and reason why.
        """
        job = self.orchestrator.open_job()
        if job is None:
            decision = self.orchestrator.decision()
            if not (decision.should_trigger or force_trigger):
                return _result("not_triggered", " ".join(decision.reasons), 1)
        job = self.orchestrator.trigger_finetuning(force=force_trigger, approve=True if force_trigger else None)
        if job.state == "pending_approval":
            how = f"`mondegreen approve {job.id}`, then run the workflow again"
            return _result("pending_approval", f"Job {job.id} waits for approval: {how}.", 1, job)
        if job.state in WORKING and (worker := self.orchestrator.worker()):
            return _result(
                "in_progress", f"Job {job.id} is {job.state}: {worker} works on it.", _STEP_OF[job.state], job
            )
        result = _ended(self.orchestrator.run_job(job.id, on_progress))
        if result.status == "registered" and auto_deploy and result.job:
            return self._deploy(result.job)
        return result

    def get_system_status(self) -> dict[str, Any]:
        """Cases, trigger, rounds, registry, errors of the last day and the next thing to do, as plain data."""
        from mondegreen.loop.status import system_status

        return system_status(self.orchestrator)

    def print_status(self) -> None:
        """The same as one screen, on stdout."""
        from rich.console import Console

        from mondegreen.loop.status import render_status

        Console().print(render_status(self.get_system_status()))

    def _deploy(self, job: Job) -> WorkflowResult:
        """Promotes the candidate whose outputs are in build/."""
        from mondegreen.loop.candidate import register_candidate

        project = self.orchestrator.project
        _check_root(project)
        version = register_candidate(project / "build", params_of(project).register_, promote=True)
        _log.info("%s version %s is %s", version.name, version.version, version.stage)
        if version.alias != "champion":  # it says why itself
            return _result("registered", f"{version}.", 6, job, version)
        return _deployed(job, version)


def _result(
    status: WorkflowStatus, reason: str, stopped: int, job: Job | None = None, version: RegisteredVersion | None = None
) -> WorkflowResult:
    """The result with all steps; those before the one that it stopped at are done."""
    steps = []
    for number, name in enumerate(STEPS, 1):
        state: StepState = "done" if number < stopped else "stopped" if number == stopped else "not_reached"
        steps.append(WorkflowStep(number=number, name=name, state=state))
    return WorkflowResult(status=status, reason=reason, steps=tuple(steps), job=job, version=version)


def _ended(job: Job) -> WorkflowResult:
    """Of a round that ran to its end."""
    end = job.events[-1]
    if job.state == "failed":
        stopped = _STEP_OF.get(job.details.get("stage", "")) or _STEP_OF.get(end.before or "", 4)
        return _result("failed", end.reason, stopped, job)
    version = RegisteredVersion(**job.details["version"])
    if not job.passed:
        return _result("gate_closed", end.reason, 4 if job.outcome != "pass" else 5, job, version)
    if version.alias == "champion":
        return _deployed(job, version)
    return _result("registered", end.reason, 6, job, version)


def _deployed(job: Job, version: RegisteredVersion) -> WorkflowResult:
    return _result("deployed", f"{version}.", len(STEPS) + 1, job, version)


def _check_root(project: Path) -> None:
    """The registry is found from where we are: it must be this project's."""
    if tracking_root() != project.resolve():
        raise UsageError(
            f"The registry would be the one of {tracking_root()}, the round ran in {project.resolve()}.",
            "Run from the project root.",
        )
