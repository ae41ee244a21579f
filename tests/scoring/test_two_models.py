import numpy as np
import pytest

from mondegreen.config import Params
from mondegreen.scoring.comparison import compare, gather
from mondegreen.scoring.two_models import TwoModels, two_models
from tests.scoring.examples import hypothesis, random_sides, utterance

PARAMS = Params.model_validate({"validate": {"bootstrap_samples": 2000, "permutations": 2000}})


def compared(seed: int = 1, swap: bool = False, order: np.ndarray | None = None) -> TwoModels:
    utterances, old, new = random_sides(seed)
    if order is not None:
        utterances = [utterances[index] for index in order]
    old, new = (new, old) if swap else (old, new)
    comparison = compare(utterances, old, new, PARAMS.validate_)
    return two_models(comparison, ("b", "a") if swap else ("a", "b"), PARAMS, "spoken-1", 5)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_swapping_the_models_swaps_everything_and_changes_no_p(seed: int) -> None:
    there, back = compared(seed), compared(seed, swap=True)
    assert (there.a.wer, there.b.wer) == (back.b.wer, back.a.wer)
    assert there.difference.value == -back.difference.value
    assert (there.difference.low, there.difference.high) == pytest.approx((-back.difference.high, -back.difference.low))
    assert there.better_by_b[0].id == back.better_by_a[0].id and there.clusters_better == back.clusters_better[::-1]
    assert there.effect_size == pytest.approx(-back.effect_size)
    assert there.minimum_detectable_effect == back.minimum_detectable_effect
    for one, other in zip(there.tests, back.tests, strict=True):
        assert one.name == other.name and one.p_value == pytest.approx(other.p_value)


def test_the_order_of_utterances_changes_nothing() -> None:
    shuffled = compared(order=np.random.default_rng(0).permutation(90))
    assert shuffled.model_dump(exclude={"slices", "tests"}) == compared().model_dump(exclude={"slices", "tests"})
    for one, other in zip(shuffled.tests, compared().tests, strict=True):
        assert one.over == other.over and one.p_value == pytest.approx(other.p_value)


def test_two_sided_p_is_twice_the_evidence_of_the_better_side() -> None:
    found = compared()
    evidence = gather(compare(*random_sides(1), PARAMS.validate_), PARAMS)
    assert found.tests[0].p_value == pytest.approx(2 * evidence.p_better)
    assert evidence.cluster_t.p_value is not None
    assert found.tests[1].p_value == pytest.approx(2 * evidence.cluster_t.p_value)
    assert found.difference.low == evidence.interval[0] and found.interval_method == evidence.interval_method
    assert evidence.interval == evidence.intervals[evidence.interval_method]


def test_a_model_beside_itself_differs_in_nothing() -> None:
    utterances, old, _ = random_sides(1)
    found = two_models(compare(utterances, old, old, PARAMS.validate_), ("x", "x"), PARAMS, "spoken-1", 5)
    assert found.difference.value == found.difference.low == found.difference.high == 0
    assert found.better_by_a == found.better_by_b == ()
    assert [test.p_value for test in found.tests] == [1.0, None, None, None]


def test_utterances_that_changed_alike_stand_in_the_order_of_their_ids_and_in_the_report_of_their_paths() -> None:
    rows = [utterance("a", path="z.wav"), utterance("b", path="y.wav")]
    old, new = ([hypothesis(row.id, text) for row in rows] for text in ("one", "one two"))
    comparison = compare(rows, old, new, PARAMS.validate_)
    assert [pair[0].utterance.id for pair in comparison.most_changed(1, 5)] == ["b", "a"]
    assert [row.id for row in two_models(comparison, ("x", "y"), PARAMS, "spoken-1", 5).better_by_b] == ["a", "b"]
