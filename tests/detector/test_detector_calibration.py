import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss, roc_auc_score

from mondegreen.config import DetectorParams
from mondegreen.detector.calibration import (
    ReferencedUtterance,
    _groups,
    _other_definition,
    calibrate,
    collect,
    fits,
    save,
    type_thresholds,
)
from mondegreen.detector.detector import Calibration, ErrorDetector, TypeThresholds, error_types
from mondegreen.detector.evaluation import report
from mondegreen.detector.features import UNKNOWN_ACOUSTICS, Acoustics, Features
from mondegreen.detector.logistic import STRENGTHS, _cross_fitted, choose_strength, fit
from mondegreen.errors import CaseError
from mondegreen.records import Hypothesis, Utterance
from mondegreen.scoring.metrics import join
from tests.detector.detector_corpus import MODEL, corpus, examples, hypothesis

PARAMS = DetectorParams()
CLEAN = Features(
    confidence=0.95, worst_word=0.9, word_errors=0.1, nbest_margin=8.0, nbest_disagreement=0.0, too_slow=0.0,
    too_fast=0.0, repeats=0.0, out_of_lexicon=0.0, burst=0.0, snr=30.0, clipped=0.0,
)  # fmt: skip


def scores_of(detector: ErrorDetector, members: list[ReferencedUtterance]) -> np.ndarray:
    return np.array([detector.detect_measured(item.scored.hypothesis, item.acoustics).error_score for item in members])


def test_a_planted_relation_is_recovered() -> None:
    utterances, hypotheses, chances = corpus(800, seed=3, strength=3.0)
    found = calibrate(examples(utterances, hypotheses, "train", "dev"), PARAMS, "spoken", 7)
    tested = examples(utterances, hypotheses, "test")
    wrong = np.array([item.misheard(0) for item in tested])
    chance = chances[[utterance.split == "test" for utterance in utterances]]
    scores = scores_of(ErrorDetector(PARAMS, found), tested)
    best = roc_auc_score(wrong, chance)
    assert best > 0.9 and roc_auc_score(wrong, scores) > best - 0.02
    assert np.mean(np.abs(scores - chance)) < 0.1
    assert found.roc_auc == pytest.approx(best, abs=0.05) and found.calibration_error < 0.1


def test_corrected_cases_teach_without_moving_the_base_rate() -> None:
    """Production kept only what looked misheard: most of it is. What else it hears is as good as before."""
    few = examples(*corpus(160, seed=11, strength=3.0, base=-1.5)[:2], "train", "dev")
    utterances, hypotheses, chances = corpus(800, seed=12, strength=3.0, base=-1.5, split="train")
    flagged = [
        ReferencedUtterance(
            replace(item.scored, utterance=item.scored.utterance.model_copy(update={"condition": "failed_cases"})),
            item.acoustics,
        )
        for item, chance in zip(examples(utterances, hypotheses, "train"), chances, strict=True)
        if chance > 0.5
    ]
    assert len(flagged) > 150 and np.mean([item.misheard(0) for item in flagged]) > 0.7
    alone, both = (calibrate(known, PARAMS, "spoken", 7) for known in (few, [*few, *flagged]))
    assert (both.utterances, both.misheard, both.recordings) == (alone.utterances, alone.misheard, alone.recordings)
    assert (both.cases, both.data != alone.data) == (len(flagged), True)
    tested = corpus(1000, seed=13, strength=3.0, base=-1.5, split="test")
    fresh = examples(*tested[:2], "test")
    wrong = np.array([item.misheard(0) for item in fresh])
    errors = {}
    for name, found in (("alone", alone), ("both", both)):
        scores = scores_of(ErrorDetector(PARAMS, found), fresh)
        errors[name] = float(np.mean(np.abs(scores - tested[2])))
        assert abs(scores.mean() - wrong.mean()) < 0.06
    assert errors["both"] < errors["alone"] + 0.01


