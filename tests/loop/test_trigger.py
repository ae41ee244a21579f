"""When a round starts: the rule, its reasons, what counts as new, and the threshold that learns."""

from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from mondegreen.config import Params, load_params
from mondegreen.errors import UsageError
from mondegreen.loop.jobs import Jobs
from mondegreen.loop.trigger import (
    CaseCounts,
    EndedRound,
    FinetuningConfig,
    adapt,
    apply_rule,
    count,
    needed_cases,
    rest,
)
from tests.loop.loop_store import NOON, Store

CONFIG = FinetuningConfig(min_error_cases=10, min_corrected_cases=5, min_inferences=20)


@pytest.fixture(autouse=True)
def local(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MONDEGREEN_DATABASE_URL", raising=False)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


def counts(new: int = 0, corrected: int = 0, inferences: int = 0, errors: int = 0) -> CaseCounts:
    return CaseCounts(
        total_error_cases=new,
        corrected_cases=corrected,
        by_method={"manual": corrected},
        new_error_cases=new,
        new_corrected_cases=corrected,
        inferences=inferences,
        errors=errors,
        unmeasured=0,
        from_future=0,
        at=NOON,
    )


@given(
    new=st.integers(0, 20),
    corrected=st.integers(0, 20),
    inferences=st.integers(0, 40),
    share=st.floats(0, 1),
    by_rate=st.booleans(),
)
def test_the_rule_is_cases_and_corrections_or_a_measured_rate(
    new: int, corrected: int, inferences: int, share: float, by_rate: bool
) -> None:
    config = CONFIG.model_copy(update={"trigger_on_error_rate": by_rate})
    errors = int(share * inferences)
    decision = apply_rule(counts(new, corrected, inferences, errors), config, config.min_error_cases)
    enough = new >= 10 and corrected >= 5
    often = by_rate and inferences >= 20 and errors / inferences >= 0.15
    assert decision.should_trigger == (enough or often)
    assert (decision.by_cases, decision.by_error_rate) == (enough, often)
    assert len(decision.reasons) == 4


def test_every_reason_names_value_and_threshold_also_when_it_is_not_met() -> None:
    assert apply_rule(counts(12, 3, 40, 4), CONFIG, 10).reasons == [
        "12 new error cases, at least 10 are needed: met.",
        "3 of them corrected, at least 5 are needed: not met.",
        "Error rate over the last 24 h 10.0 % (4 of 40 inferences), at least 15.0 % is needed: not met.",
        "40 inferences measured, at least 20 are needed: met.",
    ]


def test_a_rate_that_does_not_count_and_one_that_is_not_there_say_so() -> None:
    off = CONFIG.model_copy(update={"trigger_on_error_rate": False})
    assert "trigger_on_error_rate is off" in apply_rule(counts(inferences=40, errors=40), off, 10).reasons[2]
    decision = apply_rule(counts(), CONFIG, 10)
    assert decision.reasons[2].startswith("No error rate over the last 24 h") and decision.metrics["error_rate"] is None


def test_the_rates_denominator_is_what_a_detector_looked_at_in_the_window(store: Store) -> None:
    store.cases(500)
    store.inferences(good=30, errors=10, unmeasured=7)
    store.inferences(errors=100, ago=timedelta(hours=25))
    found = count(store.engine, 24, NOON)
    assert (found.inferences, found.errors, found.unmeasured, found.error_rate) == (40, 10, 7, 0.25)
    assert "Not counted: 7 inferences" in apply_rule(found, CONFIG, 10).reasons[-1]


def test_the_ends_of_the_window_belong_to_it(store: Store) -> None:
    store.inferences(good=1, ago=timedelta(hours=24))
    store.inferences(good=1, ago=timedelta(0))
    store.inferences(good=1, ago=timedelta(hours=24, microseconds=1))
    assert count(store.engine, 24, NOON).inferences == 2


def test_inferences_from_the_future_do_not_count_and_are_named(store: Store) -> None:
    store.inferences(errors=50, ago=timedelta(hours=-3))  # written before the clock was moved back
    store.inferences(good=20)
    found = count(store.engine, 24, NOON)
    decision = apply_rule(found, CONFIG, 10)
    assert (found.inferences, found.errors, found.from_future) == (20, 0, 50)
    assert not decision.should_trigger
    assert "Not counted: 50 inferences dated after 2026-11-23 12:00:00 UTC" in decision.reasons[-1]


def complete(store: Store, version: int | None, gain: float | None = 0.1) -> None:
    """A round that went through."""
    jobs = Jobs(store.engine, store.clock)
    job, _ = jobs.request(["because"], {})
    for before, after in (
        ("pending_approval", "approved"),
        ("approved", "preparing"),
        ("preparing", "training"),
        ("training", "evaluating"),
    ):
        jobs.move(job.id, before, after, "on")  # type: ignore[arg-type]
    jobs.move(job.id, "evaluating", "completed", "done", dataset_version=version, gain=gain)


def test_only_cases_that_no_completed_round_used_are_new(store: Store) -> None:
    store.cases(4, corrected=4, version=1)
    store.cases(3, corrected=3, version=2)
    store.cases(2, corrected=1)
    before = count(store.engine, 24, NOON)
    assert (before.new_error_cases, before.new_corrected_cases) == (9, 8)
    complete(store, version=1)
    after = count(store.engine, 24, NOON)
    assert (after.new_error_cases, after.new_corrected_cases) == (5, 4)
    assert (after.total_error_cases, after.corrected_cases) == (9, 8)


def test_a_failed_round_used_nothing_up(store: Store) -> None:
    store.cases(4, corrected=4, version=1)
    jobs = Jobs(store.engine, store.clock)
    job, _ = jobs.request(["because"], {})
    jobs.move(job.id, "pending_approval", "approved", "on")
    jobs.move(job.id, "approved", "preparing", "on")
    jobs.move(job.id, "preparing", "failed", "disk full", dataset_version=1)
    assert count(store.engine, 24, NOON).new_corrected_cases == 4


def test_after_a_rejected_round_watch_rests_for_a_window() -> None:
    decision = apply_rule(counts(12, 6), CONFIG, 10)
    last = EndedRound(job=3, state="rejected", at=NOON, reason="not today", new_data=False)
    waiting = rest(decision, last, CONFIG, NOON + timedelta(hours=1))
    assert waiting and waiting.until == NOON + timedelta(hours=24) and "not today" in waiting.text
    assert rest(decision, last, CONFIG, NOON + timedelta(hours=24)) is None
    assert rest(decision, last, CONFIG, NOON - timedelta(hours=1)) is None  # the clock was moved back
    assert rest(decision, None, CONFIG, NOON) is None


def test_new_cases_need_no_rest_after_a_completed_round_but_a_rate_does() -> None:
    last = EndedRound(job=3, state="completed", at=NOON, reason="", new_data=True)
    assert rest(apply_rule(counts(12, 6), CONFIG, 10), last, CONFIG, NOON) is None
    assert rest(apply_rule(counts(0, 0, 40, 40), CONFIG, 10), last, CONFIG, NOON) is not None


def test_cases_that_no_snapshot_can_use_do_not_ask_for_a_round_at_every_look(store: Store) -> None:
    store.cases(12, corrected=12)  # left out of every dataset version
    jobs = Jobs(store.engine, store.clock)
    decision = apply_rule(count(store.engine, 24, NOON), CONFIG, 10)
    for version, new_data in ((1, True), (1, False), (2, True), (None, False)):
        complete(store, version)
        last = jobs.last_ended()
        assert last and last.new_data is new_data
        assert (rest(decision, last, CONFIG, NOON) is None) == new_data


ADAPTIVE = FinetuningConfig(min_error_cases=100, adaptive=True)


def test_a_small_gain_asks_for_more_cases_and_a_large_one_for_fewer() -> None:
    steps = adapt(ADAPTIVE, [(1, 0.002), (2, 0.03), (3, 0.08), (4, None)])
    assert [(step.before, step.after) for step in steps] == [(100, 150), (150, 150), (150, 100), (100, 100)]
    assert "gain +0.20 points, under 1.00 points: more cases" in steps[0].text
    assert needed_cases(ADAPTIVE, steps) == 100


def test_the_threshold_is_not_adaptive_by_default() -> None:
    assert adapt(FinetuningConfig(), [(1, 0.0)]) == [] and needed_cases(FinetuningConfig(), []) == 100


@given(st.lists(st.none() | st.floats(-1, 1), max_size=30), st.floats(1.001, 10))
def test_the_threshold_stays_within_its_bounds(gains: list[float | None], factor: float) -> None:
    config = ADAPTIVE.model_copy(update={"adaptive_factor": factor})
    steps = adapt(config, list(enumerate(gains)))
    assert len(steps) == len(gains)
    assert all(25 <= step.after <= 1000 for step in steps)
    assert all(later.before == earlier.after for earlier, later in pairwise(steps))


def test_the_defaults_are_those_of_params_and_a_wrong_knob_is_an_error(tmp_path: Path) -> None:
    assert FinetuningConfig().to_dict() == FinetuningConfig.from_params(Params()).to_dict()
    with pytest.raises(ValidationError):
        FinetuningConfig(min_error_case=3)  # type: ignore[call-arg]
    (tmp_path / "params.yaml").write_text("trigger: {adaptive: true, min_error_cases: 5}")
    with pytest.raises(UsageError, match="adaptive_bounds must enclose min_error_cases"):
        load_params(tmp_path / "params.yaml")
