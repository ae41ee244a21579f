"""Running suites: one batch, all must pass, and what cannot be shown shuts the gate."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from mondegreen.config import Params
from mondegreen.errors import UsageError
from mondegreen.progress import Advance
from mondegreen.records import Hypothesis, RegressionResults, SuiteResult, Utterance
from mondegreen.regression.runner import run_suites
from mondegreen.speech.corpus_transcription import CorpusTranscriber, corpus_transcriber
from tests.regression.regression_project import (
    ToneModel,
    entry,
    lose_last,
    small_params,
    write_index,
    write_suite,
    write_tone,
)

DATA = Path("data/regression")


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def run(
    candidate: ToneModel, baseline: ToneModel | None, index: Path, params: Params | None = None
) -> RegressionResults:
    before = corpus_transcriber(baseline.transcribe) if baseline else None
    return run_suites(index, corpus_transcriber(candidate.transcribe), before, params or small_params())


def only(results: RegressionResults) -> SuiteResult:
    (suite,) = results.suites
    return suite


def one_suite(columns: dict[int, dict[str, str]] | None = None, **fields: Any) -> Path:
    write_suite(DATA / "core", range(12), columns)
    return write_index(entry(**fields))


def test_a_model_that_loses_nothing_passes() -> None:
    results = run(ToneModel("new"), ToneModel("old"), one_suite(severity="major", owner="Ada"))
    suite = only(results)
    assert results.passed and results.reason == "1 suites passed" and suite.outcome == "pass"
    assert (results.model, results.baseline_model) == ("new", "old")
    assert suite.candidate and suite.candidate.wer.rate == 0 and (suite.severity, suite.owner) == ("major", "Ada")
    assert json.loads(json.dumps(results.to_dict()))["suites"][0]["details"]["clusters"] == 12
    assert RegressionResults.model_validate(results.to_dict()) == results


def test_a_model_that_loses_more_than_the_margin_fails() -> None:
    results = run(ToneModel(mishear=lose_last), ToneModel(), one_suite())
    assert not results.passed and results.reason == "not passed: core"
    assert "points are allowed" in only(results).reason and results.critical_degradation == []


def test_many_pieces_of_few_calls_are_too_few_recordings_to_pass() -> None:
    once = ToneModel(mishear=lambda text, sound: text.removesuffix(" now") if text.startswith("please") else text)
    assert only(run(once, ToneModel(), one_suite(margin=0.2))).outcome == "pass"
    calls = {number: {"source": f"call {number % 3}; cut by hand"} for number in range(12)}
    suite = only(run(once, ToneModel(), one_suite(calls, margin=0.2)))
    assert suite.outcome == "inconclusive" and "3 recordings" in suite.reason


def test_a_critical_suite_fails_whatever_its_margin_and_is_named() -> None:
    index = one_suite(type="critical", margin=0.9)
    results = run(ToneModel(mishear=lose_last), ToneModel(), index)
    assert not results.passed and results.critical_degradation == ["core"]
    assert (
        results.reason.startswith("CRITICAL DEGRADATION in core")
        and "no critical suite may lose" in only(results).reason
    )
    loose = run(ToneModel(mishear=lose_last), ToneModel(), index, small_params(fail_on_critical_degradation=False))
    assert loose.passed and loose.critical_degradation == ["core"]  # the margin alone judges; it is still named
    far = run(ToneModel(mishear=lose_last), ToneModel(), index, small_params(critical_degradation_threshold=0.5))
    assert far.passed and far.critical_degradation == []


def test_all_suites_are_heard_in_one_batch_and_a_shared_file_once() -> None:
    write_suite(DATA / "core", range(12))
    write_suite(DATA / "more", range(3, 14))
    padding = {"kind": "invariance", "change": "padding"}
    index = write_index(
        entry(), entry("more"), entry("again", references="core/references.csv"),
        entry("padded", type="behaviour", references="core/references.csv", behaviour=padding),
    )  # fmt: skip
    batches: list[list[str]] = []

    def hear(utterances: Sequence[Utterance], on_progress: Advance) -> list[Hypothesis]:
        batches.append([row.path for row in utterances])
        return corpus_transcriber(ToneModel().transcribe).transcribe(utterances, on_progress)

    results = run_suites(index, CorpusTranscriber(hear), CorpusTranscriber(hear), small_params())
    assert results.passed and [suite.name for suite in results.suites] == ["core", "more", "again", "padded"]
    assert len(batches) == 2 and len(batches[0]) == 12 + 11 + 12  # a batch a model
    assert batches[0][:12] == [f"data/regression/core/audio/{n:02}.wav" for n in range(12)]
    assert len(set(batches[0])) == len(batches[0])


def test_a_suite_that_cannot_run_fails_and_the_others_still_run() -> None:
    write_suite(DATA / "core", range(12))
    write_suite(DATA / "empty", [])
    write_suite(DATA / "gone", range(3))
    (DATA / "gone/audio/01.wav").unlink()
    write_suite(DATA / "cut", range(3))
    (DATA / "cut/audio/01.wav").write_bytes((DATA / "cut/audio/01.wav").read_bytes()[:200])
    write_suite(DATA / "machine", range(3), {1: {"source": "llm"}})
    names = ("empty", "gone", "cut", "machine", "nowhere", "core")
    results = run(ToneModel(), ToneModel(), write_index(*map(entry, names)))
    outcomes = {suite.name: suite.outcome for suite in results.suites}
    assert outcomes == dict.fromkeys(names, "fail") | {"core": "pass"} and not results.passed
    reasons = {suite.name: suite.reason for suite in results.suites}
    for name, part in (("empty", "names no recordings"), ("gone", "references.csv:3"), ("cut", "01.wav is truncated"),
                       ("machine", "references.csv:3: field source"), ("nowhere", "does not exist")):  # fmt: skip
        assert "the suite did not run" in reasons[name] and part in reasons[name]


def test_a_model_that_breaks_the_batch_fails_only_the_suite_that_breaks_it() -> None:
    write_suite(DATA / "core", range(12))
    write_suite(DATA / "poison", range(12, 14))

    def hear(utterances: Sequence[Utterance], on_progress: Advance) -> list[Hypothesis]:
        if any("poison" in row.path for row in utterances):
            raise MemoryError("out of memory")
        return corpus_transcriber(ToneModel().transcribe).transcribe(utterances, on_progress)

    index = write_index(entry("poison"), entry())
    healthy = corpus_transcriber(ToneModel().transcribe)
    for candidate, baseline in ((CorpusTranscriber(hear), healthy), (healthy, CorpusTranscriber(hear))):
        results = run_suites(index, candidate, baseline, small_params())
        assert [suite.outcome for suite in results.suites] == ["fail", "pass"]
        assert "MemoryError: out of memory" in results.suites[0].reason


@pytest.mark.parametrize("shorten", [lambda rows: rows[:-1], lambda rows: rows[::-1], lambda rows: []])
def test_a_model_that_leaves_out_or_mixes_up_hypotheses_fails(shorten: Any) -> None:
    def hear(utterances: Sequence[Utterance], on_progress: Advance) -> list[Hypothesis]:
        return shorten(corpus_transcriber(ToneModel().transcribe).transcribe(utterances, on_progress))

    results = run_suites(
        one_suite(), CorpusTranscriber(hear), corpus_transcriber(ToneModel().transcribe), small_params()
    )
    assert not results.passed and "one for each of 12 recordings" in only(results).reason


@pytest.mark.parametrize("answer", [None, 7, b"bytes", {"words": []}, "\ud800"])
def test_a_clip_without_a_text_counts_as_fully_wrong_and_is_named(answer: Any) -> None:
    class Odd(ToneModel):
        def transcribe(self, path: str) -> Any:
            if path.endswith("03.wav"):
                if answer is None:
                    return None
                return answer
            return super().transcribe(path)

    for baseline in (ToneModel(), Odd()):
        suite = only(run(Odd(), baseline, one_suite(margin=0.5)))
        assert suite.outcome == "inconclusive" and "core/audio/03.wav" in suite.reason
        assert suite.details["candidate_errors_in"] == ["core/audio/03.wav"]
        assert suite.candidate and suite.candidate.wer.deletions == 5  # all words of "your call cannot be completed"


def test_a_model_that_raises_on_one_clip_is_no_exception() -> None:
    class Fragile(ToneModel):
        def transcribe(self, path: str) -> str:
            if path.endswith("03.wav"):
                raise ValueError("bad clip")
            return super().transcribe(path)

    suite = only(run(Fragile(), ToneModel(), one_suite()))
    assert suite.outcome == "fail" and "core/audio/03.wav (ValueError: bad clip)" in suite.reason


@pytest.mark.parametrize("content", ["suites: []", "suites: [", None])
def test_no_suites_are_no_pass(content: str | None) -> None:
    index = DATA / "suites.yaml"
    if content is not None:
        index.parent.mkdir(parents=True)
        index.write_text(content)
    results = run(ToneModel(), ToneModel(), index)
    assert not results.passed and results.suites == [] and str(index) in results.reason


def test_a_model_is_not_its_own_baseline() -> None:
    index = one_suite()
    with pytest.raises(UsageError, match="the same model"):
        run(ToneModel("same"), ToneModel("same"), index)
    assert run(ToneModel("same"), ToneModel("other"), index).passed


GUARD = {1: {"must_contain": "do not", "must_not_contain": "please"}}  # "do not delete the message"


def drops(word: str) -> ToneModel:
    return ToneModel(mishear=lambda text, sound: text.replace(word, "").strip() if text.startswith("do not") else text)


def test_a_guard_that_the_baseline_meets_blocks_and_names_the_sample() -> None:
    suite = only(run(drops("not "), ToneModel(), one_suite(GUARD, margin=0.9)))
    assert suite.outcome == "fail" and "core/audio/01.wav: 'do not' is missing" in suite.reason
    inserts = ToneModel(mishear=lambda text, sound: f"please {text}" if "do not" in text else text)
    suite = only(run(inserts, ToneModel(), one_suite(GUARD, margin=0.9)))
    assert suite.outcome == "fail" and "'please' was heard" in suite.reason
    assert only(run(ToneModel(), ToneModel(), one_suite(GUARD))).outcome == "pass"


def test_a_guard_looks_for_words_and_not_for_letters() -> None:
    undone = ToneModel(mishear=lambda text, sound: text.replace("do not", "do nothing") if "do not" in text else text)
    assert only(run(undone, ToneModel(), one_suite(GUARD, margin=0.9))).outcome == "fail"


def test_a_guard_that_the_baseline_breaks_as_well_is_reported_and_does_not_block() -> None:
    suite = only(run(drops("not "), drops("not "), one_suite(GUARD)))
    assert suite.outcome == "pass"
    assert suite.details["guards"]["not_met_by_baseline"] == [
        "core/audio/01.wav: 'do not' is missing, not met by the baseline either"
    ]
    required = {1: GUARD[1] | {"required": "yes"}}
    assert only(run(drops("not "), drops("not "), one_suite(required))).outcome == "fail"
    # Another fault than the baseline's is not excused by it.
    inserts = ToneModel(mishear=lambda text, sound: f"please {text}" if "do not" in text else text)
    assert only(run(inserts, drops("not "), one_suite(GUARD, margin=0.9))).outcome == "fail"


STORED = {"baseline_wer": 0.1, "baseline_cer": 0.1, "baseline_version": "7", "baseline_normalizer": "spoken-3"}


def digest_of_core() -> str:
    from mondegreen.regression.suites import read_suite_data

    return read_suite_data("core", DATA / "core/references.csv", "spoken").digest


def stored_suite(columns: dict[int, dict[str, str]] | None = None, **fields: Any) -> Path:
    write_suite(DATA / "core", range(12), columns)
    return write_index(entry(**({"baseline_data": digest_of_core()} | STORED | fields)))


def test_without_a_baseline_model_the_stored_numbers_and_the_margin_judge() -> None:
    suite = only(run(ToneModel(), None, stored_suite()))
    assert (
        suite.outcome == "pass" and "WER fell by 10.00 points against the stored baseline of version 7" in suite.reason
    )
    suite = only(run(ToneModel(mishear=lose_last), None, stored_suite(margin=0.1)))  # 12 of 59 words: 20.34 %
    assert suite.outcome == "fail" and "WER is 10.34 points above the stored baseline of version 7" in suite.reason
    assert only(run(ToneModel(mishear=lose_last), None, stored_suite(margin=0.15))).outcome == "pass"
    critical = run(ToneModel(mishear=lose_last), None, stored_suite(margin=0.15, type="critical"))
    assert not critical.passed and critical.critical_degradation == ["core"]


def test_a_cer_that_was_stored_judges_as_well() -> None:
    suite = only(run(ToneModel(mishear=lose_last), None, stored_suite(margin=0.15, baseline_cer=0.01)))
    assert suite.outcome == "fail" and "CER is" in suite.reason and "WER is" not in suite.reason


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"baseline_wer": None, "baseline_cer": None}, "no baseline is stored"),
        ({"baseline_data": "0" * 64}, "the suite changed since"),
        ({"baseline_data": ""}, "the suite changed since"),
        ({"baseline_normalizer": "english-1"}, "normaliser english-1"),
    ],
)
def test_a_stored_baseline_that_does_not_hold_shuts_the_gate_and_says_what_to_do(
    fields: dict[str, Any], problem: str
) -> None:
    index = stored_suite(**fields)
    suite = only(run(ToneModel(), None, index))
    assert suite.outcome == "fail" and problem in suite.reason.lower()
    assert "mondegreen regression baseline core --model MODEL" in suite.reason
    paired = only(run(ToneModel(), ToneModel(), index))  # the baseline is scored again, on these data
    assert paired.outcome == "pass" and paired.baseline and paired.baseline.wer.rate == 0
    if "baseline_wer" not in fields:
        assert "scored again" in paired.details["stored_baseline"]["not_compared"]


def test_changed_data_make_the_stored_baseline_unfit() -> None:
    index = stored_suite()
    assert only(run(ToneModel(), None, index)).outcome == "pass"
    write_tone(DATA / "core/audio/00.wav", 13)
    assert "changed since" in only(run(ToneModel(), None, index)).reason


def test_small_losses_of_many_rounds_do_not_add_up_where_a_baseline_is_stored() -> None:
    weak = ToneModel(mishear=lose_last)
    suite = only(run(weak, ToneModel(mishear=lose_last), stored_suite(baseline_wer=0.0)))
    assert suite.outcome == "fail" and suite.details["loss"] == 0  # no loss against the last model, but in all


def test_without_a_baseline_model_nothing_excuses_a_guard() -> None:
    suite = only(run(drops("not "), None, stored_suite(GUARD, margin=0.5)))
    assert suite.outcome == "fail" and "'do not' is missing" in suite.reason