@pytest.mark.parametrize(
    ("rates", "advice"),
    [
        ([0.1] * 20 + [0.4] * 20, "Set detector.error_wer: 0.1 in params.yaml: above that WER 20 of these 40"),
        ([0.01] * 20 + [0.02] * 20, "Set detector.error_wer: 0.01 in params.yaml"),
        (
            [0.0] * 38 + [0.5] * 2,
            "No detector.error_wer parts them: write references for recordings that the model mis",
        ),
        ([1.0] * 40, "recordings that the model hears rightly, too"),
    ],
)
def test_one_class_alone_names_the_definition_that_would_do(rates: list[float], advice: str) -> None:
    assert advice in _other_definition(rates)


@pytest.mark.parametrize("base", [0.0, 1.5])
def test_without_a_relation_the_score_is_the_base_rate(base: float) -> None:
    utterances, hypotheses, _ = corpus(400, seed=4, strength=0.0, base=base)
    learnt = examples(utterances, hypotheses, "train", "dev")
    found = calibrate(learnt, PARAMS, "spoken", 7)
    tested = examples(utterances, hypotheses, "test")
    scores = scores_of(ErrorDetector(PARAMS, found), tested)
    rate = np.mean([item.misheard(0) for item in learnt])
    assert np.abs(scores - rate).max() < 0.1
    result = report(tested, {0.0: found}, PARAMS, "spoken", 7).evaluations[0].slices[0].scorers[0].measures["roc_auc"]
    assert result.low is not None and result.high is not None and result.low < 0.5 < result.high


def test_few_data_keep_the_scores_nearer_to_the_base_rate() -> None:
    def spread(seed: int, count: int) -> float:
        generator = np.random.default_rng(seed)
        values = generator.normal(size=(400, 12))
        labels = generator.random(400) < 1 / (1 + np.exp(-2 * values[:, 0]))
        folds = np.array_split(np.arange(count), 5)
        return float(np.std(choose_strength(values[:count], labels[:count], folds)[1]))

    few, many = (np.mean([spread(seed, count) for seed in range(4)]) for count in (40, 400))
    assert few < 0.7 * many


def test_examples_that_no_penalty_can_judge_do_not_pull_the_scores_to_the_base_rate() -> None:
    def loss(seed: int) -> tuple[float, float]:
        generator = np.random.default_rng(seed)
        values = generator.normal(size=(150, 12))
        against = generator.random(150) < 0.04  # a few that no score can foresee
        labels = (values[:, 0] > -1.2) ^ against
        folds = np.array_split(np.arange(150), 5)
        chosen = choose_strength(values, labels, folds)[1]
        least = min(log_loss(labels, _cross_fitted(values, labels, folds, strength)) for strength in STRENGTHS)
        return float(log_loss(labels, chosen)), float(least)

    found, least = np.mean([loss(seed) for seed in range(8)], axis=0)
    assert found < 1.05 * least


def test_an_unknown_value_and_a_constant_feature_change_nothing() -> None:
    generator = np.random.default_rng(0)
    values = np.column_stack([generator.normal(size=200), np.full(200, 3.0), np.full(200, np.nan)])
    regression = fit(values, values[:, 0] + generator.normal(size=200) > 0, 1.0)
    assert regression.slopes[0] > 0 and regression.slopes[1:].tolist() == [0, 0]
    assert np.isfinite([*regression.means, *regression.scales, regression.intercept]).all()


@pytest.mark.parametrize("strength", [0.01, 1.0])
def test_a_fit_is_the_regression_on_values_that_are_standardised_as_far_as_they_are_known(strength: float) -> None:
    generator = np.random.default_rng(1)
    values = generator.normal(size=(120, 5)) * [0.1, 1, 5, 2, 1] + [0, 3, -2, 0, 0]
    labels = generator.random(120) < 1 / (1 + np.exp(-values[:, 1] + 3))
    values[generator.random((120, 5)) < 0.2] = np.nan
    values[:, 3], values[:, 4] = 7.0, np.nan
    known = np.isfinite(values)
    counts = np.maximum(known.sum(axis=0), 1)
    means = np.where(known, values, 0).sum(axis=0) / counts
    deviations = np.where(known, values - means, 0)
    scales = np.sqrt((deviations**2).sum(axis=0) / counts)
    scales[scales < 1e-9] = 1
    wanted = LogisticRegression(C=strength, max_iter=10_000, tol=1e-8).fit(deviations / scales, labels)
    found = fit(values, labels, strength)
    assert found.means == pytest.approx(means, abs=1e-12) and found.scales == pytest.approx(scales, abs=1e-12)
    assert found.slopes == pytest.approx(wanted.coef_[0], abs=1e-6)
    assert found.intercept == pytest.approx(wanted.intercept_[0], abs=1e-6)
    assert found.scores(values) == pytest.approx(wanted.predict_proba(deviations / scales)[:, 1], abs=1e-6)


