"""The guards, waivers and looks of a verdict, and what must never pass."""

import dataclasses
import math
from typing import Any

import pytest

from mondegreen.errors import UsageError
from mondegreen.records import Hypothesis, Utterance
from mondegreen.scoring import decision, noninferiority
from mondegreen.scoring.comparison import gather
from mondegreen.scoring.decision import smallest_p
from mondegreen.scoring.planning import share
from mondegreen.scoring.verdict import Look, Verdict
from tests.scoring.verdict_corpus import WORDS, corpus, hyps, judge, params, verdict_on


def nth(number: int, alpha: float = 0.05) -> Look:
    return Look(number=number, before=number - 1, alpha=share(alpha, number))


def hardly_better(number: int) -> int:
    """Of twenty speakers some gain and some lose: p is about 0.01."""
    return 2 if number % 20 < 15 else 4


def test_all_tests_of_the_evidence_stand_in_the_verdict() -> None:
    verdict = judge(lambda number: 4, lambda number: 2 + number % 2)
    assert verdict.cluster_t is not None and verdict.cluster_t.degrees_of_freedom == 19
    assert verdict.wilcoxon is not None and verdict.wilcoxon.pairs == 20
    assert verdict.effect_size is not None and verdict.effect_size.better == 20
    assert verdict.interval is not None and verdict.interval_method is not None
    assert verdict.intervals[verdict.interval_method] == (verdict.interval.low, verdict.interval.high)
    numbers = verdict.numbers()
    assert {"cluster_t_p_value", "wilcoxon_p_value", "effect_size"} <= numbers.keys()


def test_too_many_utterances_that_got_worse_fail_a_better_sum() -> None:
    def after(number: int) -> int:
        return 6 if number % 4 == 0 else 0

    better = judge(lambda number: 3, after, rules=params(max_wer_degradation_rate=0.25, degradation_bound=0.3))
    assert better.passed and better.degradation is not None
    assert (better.degradation.worse, better.degradation.rate) == (0, 0.0)  # by 0.3, which is not more than 0.3
    shut = judge(lambda number: 3, after, rules=params(max_wer_degradation_rate=0.24, degradation_bound=0.29))
    assert shut.outcome == "fail" and "15 utterances (25.0 %) got worse by more than 29.00 points" in shut.reason
    allowed = judge(lambda number: 3, after, rules=params(max_wer_degradation_rate=0.25, degradation_bound=0.29))
    assert allowed.passed and allowed.degradation is not None and allowed.degradation.worse == 15


def test_one_utterance_that_got_badly_worse_fails_where_none_may() -> None:
    def after(number: int) -> int:
        return 8 if number == 7 else 0

    assert judge(lambda number: 3, after).passed
    verdict = judge(lambda number: 3, after, rules=params(require_no_major_degradation=True))
    assert verdict.outcome == "fail" and verdict.reason.endswith(
        "got worse by 50.00 points WER and 3 words or more: t007."
    )
    assert verdict.degradation is not None and verdict.degradation.badly_worse == ("t007",)


def test_two_words_lost_of_three_are_not_badly_worse() -> None:
    rows = [row.model_copy(update={"reference": "one two three"}) for row in corpus(100)]
    guard = corpus(20, "r", domain="retention")
    before = [heard.model_copy(update={"text": "one two"}) for heard in hyps(rows, lambda number: 0)]
    after = [heard.model_copy(update={"text": "one two three"}) for heard in hyps(rows, lambda number: 0, "tuned")]
    after[0] = after[0].model_copy(update={"text": ""})
    kept = (hyps(guard, lambda number: 1), hyps(guard, lambda number: 1, "tuned"))
    verdict = verdict_on(rows + guard, before + kept[0], after + kept[1], params(require_no_major_degradation=True))
    assert verdict.passed and verdict.degradation is not None and verdict.degradation.worse == 1


