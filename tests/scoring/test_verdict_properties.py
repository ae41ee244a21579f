"""What holds for every verdict, whatever the two models heard."""

from hypothesis import given, settings
from hypothesis import strategies as st

from mondegreen.scoring.planning import share
from mondegreen.scoring.verdict import Look, Verdict
from tests.scoring.verdict_corpus import corpus, hyps, params, verdict_on

SIZE, KEPT = 30, 15
TEST, GUARD = corpus(SIZE), corpus(KEPT, "r", domain="retention")
MISHEARD = st.lists(st.integers(0, 10), min_size=SIZE, max_size=SIZE)
FORGOTTEN = st.lists(st.integers(0, 3), min_size=KEPT, max_size=KEPT)
GAINS = st.lists(st.integers(0, 4), min_size=SIZE, max_size=SIZE)


def verdict(before: list[int], after: list[int], kept: list[int], lost: list[int], number: int = 1) -> Verdict:
    old = hyps(TEST, before.__getitem__) + hyps(GUARD, kept.__getitem__)
    new = hyps(TEST, after.__getitem__, "tuned") + hyps(GUARD, lost.__getitem__, "tuned")
    look = Look(number=number, before=number - 1, alpha=share(0.05, number))
    rules = params(permutations=1000, min_wer_improvement=0.02, min_clusters=10)
    return verdict_on(TEST + GUARD, old, new, rules, look)


@settings(max_examples=60, deadline=None)
@given(MISHEARD, GAINS, FORGOTTEN, FORGOTTEN, st.integers(1, 5))
def test_a_pass_implies_every_single_condition(
    before: list[int], gains: list[int], kept: list[int], lost: list[int], number: int
) -> None:
    after = [max(0, old - gain) for old, gain in zip(before, gains, strict=True)]
    found = verdict(before, after, kept, lost, number)
    assert found.passed == (found.outcome == "pass") and found.verify()
    if found.passed:
        assert found.p_value is not None and found.p_value <= share(0.05, number)
        assert found.wer_improvement is not None and found.wer_improvement >= 0.02
        assert found.retention.outcome == "pass" and found.words >= 200 and found.clusters >= 10
        assert sum(before) - sum(after) == round(found.wer_improvement * found.words)
        bound = found.retention.upper_bound
        assert bound is not None and (bound < 0.02 or all(new <= old for old, new in zip(kept, lost, strict=True)))


@settings(max_examples=40, deadline=None)
@given(MISHEARD, MISHEARD, FORGOTTEN)
def test_swapping_the_models_never_passes_both_ways(before: list[int], after: list[int], kept: list[int]) -> None:
    there, back = verdict(before, after, kept, kept), verdict(after, before, kept, kept)
    assert not (there.passed and back.passed)
    assert there.wer_improvement == -(back.wer_improvement or 0)


@settings(max_examples=30, deadline=None)
@given(MISHEARD, GAINS, st.integers(1, 11))
def test_a_later_look_passes_nothing_that_an_earlier_one_does_not(
    before: list[int], gains: list[int], number: int
) -> None:
    after = [max(0, old - gain) for old, gain in zip(before, gains, strict=True)]
    kept = [1] * KEPT
    if verdict(before, after, kept, kept, number + 1).passed:
        assert verdict(before, after, kept, kept, number).passed