# What the first version of the file held.
WRITTEN = {
    "version": 1, "model": MODEL, "error_wer": 0.0, "normalizer": "spoken-1", "lexicon_file": "", "data": "0",
    "splits": ["train", "dev"], "utterances": 80, "misheard": 41, "recordings": 40, "regularisation": 0.03,
    "roc_auc": 0.861163, "calibration_error": 0.148858,
    "operating": [{"goal": "precision", "at": 0.85, "threshold": 0.55043}],
    "thresholds": {
        "confidence": 0.83, "rate": 3.0, "repeats": 0.3, "out_of_lexicon": 0.5, "burst": 2.0, "snr": 12.0,
        "clipped": 0.01,
    },
    "rate": {"centre": 2.48491, "spread": 0.05}, "intercept": 0.0822475,
    "features": {
        "confidence": {"mean": 2.05023, "scale": 0.889772, "weight": -0.300879},
        "worst_word": {"mean": 2.05023, "scale": 0.889772, "weight": -0.300879},
        "word_errors": {"mean": 0.224623, "scale": 1.34126, "weight": 0.285394},
        "nbest_margin": {"mean": 8.0, "scale": 1.0, "weight": 0.0},
        "nbest_disagreement": {"mean": 5.58917e-05, "scale": 1.0, "weight": 0.0},
        "too_slow": {"mean": 6.7002e-05, "scale": 1.0, "weight": 0.0},
        **{
            name: {"mean": 0.0, "scale": 1.0, "weight": 0.0}
            for name in ("too_fast", "repeats", "out_of_lexicon", "burst", "snr", "clipped")
        },
    },
    "lexicon": [],
}  # fmt: skip


def test_a_calibration_of_an_earlier_version_gives_the_scores_that_it_gave() -> None:
    calibration = Calibration.model_validate_json(json.dumps(WRITTEN))
    wanted = {0.2: 0.6635801285403162, 0.6: 0.5183419954151132, 0.95: 0.3132087452939987}
    found = {
        confidence: calibration.score(calibration.contributions(replace(CLEAN, confidence=confidence)))
        for confidence in wanted
    }
    assert found == pytest.approx(wanted, abs=1e-9)


def test_examples_that_share_a_recording_or_a_text_through_others_are_one_group() -> None:
    utterances, hypotheses, _ = corpus(30, seed=2, strength=1.0)
    texts = ["one", "two", "one two", "two", "alone", "one two"]
    changed = [
        utterance.model_copy(update={"recording": recording, "reference": text})
        for utterance, recording, text in zip(utterances, ["a", "b", "c", "c", "d", "a"], texts, strict=False)
    ]
    scored = join(changed, hypotheses[:6], "spoken").scored
    found = _groups([ReferencedUtterance(scored=pair, acoustics=UNKNOWN_ACOUSTICS) for pair in scored])
    assert found == [0, 0, 0, 0, 4, 0]


def test_one_class_gives_a_base_rate_that_is_not_certain() -> None:
    regression = fit(np.zeros((18, 2)), np.ones(18, bool), 1.0)
    assert 1 / (1 + np.exp(-regression.intercept)) == pytest.approx(19 / 20)


