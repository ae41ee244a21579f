"""The fine-tuning guide's orchestrator, typed as a user would."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from mondegreen import DataManager, FinetuningConfig, FinetuningOrchestrator


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that the user stands in."""
    monkeypatch.delenv("MONDEGREEN_DATABASE_URL", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def record(tmp_path: Path) -> Callable[[int], str]:
    """Makes a recording, each another one."""

    def make(number: int) -> str:
        path = tmp_path / f"{number}.wav"
        soundfile.write(path, np.random.default_rng(number).normal(0, 0.1, 8000).astype("float32"), 16000)
        return str(path)

    return make


def test_the_guides_config_has_the_guides_defaults() -> None:
    config = FinetuningConfig(
        min_error_cases=100,
        min_corrected_cases=50,
        trigger_on_error_rate=True,
        error_rate_threshold=0.15,
        auto_approve_finetuning=False,
    )
    assert config == FinetuningConfig()


def test_cases_come_in_are_corrected_and_trigger_a_job(record: Callable[[int], str]) -> None:
    data_manager = DataManager(local_storage_dir="var", use_gcs=False)
    config = FinetuningConfig(min_error_cases=3, min_corrected_cases=2)
    orchestrator = FinetuningOrchestrator(data_manager=data_manager, config=config)

    first = data_manager.store_failed_case(
        audio_path=record(1), original_transcript="a word", error_types=["substitution"], error_score=0.8
    )
    for number in (2, 3):
        data_manager.store_failed_case(
            audio_path=record(number), original_transcript="a word", corrected_transcript="a bird"
        )
    conditions = orchestrator.check_trigger_conditions()
    assert conditions["should_trigger"] is True
    assert conditions["metrics"]["total_error_cases"] == 3
    assert "3 new error cases, at least 3 are needed: met." in conditions["reasons"]

    data_manager.store_correction(first, "a third")
    job = orchestrator.trigger_finetuning()
    assert job.status == "pending_approval" and job.job_id == 1
    assert orchestrator.trigger_finetuning(force=True).job_id == job.job_id
    assert orchestrator.approve_job(job.job_id).status == "approved"
    assert orchestrator.get_job(job.job_id).trigger["metrics"]["corrected_cases"] == 3


def test_the_error_rate_alone_triggers_too(record: Callable[[int], str]) -> None:
    from mondegreen import MetadataTracker

    data_manager = DataManager(local_storage_dir="var", use_gcs=False)
    config = FinetuningConfig(min_inferences=10, error_rate_threshold=0.15)
    orchestrator = FinetuningOrchestrator(data_manager=data_manager, config=config)
    tracker = MetadataTracker(data_manager=data_manager)
    for number in range(10):
        tracker.log_inference(
            record(number), "a word", model_version="m", duration=0.5, latency=0.1, confidence=0.9,
            error_score=0.9 if number < 2 else 0.1, is_error=number < 2,
        )  # fmt: skip
    conditions = orchestrator.check_trigger_conditions()
    assert conditions["should_trigger"] and conditions["metrics"]["error_rate"] == 0.2


def test_nothing_is_triggered_without_force_or_reason() -> None:
    from mondegreen.errors import JobError

    orchestrator = FinetuningOrchestrator(data_manager=DataManager(local_storage_dir="var", use_gcs=False))
    with pytest.raises(JobError, match="at least 100 are needed"):
        orchestrator.trigger_finetuning()
    assert orchestrator.trigger_finetuning(force=True).status == "pending_approval"
