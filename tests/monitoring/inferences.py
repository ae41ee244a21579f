"""Inferences as production would leave them."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import insert

from mondegreen.db import transaction
from mondegreen.monitoring.records import InferenceStatistics
from mondegreen.monitoring.tracker import Inference, LoggedInference, MetadataTracker, row_of
from mondegreen.tables import InferenceRow

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)


def inference(at: datetime = NOW, **changes: Any) -> Inference:
    fields: dict[str, Any] = {
        "audio_path": Path("gone.wav"), "transcript": "HELLO", "model_version": "m", "duration": 4.0, "latency": 1.0,
        "confidence": 0.9, "error_score": 0.1, "is_error": None, "audio_sha256": "a" * 64, "at": at,
    }  # fmt: skip
    return Inference.model_validate(fields | changes)


def insert_rows(tracker: MetadataTracker, rows: Iterable[Inference]) -> None:
    """Inferences whose audio is gone: misheard ones leave no failed case."""
    written = [row_of(LoggedInference(row), NOW) for row in rows]
    if written:
        with transaction(tracker.engine) as session:
            session.execute(insert(InferenceRow), written)


def service(
    days: Iterable[int], a_day: int = 100, mean: float = 0.8, error_rate: float = 0.1, seed: int = 0, **changes: Any
) -> list[Inference]:
    """Inferences spread over days, counted back from NOW."""
    draw = np.random.default_rng(seed)
    rows: list[Inference] = []
    for day in days:
        start = NOW - timedelta(days=day)
        rows += [
            inference(
                start + timedelta(seconds=number),
                confidence=float(np.clip(draw.normal(mean, 0.05), 0, 1)),
                is_error=bool(draw.random() < error_rate),
                latency=float(draw.gamma(4, 0.25)),
                **changes,
            )
            for number in range(a_day)
        ]
    return rows


def empty_statistics(**changes: Any) -> InferenceStatistics:
    fields: dict[str, Any] = {
        "count": 0, "measured": 0, "errors": 0, "error_detection_rate": None, "error_interval": None,
        "mean_confidence": None, "audio_seconds": 0.0, "work_seconds": 0.0, "real_time_factor": None, "latency": None,
        "since": NOW, "until": NOW, "last": None, "in_future": 0, "cases": 0, "corrected": 0,
        "correction_rate": None, "models": {},
    }  # fmt: skip
    return InferenceStatistics.model_validate(fields | changes)
