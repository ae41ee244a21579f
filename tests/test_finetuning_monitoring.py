"""The fine-tuning guide's monitoring, as a user types it."""

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MONDEGREEN_DATABASE_URL", raising=False)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlruns/mlflow.db")


def test_the_guides_trend() -> None:
    from mondegreen import MetadataTracker

    tracker = MetadataTracker(use_gcs=False)
    trend = tracker.get_performance_trend("wer", time_window_days=30)
    assert f"{trend['improvement']:.4f}" == "nan" and trend["reason"]  # no round has run: nothing is made up


def test_the_guides_statistics(tmp_path: Path) -> None:
    from mondegreen import DataManager, MetadataTracker

    tracker = MetadataTracker(use_gcs=False)
    stats = tracker.get_inference_statistics(time_window_hours=24)
    assert f"{stats['error_detection_rate']:.2%}" == "nan%" and stats["reason"] == "no inference in the last 24 hours"

    tone(tmp_path / "a.wav")
    for is_error in (True, False, False, False):
        tracker.log_inference(
            "a.wav", "HULLO", model_version="starter", duration=1.0, latency=0.1, confidence=0.7, is_error=is_error
        )
    stats = tracker.get_inference_statistics(time_window_hours=24)
    assert stats["error_detection_rate"] == 0.25 and stats["count"] == 4 and stats["correction_rate"] == 0.0
    assert DataManager().get_statistics().by_source == {"production": 1}


def tone(path: Path) -> None:
    import numpy as np
    import soundfile

    soundfile.write(path, 0.3 * np.sin(np.arange(16_000) / 20), 16_000)