def test_a_later_look_needs_a_smaller_p() -> None:
    first, fourth = (judge(lambda number: 3, hardly_better, look=nth(number)) for number in (1, 4))
    assert first.p_value is not None and share(0.05, 4) < first.p_value < share(0.05, 1)
    assert first.passed and first.look == nth(1)
    assert fourth.outcome == "inconclusive" and "not significant at 0.0019 (look 4 at this test set" in fourth.reason
    assert first.minimum_detectable_effect is not None and fourth.minimum_detectable_effect is not None
    assert fourth.minimum_detectable_effect > first.minimum_detectable_effect
    assert first.interval == fourth.interval  # readers expect the interval of alpha itself
    assert fourth.numbers()["look"] == 4 and fourth.numbers()["look_alpha"] == share(0.05, 4)


def test_retention_is_bounded_at_what_the_look_may_spend() -> None:
    def retained(number: int) -> int:
        return {0: 3, 1: 0, 2: 0}.get(number, 1)

    bounds = [judge(lambda number: 4, lambda number: 2, retained, look=nth(number)).retention for number in (1, 5)]
    assert bounds[0].level == pytest.approx(1 - share(0.05, 1)) and bounds[1].level == pytest.approx(1 - share(0.05, 5))
    assert bounds[0].upper_bound is not None and bounds[1].upper_bound is not None
    assert bounds[0].upper_bound < bounds[1].upper_bound


def test_a_spent_test_set_passes_nobody_and_asks_for_fresh_references() -> None:
    verdict = judge(lambda number: 9, lambda number: 1, rules=params(max_looks=3), look=nth(4))
    assert verdict.outcome == "inconclusive" and "this test set is spent: it is look 4" in verdict.reason
    assert "record fresh references: replace at least half of its recordings" in verdict.reason
    assert judge(lambda number: 9, lambda number: 1, rules=params(max_looks=3), look=nth(3)).passed


def test_a_share_that_no_p_can_meet_is_spent() -> None:
    def look(number: int) -> Verdict:
        return judge(lambda n: 9, lambda n: 0, size=12, rules=wide, look=nth(number))

    wide = params(min_words=100, bootstrap_samples=10_000)
    assert look(11).passed and look(11).p_value == 1 / 4096
    assert look(12).outcome == "inconclusive"
    assert "0.00021 of alpha is left for look 12, and 12 speakers give no p below 0.00024" in look(12).reason


@pytest.mark.parametrize(("clusters", "least"), [(1, 0.5), (12, 1 / 4096), (13, 1 / 2001)])
def test_the_smallest_p_is_what_the_sign_flip_test_can_give(clusters: int, least: float) -> None:
    assert smallest_p(clusters, 2000) == pytest.approx(least)


def test_the_verdict_says_how_often_its_test_set_has_judged() -> None:
    first, third = (judge(lambda number: 4, lambda number: 2, look=nth(number)) for number in (1, 3))
    assert any("only as good as the database" in note for note in first.notes)
    assert any("look 3 at this test set: 2 looks of others came before" in note for note in third.notes)
    assert judge(lambda number: 4, lambda number: 2).look is None


def test_without_significance_an_improvement_passes_and_says_so() -> None:
    def noise(number: int) -> int:
        return 3 if number % 20 >= 11 else 1

    strict = judge(lambda number: 2, noise)
    assert strict.outcome == "inconclusive"
    loose = judge(lambda number: 2, noise, rules=params(require_significance=False))
    assert loose.passed and "NOT TESTED FOR SIGNIFICANCE" in loose.reason


def test_without_significance_no_data_and_no_improvement_still_do_not_pass() -> None:
    rules = params(require_significance=False, require_retention=False)
    nothing = verdict_on([], [], [], rules)
    silent = corpus(30, reference="")
    unheard = verdict_on(silent, hyps(silent, lambda number: 0), hyps(silent, lambda number: 0, "tuned"), rules)
    small = judge(lambda number: 9, lambda number: 0, size=3, rules=rules)
    equal = judge(lambda number: 2, lambda number: 2, rules=rules)
    worse = judge(lambda number: 2, lambda number: 3, rules=rules)
    even = judge(lambda number: 2, lambda number: 1 + 2 * (number % 2), rules=rules)  # the sum is the same
    assert [found.outcome for found in (nothing, unheard, small)] == ["inconclusive"] * 3
    assert [found.outcome for found in (equal, worse)] == ["fail"] * 2
    assert even.outcome == "inconclusive" and even.wer_improvement == 0 and "nothing improved" in even.reason