@settings(max_examples=3, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(words=st.lists(st.sampled_from(["please", "line", "balte"]), min_size=1, max_size=5), heard=st.text(max_size=20))
def test_test_references_and_hypotheses_never_reach_the_calibration(
    tmp_path: Path, words: list[str], heard: str
) -> None:
    utterances, hypotheses, _ = corpus(160, seed=5, strength=3.0)
    before = save(_collected(utterances, hypotheses), tmp_path / "before").read_bytes()
    changed = [u.model_copy(update={"reference": " ".join(words)}) if u.split == "test" else u for u in utterances]
    tests = {u.id for u in utterances if u.split == "test"}
    other = [h.model_copy(update={"text": heard, "confidence": 0.1}) if h.id in tests else h for h in hypotheses]
    assert save(_collected(changed, other), tmp_path / "after").read_bytes() == before


def _collected(utterances: list[Utterance], hypotheses: list[Hypothesis]):  # type: ignore[no-untyped-def]
    return calibrate(examples(utterances, hypotheses, "train", "dev"), PARAMS, "spoken", 7)


def test_an_example_of_the_test_set_is_refused() -> None:
    utterances, hypotheses, _ = corpus(160, seed=5, strength=3.0)
    with pytest.raises(ValueError, match="test"):
        calibrate(examples(utterances, hypotheses, "train", "test"), PARAMS, "spoken", 7)
    with pytest.raises(ValueError, match="train"):
        report(examples(utterances, hypotheses, "train", "test"), {}, PARAMS, "spoken", 7)


def test_the_same_data_give_the_same_bytes(tmp_path: Path) -> None:
    utterances, hypotheses, _ = corpus(160, seed=5, strength=3.0)
    first, second = (save(_collected(utterances, hypotheses), tmp_path / str(n)).read_bytes() for n in (1, 2))
    assert first == second


def test_a_changed_train_reference_makes_the_calibration_old() -> None:
    utterances, hypotheses, _ = corpus(160, seed=5, strength=3.0)
    found = _collected(utterances, hypotheses)
    learnt = examples(utterances, hypotheses, "train", "dev")

    def holds(members: list[ReferencedUtterance], params: DetectorParams = PARAMS, seed: int = 7) -> bool:
        return fits(found, members, params, "spoken", seed, ("train", "dev"))

    assert holds(learnt)
    first = next(index for index, item in enumerate(utterances) if item.split == "train")
    changed = [u.model_copy(update={"reference": "balte"}) if n == first else u for n, u in enumerate(utterances)]
    assert not holds(examples(changed, hypotheses, "train", "dev"))
    other = [item.model_copy(update={"model": "cd" * 32}) for item in hypotheses]
    assert not holds(examples(utterances, other, "train", "dev"))
    assert not holds(learnt, DetectorParams(error_wer=0.25)) and not holds(learnt, seed=8)
    assert not fits(found, learnt, PARAMS, "english", 7, ("train", "dev"))
    assert not fits(found, learnt, PARAMS, "spoken", 7, ("dev",))


def test_the_lexicon_of_an_example_does_not_hold_its_own_words() -> None:
    """Each reference has a word of its own; heard rightly, it is out of the lexicon all the same."""
    utterances, hypotheses, _ = corpus(80, seed=6, strength=3.0, split="train")
    for index, (utterance, heard) in enumerate(zip(utterances, hypotheses, strict=True)):
        own = " own" + "abcdefghij"[index // 2 % 10] + "klmnopqrst"[index // 20]  # both copies of a recording say it
        utterances[index] = utterance.model_copy(update={"reference": utterance.reference + own})
        hypotheses[index] = heard.model_copy(update={"text": heard.text + own})
    found = calibrate(examples(utterances, hypotheses, "train"), PARAMS, "spoken", 7, ("train",))
    assert found.features["out_of_lexicon"].mean == pytest.approx(1 / 7, abs=1e-5)
    assert sum(word.startswith("own") for word in found.lexicon) == 40


def test_too_few_references_or_one_class_is_a_refusal_with_counts() -> None:
    utterances, hypotheses, _ = corpus(20, seed=1, strength=3.0, split="train")
    with pytest.raises(CaseError, match="of 20 utterances"):
        calibrate(examples(utterances, hypotheses, "train"), PARAMS, "spoken", 7)
    utterances, hypotheses, _ = corpus(100, seed=1, strength=0.0, base=30.0, split="train")
    with pytest.raises(CaseError, match="100 were misheard, 0 heard rightly") as caught:
        calibrate(examples(utterances, hypotheses, "train"), PARAMS, "spoken", 7)
    assert "No detector.error_wer parts them" in caught.value.next_step  # one wrong word of six in each
    utterances, hypotheses, _ = corpus(100, seed=1, strength=0.0, base=-30.0, split="train")
    with pytest.raises(CaseError, match="0 were misheard, 100 heard rightly"):
        calibrate(examples(utterances, hypotheses, "train"), PARAMS, "spoken", 7)
    with pytest.raises(CaseError, match="of 0 utterances"):
        calibrate([], PARAMS, "spoken", 7)


@pytest.mark.parametrize("recordings", [1, 4, 5])
def test_fewer_recordings_than_folds_are_a_refusal(recordings: int) -> None:
    utterances, hypotheses, _ = corpus(60, seed=5, strength=3.0, split="train")
    few = [item.model_copy(update={"recording": str(n % recordings)}) for n, item in enumerate(utterances)]
    if recordings < 5:
        with pytest.raises(CaseError, match=f"come from {recordings} recordings"):
            calibrate(examples(few, hypotheses, "train"), PARAMS, "spoken", 7, ("train",))
    else:
        found = calibrate(examples(few, hypotheses, "train"), PARAMS, "spoken", 7, ("train",))
        assert found.recordings == 5


def test_empty_transcripts_do_not_bend_the_fit() -> None:
    utterances, hypotheses, _ = corpus(200, seed=5, strength=3.0, split="train")
    silent = [
        hypothesis("", 0.99, id=item.id, nbest=[]) if index % 4 == 0 else item for index, item in enumerate(hypotheses)
    ]
    found = calibrate(examples(utterances, silent, "train"), PARAMS, "spoken", 7, ("train",))
    detector = ErrorDetector(PARAMS, found)
    scores = [detector.detect(hypothesis("balte bamse danse fonte", value)).error_score for value in (0.97, 0.6)]
    assert scores[0] < 0.5 < scores[1] and detector.detect(silent[0]).error_score == 1
    assert found.utterances == 200 and found.misheard >= 50


def test_calibration_reads_waveforms_of_the_wanted_splits_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = "mondegreen.detector.calibration"
    monkeypatch.setattr(f"{module}.load_audio", lambda path, **_: opened.append(path.name) or np.ones(9))
    opened: list[str] = []
    utterances, hypotheses, _ = corpus(16, seed=1, strength=1.0)
    steps: list[int] = []
    found = collect(utterances, hypotheses, ("dev",), "spoken", steps.append)
    assert opened == [u.path for u in utterances if u.split == "dev"] and steps == [1, 2, 3, 4]
    assert all(item.acoustics == Acoustics(pytest.approx(np.nan, nan_ok=True), 1.0) for item in found)


@given(count=st.integers(20, 120), seed=st.integers(0, 2**32), scale=st.sampled_from([0.1, 1, 10]))
def test_at_most_a_twentieth_of_the_rightly_heard_get_a_type(count: int, seed: int, scale: float) -> None:
    values = np.random.default_rng(seed).exponential(scale, size=(count, 12))
    values[:, 10:] = np.where(values[:, 10:] > 2 * scale, np.nan, values[:, 10:])  # SNR, clipping
    right = [Features(*row) for row in values.tolist()]
    limits = type_thresholds(right)
    types = [kind for item in right for kind in error_types(item, limits)]
    assert all(types.count(kind) <= 0.05 * count for kind in types)


def test_built_in_thresholds_stay_where_they_do_no_harm() -> None:
    assert type_thresholds([CLEAN] * 19) == TypeThresholds()
    assert type_thresholds([CLEAN] * 40) == TypeThresholds(confidence=0.95)
