import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mondegreen.detector.features import (
    HIGHEST_SNR,
    TYPE_OF,
    UNKNOWN_ACOUSTICS,
    Features,
    SpeechRate,
    features,
    measure,
    probability_of_errors,
    repeated_share,
)
from mondegreen.records import Alternative, Word
from tests.detector.detector_corpus import hypothesis

LEXICON = frozenset(["please", "hold", "the", "line"])


def measured(heard: object, lexicon: frozenset[str] = LEXICON, error_wer: float = 0.0) -> Features:
    return features(heard, UNKNOWN_ACOUSTICS, SpeechRate(centre=math.log(10), spread=0.5), lexicon, error_wer)


def certain(*confidences: float) -> list[Word]:
    return [Word(text="w", start=0, end=1, confidence=value) for value in confidences]


def test_every_feature_speaks_for_one_error_type() -> None:
    assert set(TYPE_OF) == set(Features.__dataclass_fields__)


def test_confidence_is_the_transcripts_own_and_the_worst_word_the_least() -> None:
    words = [Word(text=text, start=0, end=1, confidence=value) for text, value in (("hold", 0.9), ("line", 0.2))]
    found = measured(hypothesis("hold line", words=words, confidence=0.5))
    assert (found.confidence, found.worst_word) == (0.5, 0.2)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8), st.floats(0, 1))
def test_the_probability_of_errors_is_the_sum_over_all_outcomes(confidences: list[float], error_wer: float) -> None:
    total = 0.0
    for right in itertools.product([True, False], repeat=len(confidences)):
        if right.count(False) / len(right) > error_wer + 1e-9:
            total += math.prod(c if good else 1 - c for c, good in zip(confidences, right, strict=True))
    assert probability_of_errors(certain(*confidences), error_wer) == pytest.approx(total, abs=1e-9)


def test_a_thousand_words_are_no_trouble() -> None:
    assert probability_of_errors(certain(*[0.9] * 1000), 0.05) == pytest.approx(1.0, abs=1e-6)
    assert probability_of_errors(certain(*[0.9] * 1000), 0.15) == pytest.approx(0.0, abs=1e-6)


def test_the_rate_is_letters_a_second_against_the_references() -> None:
    # 17 letters in 1.7 seconds are 10 a second, the centre.
    assert measured(hypothesis("please hold the line", duration=1.7)).too_fast == pytest.approx(0, abs=1e-9)
    fast = measured(hypothesis("please hold the line", duration=0.85))
    assert fast.too_fast == pytest.approx(math.log(2) / 0.5) and fast.too_slow == 0
    slow = measured(hypothesis("please hold the line", duration=3.4))
    assert slow.too_slow == pytest.approx(math.log(2) / 0.5) and slow.too_fast == 0


@pytest.mark.parametrize(
    ("text", "share"),
    [
        ("please hold the line", 0),
        ("no no", 0),  # said twice is said for emphasis
        ("no no no", 1),
        ("oh no no no well", 3 / 5),
        ("the line the line the line", 1),
        ("hold the line the line the line now", 6 / 8),
        ("haha", 0),
        ("hahahaha", 1),
        ("oh aaaaaa", 6 / 8),
        ("", 0),
    ],
)
def test_repeats_are_the_share_of_words_or_letters_in_a_loop(text: str, share: float) -> None:
    assert repeated_share(text.split()) == pytest.approx(share)


@given(st.lists(st.sampled_from("abc"), max_size=30))
def test_repeats_are_a_share(words: list[str]) -> None:
    assert 0 <= repeated_share(words) <= 1


def test_out_of_lexicon_counts_words_and_the_longest_burst() -> None:
    found = measured(hypothesis("please xxx yyy hold zzz the line"))
    assert found.out_of_lexicon == pytest.approx(3 / 7) and found.burst == 2
    assert math.isnan(measured(hypothesis("please"), lexicon=frozenset()).out_of_lexicon)


def test_the_margin_and_the_disagreement_come_from_the_nbest_list() -> None:
    nbest = [
        Alternative(text="hold the line", score=math.log(0.6)),
        Alternative(text="hold a lion", score=math.log(0.3)),
        Alternative(text="hold the lion", score=math.log(0.1)),
    ]
    found = measured(hypothesis("HOLD THE LINE", nbest=nbest))
    assert found.nbest_margin == pytest.approx(math.log(2))
    assert found.nbest_disagreement == pytest.approx((0.3 * 2 + 0.1 * 1) / 3)
    alone = measured(hypothesis("hold", nbest=nbest[:1]))
    assert math.isnan(alone.nbest_margin) and alone.nbest_disagreement == pytest.approx(2)


@pytest.mark.parametrize("decibels", [5, 10, 15, 20, 30])
def test_the_snr_follows_the_planted_one(decibels: float) -> None:
    # Half of the time a tone of power 0.02, else silence; the loud frames hold tone and noise.
    seconds = np.arange(80_000) / 16_000
    tone = 0.2 * np.sin(2 * np.pi * 300 * seconds) * (seconds % 1 < 0.5)
    noise = np.random.default_rng(0).normal(0, math.sqrt(0.02 / 10 ** (decibels / 10)), 80_000)
    expected = 10 * math.log10(1 + 10 ** (decibels / 10))
    assert measure((tone + noise).astype(np.float32)).snr == pytest.approx(expected, abs=1.5)


def test_noise_alone_has_almost_no_snr_and_digital_silence_the_highest() -> None:
    assert measure(np.random.default_rng(0).normal(0, 0.1, 80_000).astype(np.float32)).snr < 2
    pauses = np.zeros(80_000, np.float32)
    pauses[20_000:40_000] = np.sin(np.arange(20_000) / 10) * 0.9
    assert measure(pauses).snr == HIGHEST_SNR


def test_clipping_is_the_share_at_full_scale() -> None:
    waveform = np.zeros(1000, np.float32)
    waveform[:30], waveform[30:50], waveform[50:90] = 1.0, -1.0, 0.9
    assert measure(waveform).clipped == pytest.approx(0.05)


def test_without_a_waveform_nothing_is_known() -> None:
    assert all(math.isnan(value) for value in measure(None))
    assert all(math.isnan(value) for value in measure(np.array([], np.float32)))
    assert math.isnan(measure(np.full(1, 0.5, np.float32)).snr)