def test_forgetting_can_be_left_out_but_a_shown_loss_still_fails() -> None:
    rules, test = params(require_retention=False), corpus(60)
    verdict = verdict_on(test, hyps(test, lambda number: 4), hyps(test, lambda number: 2, "tuned"), rules)
    assert verdict.passed and "FORGETTING WAS NOT MEASURED" in verdict.reason
    assert verdict.retention.outcome == "inconclusive"
    assert judge(lambda number: 4, lambda number: 2, lambda number: 2, rules=rules).outcome == "fail"


@pytest.mark.parametrize("field", ["improvement", "p_better", "p_worse", "interval", "loss_bounds"])
def test_statistics_that_are_not_numbers_never_pass(field: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*arguments: Any) -> Any:
        value = (math.nan, math.nan) if field in ("interval", "loss_bounds") else math.nan
        return dataclasses.replace(gather(*arguments), **{field: value})

    monkeypatch.setattr(decision, "gather", broken)
    verdict = judge(lambda number: 4, lambda number: 2)
    assert verdict.outcome == "inconclusive" and "not numbers" in verdict.reason and verdict.p_value is None
    monkeypatch.undo()
    monkeypatch.setattr(noninferiority, "gather", broken)
    verdict = judge(lambda number: 4, lambda number: 2)
    assert verdict.outcome == "inconclusive" and "forgetting cannot be judged" in verdict.reason


def machine_written(count: int) -> tuple[list[Utterance], list[Hypothesis], list[Hypothesis]]:
    rows = corpus(60) + corpus(20, "r", domain="retention")
    for index in [*range(count - 1), len(rows) - 1]:  # the last one judges forgetting
        rows[index] = rows[index].model_copy(update={"reference_source": "llm"})
    return rows, hyps(rows, lambda number: 4), hyps(rows, lambda number: 2, "tuned")


def test_a_machines_references_are_refused_as_judges() -> None:
    with pytest.raises(
        UsageError, match=r"3 of 80 references .* were written by a machine: data/t000.wav.*"
    ) as refusal:
        verdict_on(*machine_written(3), params())
    assert "validate.allow_llm_references" in refusal.value.next_step


def test_a_machines_references_that_are_let_judge_stand_in_capital_letters() -> None:
    verdict = verdict_on(*machine_written(3), params(allow_llm_references=True))
    assert verdict.passed and verdict.llm_references == 3 and verdict.numbers()["llm_references"] == 3
    for text in (verdict.reason, verdict.claim):
        assert text.startswith("JUDGED BY 3 REFERENCE(S) THAT A MACHINE WROTE")


def test_a_machines_texts_outside_the_test_split_do_not_judge() -> None:
    rows, before, after = machine_written(3)
    rows = [row.model_copy(update={"split": "train"}) if row.reference_source == "llm" else row for row in rows]
    assert verdict_on(rows, before, after, params()).llm_references == 0


def test_held_out_cases_are_a_slice_with_an_interval_and_decide_nothing() -> None:
    test, cases = corpus(60), corpus(14, "c", domain="corrected", recording="", speaker="")
    taught = corpus(1, "x", split="train", reference=" ".join(WORDS))
    rows = test + cases + taught
    old = [hyps(test, lambda number: 4), hyps(cases, lambda number: 2), hyps(taught, lambda number: 0)]
    new = [hyps(test, lambda number: 2, "tuned"), hyps(cases, lambda number: 5 + number % 2, "tuned")]
    new.append(hyps(taught, lambda number: 0, "tuned"))
    with_cases = verdict_on(rows, [*old[0], *old[1], *old[2]], [*new[0], *new[1], *new[2]], params())
    without = verdict_on(test + taught, old[0] + old[2], new[0] + new[2], params())
    found = with_cases.corrected
    assert found and (found.utterances, found.clusters, found.seen_texts) == (14, 14, 14)
    assert found.interval and found.interval.low <= found.wer_improvement == -0.35 <= found.interval.high
    assert with_cases.shown_slices[-1] == "corrected" and any("WER 20.0 % -> 55.0 %" in n for n in with_cases.notes)
    assert (with_cases.outcome, with_cases.reason) == (without.outcome, without.reason)
    assert with_cases.numbers()["corrected_wer_improvement"] == -0.35 and without.corrected is None
