"""The acoustic check: forward scores on the audio, and the margin that human references give."""

import itertools
import math
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mondegreen.config import Params
from mondegreen.errors import UsageError
from mondegreen.labels.acoustic import (
    MIN_REFERENCES,
    AcousticScorer,
    ScoringRequest,
    ctc_log_likelihood,
    load_scorer,
    quantile_margin,
)
from mondegreen.speech.model import load_model
from tests.tiny import save_model


def by_brute_force(log_probs: np.ndarray, label: list[int]) -> float:
    """Sums every path of tokens that collapses to the label; token 0 is the blank."""
    frames, tokens = log_probs.shape
    total = -math.inf
    for path in itertools.product(range(tokens), repeat=frames):
        if [token for token, _ in itertools.groupby(path) if token] == label:
            total = np.logaddexp(total, sum(log_probs[frame, token] for frame, token in enumerate(path)))
    return float(total)


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 10_000), frames=st.integers(1, 5), label=st.lists(st.integers(1, 2), max_size=4))
def test_a_forward_score_is_the_sum_over_all_paths(seed: int, frames: int, label: list[int]) -> None:
    logits = np.random.default_rng(seed).normal(size=(frames, 3))
    log_probs = (logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))).astype(np.float32)
    expected = by_brute_force(log_probs, label)
    assert ctc_log_likelihood(log_probs, label, 0) == pytest.approx(expected, abs=1e-5)


def by_forward_algorithm(log_probs: np.ndarray, label: list[int]) -> float:
    """Graves et al., 2006, equations 6 to 8, in logarithms; token 0 is the blank."""
    states = [0, *(token for letter in label for token in (letter, 0))]
    alpha = np.full(len(states), -np.inf)
    alpha[:2] = log_probs[0, states[:2]]
    for frame in log_probs[1:].astype(np.float64):
        before = alpha.copy()
        for state, token in enumerate(states):
            ways = [before[state], *before[max(state - 1, 0) : state]]
            if state > 1 and token and token != states[state - 2]:
                ways.append(before[state - 2])
            alpha[state] = np.logaddexp.reduce(ways) + frame[token]
    return float(np.logaddexp.reduce(alpha[-2:]))


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 10_000), frames=st.integers(1, 40), label=st.lists(st.integers(1, 3), max_size=15))
@example(seed=1, frames=3, label=[1, 1])  # just long enough for a repeated letter, with a blank between
@example(seed=1, frames=2, label=[1, 1])  # one frame too few
@example(seed=1, frames=2, label=[1, 2, 3])
@example(seed=1, frames=5, label=[])
def test_a_log_likelihood_is_that_of_the_forward_algorithm(seed: int, frames: int, label: list[int]) -> None:
    logits = 2 * np.random.default_rng(seed).normal(size=(frames, 4))
    log_probs = (logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))).astype(np.float32)
    expected = by_forward_algorithm(log_probs, label)
    assert ctc_log_likelihood(log_probs, label, blank=0) == pytest.approx(expected, rel=1e-5)
    fits = frames >= len(label) + sum(left == right for left, right in itertools.pairwise(label))
    assert math.isfinite(expected) == fits


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("acoustic")
    save_model(folder / "model")
    for number, seconds in enumerate((0.5, 1.3, 0.8)):
        noise = np.random.default_rng(number).normal(0, 0.1, round(16_000 * seconds))
        soundfile.write(folder / f"{number}.wav", noise, 16_000)
    return folder


@pytest.fixture
def scorer(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AcousticScorer:
    monkeypatch.chdir(tmp_path)
    return AcousticScorer(load_model(str(project / "model")))


def test_what_was_heard_falls_by_nothing_and_punctuation_by_nothing_either(
    project: Path, scorer: AcousticScorer
) -> None:
    request = ScoringRequest(project / "0.wav", "THE LINE", ("THE LINE", "the line.", "the lime"))
    same, punctuated, other = scorer.falls([request])[0]
    assert same == punctuated == 0 and other != 0


def test_a_fall_is_the_difference_of_the_scores_for_each_frame(project: Path, scorer: AcousticScorer) -> None:
    from mondegreen.speech.audio import load_audio
    from mondegreen.speech.model import encode, log_probabilities

    lattice = log_probabilities(scorer.model, [encode(scorer.model, load_audio(project / "1.wav"))])[0]
    ids = {token: index for index, token in enumerate(scorer.model.vocabulary.tokens)}
    score = {text: ctc_log_likelihood(lattice, [ids[letter] for letter in text], 0) for text in ("AT", "ANT")}
    found = scorer.falls([ScoringRequest(project / "1.wav", "at", ("ant",))])[0][0]
    assert found == pytest.approx((score["AT"] - score["ANT"]) / len(lattice), abs=1e-4)


def test_company_in_a_batch_changes_no_score(project: Path, scorer: AcousticScorer) -> None:
    requests = [ScoringRequest(project / f"{number}.wav", "at one", ("at on", "an ounce")) for number in range(3)]
    assert scorer.falls(requests) == [scorer.falls([request])[0] for request in requests]
    assert scorer.falls([requests[0], ScoringRequest(project / "1.wav", "x", ()), requests[2]])[1] == []


def test_what_cannot_be_written_or_does_not_fit_has_no_score(project: Path, scorer: AcousticScorer) -> None:
    digits, long = scorer.falls([ScoringRequest(project / "0.wav", "one", ("1", "one " * 60))])[0]
    assert digits is None and long == math.inf
    assert "'1'" in scorer.unwritable("press 1") and scorer.unwritable("press, one!") == ""


def test_the_margin_lets_the_wanted_share_of_the_references_pass() -> None:
    falls = [0.01 * number for number in range(1, 101)]
    for keep in (0.1, 0.5, 0.9):
        found = quantile_margin(falls, keep)
        assert found is not None
        assert sum(fall <= found for fall in falls) / len(falls) == pytest.approx(keep, abs=0.011)
    assert quantile_margin([-0.5] * 50, 0.5) == 0, "what fits better than what was heard asks for no tolerance"


def test_too_few_references_give_no_margin() -> None:
    assert quantile_margin([0.1] * (MIN_REFERENCES - 1) + [None, math.inf], 0.5) is None
    assert quantile_margin([0.1] * MIN_REFERENCES, 0.5) == 0.1


def test_weights_that_changed_since_the_hypotheses_are_refused(project: Path) -> None:
    params = Params.model_validate({"model": {"base": str(project / "model")}})
    assert load_scorer(params, load_model(str(project / "model")).digest).unwritable("one") == ""
    with pytest.raises(UsageError, match="dvc repro --force transcribe"):
        load_scorer(params, "ab" * 32)
