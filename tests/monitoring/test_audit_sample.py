"""What the audit draws: by known probabilities, the same again, whatever the detector says, and for judging alone."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select

from mondegreen.cases.records import AUDIT, CaseFilter
from mondegreen.cases.store import DataManager
from mondegreen.config import AuditParams, TriggerParams
from mondegreen.db import reading
from mondegreen.loop.case_labels import waiting_cases
from mondegreen.loop.trigger import count
from mondegreen.monitoring.sampling import AuditSampling
from mondegreen.monitoring.tracker import MetadataTracker
from mondegreen.tables import InferenceRow
from tests.cases.conftest import recording
from tests.monitoring.inferences import NOW, inference

EVERY = AuditSampling(AuditParams(rate=1.0), seed=7)


@given(st.lists(st.none() | st.floats(0, 1), min_size=1, max_size=20), st.floats(0, 1))
def test_probabilities_rise_with_the_score_and_never_exceed_one(scores: list[float | None], rate: float) -> None:
    sampling = AuditSampling(AuditParams(rate=rate), seed=1)
    found = {score: sampling.probability(score) for score in scores}
    assert all(rate <= probability <= min(1.0, 3 * rate) for probability in found.values())
    ordered = [found[score] for score in sorted(score for score in scores if score is not None)]
    assert ordered == sorted(ordered)


@pytest.mark.parametrize("probability", [0.0, 0.02, 0.5, 1.0])
def test_as_many_are_drawn_as_their_probability_says(probability: float) -> None:
    drawn = sum(EVERY.draws(f"request-{number}", probability) for number in range(5_000))
    assert abs(drawn - 5_000 * probability) <= 4 * (5_000 * probability * (1 - probability)) ** 0.5


def test_the_same_id_has_the_same_luck_and_another_seed_another() -> None:
    keys = [f"request-{number}" for number in range(200)]
    luck = [[AuditSampling(AuditParams(), seed).draws(key, 0.5) for key in keys] for seed in (1, 1, 2)]
    assert luck[0] == luck[1] != luck[2]


@pytest.mark.parametrize("wrong", [{"bounds": [0.5, 0.2]}, {"bounds": [0.5]}, {"factors": [1, 0, 1, 1]}, {"rate": 2}])
def test_strata_that_cannot_be_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"bounds|factors|rate"):
        AuditParams.model_validate(wrong)


def test_what_is_drawn_is_kept_whatever_the_detector_says_and_is_no_failed_case(tmp_path: Path) -> None:
    manager = DataManager(tmp_path / "var")
    tracker = MetadataTracker(data_manager=manager, sampling=EVERY)
    paths = [recording(tmp_path / f"{seed}.wav", seed) for seed in range(3)]
    facts = [{"is_error": True, "error_score": 0.9}, {"is_error": False, "error_score": 0.1}, {"error_score": None}]
    given = [
        inference(NOW, audio_path=path, audio_sha256=None, **fact) for path, fact in zip(paths, facts, strict=True)
    ]
    assert tracker.log_inferences(given) == [None, None, None]
    with reading(manager.engine) as session:
        rows = session.scalars(select(InferenceRow).order_by(InferenceRow.id)).all()
    assert [row.inclusion for row in rows] == [1.0, 1.0, 1.0]
    assert [row.is_error for row in rows] == [True, False, None]  # what the detector said still counts
    assert [manager.get_case(str(row.audit_id)).source for row in rows] == [AUDIT] * 3
    assert all(row.case_id is None and row.words == 1 for row in rows)
    assert list(manager.each_case(CaseFilter(audit=False))) == [] and manager.get_statistics().total == 0
    assert list(waiting_cases(manager)) == []  # no language model writes for them
    assert count(manager.engine, TriggerParams().window_hours, NOW).total_error_cases == 0
    assert manager.verify().orphans == []


def test_a_rate_of_nothing_draws_nothing_and_keeps_what_is_misheard(tmp_path: Path) -> None:
    manager = DataManager(tmp_path / "var")
    path = recording(tmp_path / "a.wav", 1)
    for sampling in (None, AuditSampling(AuditParams(rate=0.0), 1)):
        tracker = MetadataTracker(data_manager=manager, sampling=sampling)
        case_id = tracker.log_inference(path, "HULLO", model_version="m", duration=1.0, latency=0.1, is_error=True)
        assert manager.get_case(str(case_id)).source == "production"
    with reading(manager.engine) as session:
        assert set(session.scalars(select(InferenceRow.inclusion))) == {None}


def test_a_failed_case_and_the_audit_of_the_same_recording_are_two_cases(tmp_path: Path) -> None:
    manager = DataManager(tmp_path / "var")
    path = recording(tmp_path / "a.wav", 1)
    facts = {"model_version": "m", "duration": 1.0, "latency": 0.1, "is_error": True}
    failed = MetadataTracker(data_manager=manager).log_inference(path, "HULLO", **facts)
    MetadataTracker(data_manager=manager, sampling=EVERY).log_inference(path, "HULLO", **facts)
    assert {case.id == failed: case.source for case in manager.each_case()} == {True: "production", False: AUDIT}


def test_what_is_replayed_is_drawn_again_and_counts_once(tmp_path: Path) -> None:
    manager = DataManager(tmp_path / "var")
    half = AuditSampling(AuditParams(rate=0.5, factors=(1, 1, 1, 1)), seed=3)
    given = [
        inference(NOW, audio_path=recording(tmp_path / f"{n}.wav", n), audio_sha256=None, request_id=f"r{n}")
        for n in range(20)
    ]
    for _ in range(2):
        MetadataTracker(data_manager=manager, sampling=half).log_inferences(given)
    with reading(manager.engine) as session:
        rows = session.scalars(select(InferenceRow)).all()
    drawn = {row.request_id for row in rows if row.audit_id}
    assert len(rows) == 20 and 0 < len(drawn) < 20
    assert len(list(manager.each_case(CaseFilter(audit=True)))) == len(drawn)
