"""A variant need not be better than its parent; that it loses less than the margin has to be shown."""

import pytest

from mondegreen.config import Params
from mondegreen.scoring.decision import decide, try_out
from mondegreen.scoring.paired_sets import pair_test_sets
from mondegreen.scoring.verdict import Look, Verdict
from tests.scoring.verdict_corpus import Wrong, corpus, hyps, params


def same(number: int) -> int:
    return 2


def judged(
    after: Wrong, retained: Wrong = same, size: int = 60, rules: Params | None = None, look: Look | None = None
) -> Verdict:
    test, guard = corpus(size), corpus(20, "r", domain="retention", recording="", speaker="")
    old, new = hyps(test + guard, same), hyps(test, after, "int8") + hyps(guard, retained, "int8")
    rules = rules or params()
    return decide(pair_test_sets(test + guard, old, new, rules), rules, look, "not worse")


def test_what_hears_the_same_passes_and_claims_no_more() -> None:
    verdict = judged(same)
    assert verdict.passed and verdict.kept and verdict.kept.outcome == "pass"
    assert verdict.sentence == "Pass: the variant is shown to lose less than the margin against its parent."
    assert (
        "test: no utterance lost a word" in verdict.reason and "retention: no utterance lost a word" in verdict.reason
    )


def test_a_loss_that_is_surely_below_the_margin_passes() -> None:
    verdict = judged(lambda number: 3 if number % 30 == 0 else 1 if number % 30 == 1 else 2)
    assert verdict.passed and verdict.kept and verdict.kept.upper_bound is not None
    assert 0 < verdict.kept.upper_bound < verdict.kept.margin == 0.02


@pytest.mark.parametrize(
    ("after", "retained", "outcome", "said"),
    [
        (lambda number: 3, same, "fail", "test: WER rose by 10.00 points, 2.00 points are allowed"),
        (same, lambda number: 3, "fail", "retention: WER rose by 10.00 points, 2.00 points are allowed"),
        (lambda number: 3 if number < 10 else 2, same, "inconclusive", "would show that nothing is lost"),
        (lambda number: 6 if number < 15 else 0, same, "fail", "got worse by more than"),
    ],
)
def test_a_worse_one_and_one_that_may_be_do_not_pass(after: Wrong, retained: Wrong, outcome: str, said: str) -> None:
    verdict = judged(after, retained)
    assert verdict.outcome == outcome and not verdict.passed and said in verdict.reason


def test_too_little_data_and_a_spent_test_set_show_nothing() -> None:
    assert "8 recordings, 12 are needed" in judged(same, size=8).reason
    assert judged(same, size=8).outcome == "inconclusive"
    spent = judged(same, look=Look(number=13, before=12, alpha=0.0001))
    assert spent.outcome == "inconclusive" and "this test set is spent: it is look 13" in spent.reason
    assert judged(same, look=Look(number=2, before=1, alpha=0.0076)).passed


def test_a_trial_bounds_what_dev_lost() -> None:
    rows, rules = corpus(60, split="dev"), params()
    sets = pair_test_sets(rows, hyps(rows, same), hyps(rows, lambda number: 3, "int8"), rules, trial=True)
    verdict = try_out(sets, rules, "not worse")
    assert verdict.outcome == "trial" and "non-inferiority on dev: WER rose by 10.00 points" in verdict.reason
    assert "without --dev it is judged on test" in verdict.reason and "epoch" not in verdict.reason


def test_other_verdicts_keep_their_seal_and_a_variants_has_its_own() -> None:
    verdict = judged(same)
    assert Verdict.model_validate_json(verdict.model_dump_json()).verify()
    rows, rules = corpus(60), params()
    plain = decide(pair_test_sets(rows, hyps(rows, same), hyps(rows, same, "new"), rules), rules)
    assert plain.outcome == "fail" and '"kept"' not in plain.model_dump_json()
