import re
from typing import Any

import pytest
from pydantic import ValidationError

from mondegreen.errors import UsageError
from mondegreen.files import read_json, write_json
from mondegreen.scoring.noninferiority import judge_suite
from mondegreen.scoring.verdict import Verdict
from tests.scoring.verdict_corpus import Wrong, corpus, hyps, judge, params, verdict_on


def test_a_candidate_that_is_better_everywhere_and_forgets_nothing_passes() -> None:
    verdict = judge(lambda number: 4, lambda number: 2 + number % 2)
    assert verdict.outcome == "pass" and verdict.passed
    assert verdict.wer_improvement == pytest.approx(0.15)
    assert (verdict.unit, verdict.clusters, verdict.speakers, verdict.words) == ("speaker", 20, 20, 600)
    assert verdict.p_value is not None and verdict.p_value < 0.01
    assert verdict.reason.startswith("Corpus WER 40.0 % -> 25.0 %, improvement +15.00 points")
    assert verdict.slices["test/noisy"].candidate.wer.rate == pytest.approx(0.3)
    assert verdict.slices["retention/test"].baseline.utterances == 20
    assert (verdict.baseline_model, verdict.candidate_model, verdict.normalizer) == ("base", "tuned", "spoken-3")


def test_significantly_worse_fails() -> None:
    verdict = judge(lambda number: 2, lambda number: 3)
    assert verdict.outcome == "fail" and not verdict.passed and "significantly worse" in verdict.reason


def test_the_same_transcripts_fail_because_equal_is_not_better() -> None:
    verdict = judge(lambda number: 2, lambda number: 2)
    assert verdict.outcome == "fail" and "holds no improvement" in verdict.reason
    assert '"-0.0' not in verdict.model_dump_json() and ":-0.0," not in verdict.model_dump_json()


def test_noise_is_inconclusive_and_names_the_minimum_detectable_effect() -> None:
    verdict = judge(lambda number: 3, lambda number: 4 if number % 20 >= 11 else 2)
    assert verdict.outcome == "inconclusive"
    assert "not significant" in verdict.reason and "80 % power" in verdict.reason
    assert verdict.minimum_detectable_effect is not None


def test_better_but_by_less_than_the_floor_fails_or_stays_open() -> None:
    far = judge(lambda number: 2, lambda number: 1, rules=params(min_wer_improvement=0.2))
    assert far.outcome == "fail" and "no improvement of 20.00 points" in far.reason
    near = judge(lambda number: 2, lambda number: number % 2, rules=params(min_wer_improvement=0.155))
    assert near.outcome == "inconclusive" and "below the floor of 15.50 points" in near.reason
    exactly = judge(lambda number: 2, lambda number: 1, rules=params(min_wer_improvement=0.1))
    assert exactly.passed


def test_forgetting_more_than_the_margin_fails_an_otherwise_better_candidate() -> None:
    verdict = judge(lambda number: 4, lambda number: 2, retained=lambda number: 2)
    assert verdict.outcome == "fail" and verdict.retention.outcome == "fail"
    assert verdict.reason.endswith("retention: WER rose by 10.00 points, 2.00 points are allowed.")


def test_non_inferiority_that_cannot_be_shown_is_inconclusive() -> None:
    verdict = judge(lambda number: 4, lambda number: 2, retained=lambda number: {0: 3, 1: 2, 2: 0}.get(number, 1))
    assert verdict.outcome == "inconclusive" and verdict.retention.outcome == "inconclusive"
    assert re.search(
        r"retention: WER (rose|fell) by [\d.]+ points, and did not rise by more than [\d.]+ points with", verdict.reason
    )
    assert verdict.retention.upper_bound is not None and verdict.retention.upper_bound >= 0.02


@pytest.mark.parametrize(("required", "outcome"), [(None, "pass"), (False, "pass"), (True, "inconclusive")])
def test_without_retention_a_pass_says_in_capitals_that_forgetting_is_not_measured(
    required: bool | None, outcome: str
) -> None:
    test, rules = corpus(60), params(require_retention=required)
    verdict = verdict_on(test, hyps(test, lambda number: 4), hyps(test, lambda number: 2, "tuned"), rules)
    assert verdict.outcome == outcome and "forgetting cannot be judged" in verdict.reason
    assert "FORGETTING WAS NOT MEASURED" in verdict.claim and "FORGETTING WAS NOT MEASURED" in verdict.warning
    assert "and has forgotten nothing" not in verdict.sentence


