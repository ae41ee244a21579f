import itertools
import json
import math
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import Wav2Vec2CTCTokenizer

from mondegreen.speech.decoding import (
    LogProbs,
    Vocabulary,
    greedy,
    prefix_beam_search,
    utterance_confidence,
)

TOKENS = ("<pad>", "<s>", "</s>", "<unk>", "|", "E", "T", "'", "L", "O")
VOCABULARY = Vocabulary(TOKENS, blank=0, special=frozenset({0, 1, 2, 3}))
TINY = Vocabulary(("<pad>", "|", "A", "B"), blank=0, special=frozenset({0}))
FRAME = 0.02


def lattice(num_frames: int, vocab_size: int, seed: int, sharpness: float = 2.0) -> LogProbs:
    logits = torch.randn(num_frames, vocab_size, generator=torch.Generator().manual_seed(seed)) * sharpness
    return logits.log_softmax(dim=-1).numpy()


def spelled(path: str, posterior: float = 0.9, vocabulary: Vocabulary = VOCABULARY) -> LogProbs:
    """A lattice whose best path is `path`; "-" is the blank."""
    probs = np.full((len(path), len(vocabulary.tokens)), (1 - posterior) / (len(vocabulary.tokens) - 1))
    for frame, token in enumerate(path):
        probs[frame, vocabulary.blank if token == "-" else vocabulary.tokens.index(token)] = posterior
    return np.log(probs).astype(np.float32)


def text_log_probs(log_probs: LogProbs, vocabulary: Vocabulary) -> dict[str, float]:
    """Every text's probability, by summing over every path."""
    totals: dict[str, float] = {}
    for path in itertools.product(range(log_probs.shape[1]), repeat=len(log_probs)):
        ids = [token for token, _ in itertools.groupby(path) if token != vocabulary.blank]
        text = " ".join(vocabulary.text(ids).split())
        log_prob = sum(float(log_probs[frame, token]) for frame, token in enumerate(path))
        totals[text] = totals.get(text, 0.0) + math.exp(log_prob)
    return {text: math.log(total) for text, total in totals.items()}


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Wav2Vec2CTCTokenizer:
    path: Path = tmp_path_factory.mktemp("tokenizer") / "vocab.json"
    path.write_text(json.dumps({token: index for index, token in enumerate(TOKENS)}))
    return Wav2Vec2CTCTokenizer(str(path))


@pytest.mark.parametrize("seed", range(40))
def test_greedy_text_is_that_of_transformers(tokenizer: Wav2Vec2CTCTokenizer, seed: int) -> None:
    log_probs = lattice(5 * seed, len(TOKENS), seed)
    assert greedy(log_probs, VOCABULARY, FRAME).text == tokenizer.batch_decode([log_probs.argmax(-1)])[0]


def test_greedy_words_have_times_and_confidence() -> None:
    result = greedy(spelled("--TTO-|-L-L'-|"), VOCABULARY, FRAME)
    assert result.text == "TO LL'"
    assert [(word.text, round(word.start, 2), round(word.end, 2)) for word in result.words] == [
        ("TO", 0.04, 0.1),
        ("LL'", 0.16, 0.24),
    ]
    assert [word.confidence for word in result.words] == pytest.approx([0.9, 0.9])
    assert result.confidence == pytest.approx(0.9)


def test_a_doubtful_word_has_less_confidence_than_a_clear_one() -> None:
    log_probs = np.concatenate([spelled("TO|", 0.95), spelled("LE", 0.4)])
    clear, doubtful = greedy(log_probs, VOCABULARY, FRAME).words
    assert doubtful.confidence < 0.5 < 0.9 < clear.confidence


def test_without_tokens_the_confidence_is_that_of_the_blank() -> None:
    result = greedy(spelled("----", 0.8), VOCABULARY, FRAME)
    assert (result.text, result.words) == ("", [])
    assert result.confidence == pytest.approx(0.8)
    assert utterance_confidence(np.empty((0, len(TOKENS)), np.float32), VOCABULARY) == 0.0


