"""FinetuningCoordinator: the fine-tuning guide's six steps as one call, and the system's status."""

import logging
import os
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from mondegreen.errors import UsageError
from mondegreen.loop import workflow
from mondegreen.loop.jobs import WORKING, Job
from mondegreen.loop.orchestrator import CaseStore, FinetuningOrchestrator, params_of
from mondegreen.loop.rounds import OnProgress
from mondegreen.loop.status import system_status
from mondegreen.loop.status_screen import render_status
from mondegreen.loop.trigger import FinetuningConfig
from mondegreen.loop.workflow import WorkflowResult
from mondegreen.registry.location import tracking_root

if TYPE_CHECKING:
    from mondegreen.loop.regression.tester import RegressionTester
    from mondegreen.loop.verdict.validator import ModelValidator
    from mondegreen.registry.model_deployer import ModelDeployer

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
        from mondegreen.loop.verdict.validator import ModelValidator

        project = self.orchestrator.project
        return ModelValidator(params=params_of(project), ledger_folder=project / "var")

    @cached_property
    def regression_tester(self) -> "RegressionTester":
        """Runs the suites that the project's params.yaml names."""
        from mondegreen.loop.regression.tester import RegressionTester

        project = self.orchestrator.project
        return RegressionTester(params=params_of(project), store=project / "var")

    @cached_property
    def deployer(self) -> "ModelDeployer":
        """Moves versions of the project's registered model.

        Raises:
            UsageError: the registry that is found from here is another project's.
        """
        from mondegreen.registry.deployment_records import DeploymentConfig
        from mondegreen.registry.model_deployer import ModelDeployer

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
                return workflow.not_triggered(decision)
        job = self.orchestrator.trigger_finetuning(force=force_trigger)
        if job.state == "pending_approval":
            return workflow.waiting(job)
        if job.state in WORKING and (worker := self.orchestrator.worker()):
            return workflow.in_progress(job, worker)
        result = workflow.ended(self.orchestrator.run_job(job.id, on_progress))
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
        return workflow.deployed(job, version)


def _check_root(project: Path) -> None:
    """The registry is found from where we are: it must be this project's."""
    if tracking_root() != project.resolve():
        raise UsageError(
            f"The registry would be the one of {tracking_root()}, the round ran in {project.resolve()}.",
            "Run from the project root.",
        )
