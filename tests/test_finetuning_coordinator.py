"""The fine-tuning guide's coordinator, typed as a user would."""

from pathlib import Path

import pytest

from mondegreen import DataManager, FinetuningConfig, FinetuningCoordinator
from mondegreen.errors import UsageError


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that the user stands in."""
    for name in ("MONDEGREEN_DATABASE_URL", "MLFLOW_TRACKING_URI", "DVC_ROOT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_status_and_workflow(capsys: pytest.CaptureFixture[str]) -> None:
    data_manager = DataManager(local_storage_dir="var", use_gcs=False)
    coordinator = FinetuningCoordinator(
        data_manager=data_manager,
        finetuning_config=FinetuningConfig(min_error_cases=100, min_corrected_cases=50),
        use_gcs=False,
        project_id=None,
    )
    coordinator.print_status()
    assert "0 failed cases" in capsys.readouterr().out

    status = coordinator.get_system_status()
    assert status["orchestrator"]["trigger_conditions"]["metrics"]["total_error_cases"] == 0
    assert status["deployer"]["active_version"] is None

    assert coordinator.orchestrator.check_trigger_conditions()["should_trigger"] is False
    result = coordinator.run_complete_workflow(force_trigger=False, auto_deploy=False)
    assert result.status == "not_triggered" and "at least 100 are needed" in result.reason
    with pytest.raises(UsageError, match=r"has no dvc\.yaml"):  # forced is approved, and here is nothing to run
        coordinator.run_complete_workflow(force_trigger=True, auto_deploy=False)
    (job,) = coordinator.orchestrator.list_jobs()
    assert job.state == "approved"


def test_its_parts() -> None:
    coordinator = FinetuningCoordinator(data_manager=DataManager(local_storage_dir="var", use_gcs=False))
    assert coordinator.deployer.list_versions(limit=10) == []
    assert (
        coordinator.regression_tester.run_test_suite(model_version="v1", model_transcribe_fn=lambda path: "").passed
        is False
    )  # no suites: nothing was shown
    assert coordinator.validator.config.to_dict()["require_significance"] is True
    assert coordinator.orchestrator.open_job() is None