@given(frames=st.integers(0, 60), seed=st.integers(0, 10_000), sharpness=st.floats(0.0, 50.0))
@settings(max_examples=60, deadline=None)
def test_words_spell_the_text_in_order_of_time(frames: int, seed: int, sharpness: float) -> None:
    log_probs = lattice(frames, len(TOKENS), seed, sharpness)
    result = greedy(log_probs, VOCABULARY, FRAME)
    assert [word.text for word in result.words] == result.text.split()
    assert 0.0 <= result.confidence <= 1.0 and result.confidence == utterance_confidence(log_probs, VOCABULARY)
    times = [moment for word in result.words for moment in (word.start, word.end)]
    assert times == sorted(times) and all(0 <= moment <= frames * FRAME for moment in times)


@given(frames=st.integers(1, 5), seed=st.integers(0, 10_000))
@settings(max_examples=40, deadline=None)
def test_a_wide_beam_is_exact(frames: int, seed: int) -> None:
    log_probs = lattice(frames, 4, seed)
    expected = text_log_probs(log_probs, TINY)
    found = prefix_beam_search(log_probs, TINY, beam_width=10_000, nbest=10_000, token_floor=-math.inf)
    assert {item.text: item.score for item in found} == pytest.approx(expected, abs=1e-5)
    assert len(found) == len(expected)
    scores = [item.score for item in found]
    assert scores == sorted(scores, reverse=True)


@given(frames=st.integers(1, 5), seed=st.integers(0, 10_000), width=st.integers(1, 6))
@settings(max_examples=40, deadline=None)
def test_a_narrow_beam_never_scores_above_the_truth(frames: int, seed: int, width: int) -> None:
    log_probs = lattice(frames, 4, seed)
    expected = text_log_probs(log_probs, TINY)
    for item in prefix_beam_search(log_probs, TINY, beam_width=width, nbest=5):
        assert item.score <= expected[item.text] + 1e-5


def test_nbest_sums_paths_where_the_best_path_does_not() -> None:
    log_probs = np.log(np.array([[0.55, 1e-9, 0.45, 1e-9]] * 2)).astype(np.float32)
    assert greedy(log_probs, TINY, FRAME).text == ""
    best = prefix_beam_search(log_probs, TINY)[0]
    assert best.text == "A" and best.score == pytest.approx(math.log(1 - 0.55**2), abs=1e-5)


def test_nbest_has_distinct_texts_without_special_tokens() -> None:
    alternatives = prefix_beam_search(lattice(60, len(TOKENS), 3), VOCABULARY, nbest=10)
    texts = [item.text for item in alternatives]
    assert len(set(texts)) == len(texts) == 10
    assert not any("<" in text or "  " in text for text in texts)


def test_a_clear_utterance_comes_first_with_its_exact_score() -> None:
    log_probs = spelled("TTO--L-L-E", 0.97)
    best, *_ = prefix_beam_search(log_probs, VOCABULARY, beam_width=64)
    assert best.text == greedy(log_probs, VOCABULARY, FRAME).text == "TOLLE"
    labels = torch.tensor([TOKENS.index(letter) for letter in best.text])
    lengths = torch.tensor(len(log_probs)), torch.tensor(len(labels))
    loss = torch.nn.functional.ctc_loss(torch.from_numpy(log_probs).double(), labels, *lengths, reduction="none")
    assert best.score == pytest.approx(-loss.item(), abs=0.02)


def test_a_vocabulary_without_delimiter_is_one_word() -> None:
    bare = Vocabulary(("<pad>", "A", "B"), blank=0)
    log_probs = spelled("AA-AB", vocabulary=bare)
    assert greedy(log_probs, bare, FRAME).text == prefix_beam_search(log_probs, bare)[0].text == "AAB"


def test_long_lattices_do_not_underflow() -> None:
    best = prefix_beam_search(lattice(3000, len(TOKENS), 0, sharpness=0.1), VOCABULARY, beam_width=4)[0]
    assert math.isfinite(best.score) and best.score < -1000


def test_three_seconds_are_searched_in_milliseconds() -> None:
    log_probs = spelled("T--O--|--L--E-" * 11, 0.95)
    prefix_beam_search(log_probs, VOCABULARY)
    started = time.perf_counter()
    prefix_beam_search(log_probs, VOCABULARY, beam_width=16, nbest=5)
    assert time.perf_counter() - started < 0.1  # about 0.01 on a quiet machine