def test_a_retention_set_that_is_too_small_says_how_large_one_shows_the_margin() -> None:
    def retained(number: int) -> int:
        return {0: 3, 1: 0, 2: 0}.get(number % 4, 1)  # scatters, and loses nothing

    def on(recordings: int, **changes: Any) -> Verdict:
        test, guard = corpus(60), corpus(recordings, "r", domain="retention", speaker="")
        old = hyps(test, lambda number: 4) + hyps(guard, lambda number: 1)
        new = hyps(test, lambda number: 2, "tuned") + hyps(guard, retained, "tuned")
        return verdict_on(test + guard, old, new, params(**changes))

    small = on(20)
    assert small.outcome == "inconclusive"
    found = re.search(r"it has 200 words, and about (\d+) would .* `mondegreen data retention (\d+)`", small.reason)
    assert found and int(found[2]) == pytest.approx(2 * int(found[1]), rel=0.05)  # half of them become dev
    enough = int(found[1]) // 10
    assert on(enough).passed and not on(enough // 4).passed
    assert on(enough).warning == ""
    waived = on(20, require_retention=False)
    assert waived.passed and "FORGETTING IS NOT RULED OUT" in waived.claim
    assert "a margin of 0" in on(20, retention_margin=0).reason


def test_texts_that_training_has_seen_are_in_the_claim() -> None:
    test = corpus(60)
    seen = [row.model_copy(update={"split": "train", "id": f"x{row.id}", "reference": "Say Yes!"}) for row in test[:1]]
    heard = [row.model_copy(update={"reference": "say yes"}) for row in test[:3]] + test[3:]
    rows = heard + seen
    verdict = verdict_on(rows, hyps(rows, lambda number: 4), hyps(rows, lambda number: 2, "tuned"), params())
    assert "training has seen the texts of 3 of the 60 test utterances" in verdict.claim
    assert "has seen" not in judge(lambda number: 4, lambda number: 2).claim


@pytest.mark.parametrize(("size", "missing"), [(6, "6 recordings, 12 are needed"), (15, "150 reference words")])
def test_too_little_data_is_inconclusive_even_when_everything_is_better(size: int, missing: str) -> None:
    verdict = judge(lambda number: 4, lambda number: 1 + number % 3, size=size)
    assert verdict.outcome == "inconclusive" and missing in verdict.reason and "80 % power" in verdict.reason


def test_few_speakers_narrow_the_claim_to_these_speakers() -> None:
    verdict = judge(lambda number: 4, lambda number: 2, speakers={"speaker": "ann"})
    assert verdict.passed and verdict.unit == "recording" and verdict.clusters == 60
    assert "this one speaker only" in verdict.claim and verdict.claim in verdict.reason
    nobody = judge(lambda number: 4, lambda number: 2, speakers={"speaker": "", "recording": ""})
    assert nobody.unit == "utterance" and "nobody named them" in nobody.claim


def test_noisy_copies_of_one_recording_are_one_cluster() -> None:
    rows = corpus(60, speaker="")
    rows = [row.model_copy(update={"recording": f"take{number // 10}"}) for number, row in enumerate(rows)]
    verdict = verdict_on(rows, hyps(rows, lambda number: 4), hyps(rows, lambda number: 2, "tuned"), params())
    assert verdict.clusters == 6 and verdict.outcome == "inconclusive"


def test_no_references_and_no_utterances_are_inconclusive() -> None:
    rows = corpus(3, reference="")
    silent = verdict_on(rows, hyps(rows, lambda number: 0), hyps(rows, lambda number: 0), params())
    nothing = verdict_on([], [], [], params())
    for verdict in (silent, nothing):
        assert verdict.outcome == "inconclusive" and "nothing can be judged" in verdict.reason
        assert verdict.baseline is None and verdict.p_value is None
    assert silent.without_reference == 3


def test_a_failed_baseline_hypothesis_is_not_an_improvement() -> None:
    test, guard = corpus(60), corpus(20, "r", domain="retention")
    before = hyps(test + guard, lambda number: 1)
    before[0] = before[0].model_copy(update={"error": "out of memory"})
    verdict = verdict_on(test + guard, before, hyps(test + guard, lambda number: 0, "tuned"), params())
    assert verdict.outcome == "inconclusive" and "the baseline failed on 1" in verdict.reason
    assert "1 baseline hypotheses have errors and count as fully wrong: t000" in verdict.notes[0]


def test_a_missing_hypothesis_is_an_error_not_a_verdict() -> None:
    test = corpus(20)
    whole = hyps(test, lambda number: 1)
    with pytest.raises(UsageError, match="no hypothesis: t019"):
        verdict_on(test, whole, whole[:-1], params())


def test_the_same_inputs_give_the_same_bytes_and_read_back(tmp_path: Any) -> None:
    first, second = (judge(lambda number: 4, lambda number: number % 5) for _ in range(2))
    write_json(tmp_path / "verdict.json", first)
    assert (tmp_path / "verdict.json").read_text() == second.model_dump_json(indent=2) + "\n"
    assert read_json(tmp_path / "verdict.json", Verdict) == first
    with pytest.raises(ValidationError):
        first.outcome = "pass"  # type: ignore[misc]


def suite(before: Wrong, after: Wrong, size: int = 15, kind: str = "benchmark", margin: float = 0.02) -> Any:
    rows = corpus(size, speaker="")
    return judge_suite(
        "digits", kind, rows, hyps(rows, before), hyps(rows, after, "tuned"), margin, 0.1, params()
    )  # fmt: skip


def test_a_suite_without_utterances_fails() -> None:
    assert suite(lambda number: 0, lambda number: 0, size=0).outcome == "fail"


def test_a_small_suite_passes_only_when_no_utterance_lost_a_word() -> None:
    assert suite(lambda number: 1, lambda number: 1 - (number == 0), size=3).outcome == "pass"
    lost = suite(lambda number: 1, lambda number: {0: 2, 1: 0}.get(number, 1), size=3)
    assert lost.outcome == "inconclusive" and lost.details["lost_words_in"] == ["t000"]


def test_a_suite_that_lost_more_than_its_margin_fails() -> None:
    result = suite(lambda number: 1, lambda number: 2)
    assert result.outcome == "fail" and result.reason == "WER rose by 10.00 points, 2.00 points are allowed."


def test_a_critical_suite_fails_whatever_its_margin() -> None:
    assert suite(lambda number: 1, lambda number: 3, kind="critical", margin=0.5).outcome == "fail"
    assert suite(lambda number: 1, lambda number: 3, margin=0.5).outcome == "pass"


def test_a_suite_that_gains_more_than_it_loses_passes_by_its_bound() -> None:
    result = suite(lambda number: 3, lambda number: 4 if number == 0 else 1, size=30)
    assert result.outcome == "pass" and "below the margin" in result.reason


def test_a_suite_that_the_candidate_cannot_hear_does_not_pass() -> None:
    rows = corpus(15)
    broken = [row.model_copy(update={"error": "no audio"}) for row in hyps(rows, lambda number: 0)]
    result = judge_suite("digits", "benchmark", rows, broken, broken, 0.02, 0.1, params())
    assert result.outcome == "inconclusive" and len(result.details["candidate_errors_in"]) == 15


def test_the_order_of_utterances_and_hypotheses_does_not_matter() -> None:
    test, guard = corpus(60), corpus(20, "r", domain="retention")
    before = hyps(test + guard, lambda number: 3)
    after = hyps(test + guard, lambda number: number % 4, "tuned")
    verdict = verdict_on(test + guard, before, after, params())
    assert verdict_on((guard + test)[::-1], before[::-1], after, params()) == verdict


def test_one_more_speaker_never_makes_a_verdict_impossible() -> None:
    """With 10 or 11 speakers, speakers as units would be fewer than min_clusters."""
    rows = [row.model_copy(update={"speaker": f"s{number % 11}"}) for number, row in enumerate(corpus(60))]
    verdict = verdict_on(rows, hyps(rows, lambda number: 4), hyps(rows, lambda number: 2, "tuned"), params())
    assert (verdict.unit, verdict.clusters, verdict.speakers) == ("recording", 60, 11)


def test_texts_without_blanks_are_judged_by_character_and_said_so_once() -> None:
    said = "今天天气很好我们去公园"
    test = [row.model_copy(update={"reference": said}) for row in corpus(40)]
    old, new = (
        [row.model_copy(update={"text": text, "model": model}) for row in hyps(test, lambda number: 0)]
        for text, model in (("今天天汽很好我门去工园", "base"), (said, "tuned"))
    )
    verdict = verdict_on(test, old, new, params(require_retention=False))
    assert verdict.passed and verdict.measure == "CER" and verdict.words == 40 * len(said)
    assert "Corpus CER 27.3 % -> 0.0 %" in verdict.reason and "440 characters" in verdict.reason
    assert verdict.normalizer == "spoken-3, by character"
    assert "WER" not in " ".join([verdict.reason, verdict.claim, *verdict.notes])
    assert sum("every character counts" in note for note in verdict.notes) == 1
    assert verdict.verify()
