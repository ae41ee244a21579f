"""Phrases beside the search: against a search of every text, and against the plain search."""

import itertools
import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mondegreen.errors import VocabularyError
from mondegreen.scoring.phrases import PhraseList, list_of
from mondegreen.speech.boosting import Boost, BoostedSearch, boosted_search
from mondegreen.speech.decoding import LogProbs, Vocabulary, align, best_path, greedy, prefix_beam_search
from tests.speech.test_decoding import FRAME, lattice, spelled, text_log_probs

LETTERS = Vocabulary(("<pad>", "|", *"ABCDEIJKLMNOPRSTUVZ'"), blank=0, special=frozenset({0}))
TINY = Vocabulary(("<pad>", "|", "A", "B"), blank=0, special=frozenset({0}))
BARE = Vocabulary(("<pad>", "A", "B", "C"), blank=0, delimiter="", special=frozenset({0}))
lists = st.lists(
    st.tuples(st.text("AB ", min_size=1, max_size=5).filter(str.strip), st.floats(0.1, 3)),
    min_size=1, max_size=4, unique_by=lambda item: " ".join(item[0].split()),
)  # fmt: skip


def listed(*phrases: object, strength: float = 1.0) -> PhraseList:
    return list_of(phrases, "the test", strength)  # type: ignore[arg-type]


def weighed(pairs: Sequence[tuple[str, float]]) -> PhraseList:
    return listed(*({"phrase": phrase, "weight": weight} for phrase, weight in pairs))


def earned(text: str, pairs: Sequence[tuple[str, float]], units: bool) -> float:
    """What whole phrases of a text earn at most when none shares a word: every way to cut it into phrases and words."""
    parts = list(text) if units else text.split()
    phrases = {tuple(phrase if units else phrase.split()): weight for phrase, weight in pairs}
    best = [0.0]
    for end in range(1, len(parts) + 1):
        ways = [best[end - 1]]
        for phrase, weight in phrases.items():
            if len(phrase) <= end and tuple(parts[end - len(phrase) : end]) == phrase:
                ways.append(best[end - len(phrase)] + weight * sum(map(len, phrase)))
        best.append(max(ways))
    return best[-1]


@given(frames=st.integers(1, 5), seed=st.integers(0, 10_000), pairs=lists)
@settings(max_examples=60, deadline=None)
def test_a_wide_beam_finds_every_text_with_its_probability_and_what_its_phrases_earn(
    frames: int, seed: int, pairs: list[tuple[str, float]]
) -> None:
    log_probs = lattice(frames, 4, seed)
    search = BoostedSearch(TINY, 10_000, Boost(weighed(pairs), TINY))
    search.run(log_probs, -math.inf)
    heard = search.heard()
    assert {item.text: item.log_prob for item in heard} == pytest.approx(text_log_probs(log_probs, TINY), abs=1e-5)
    assert [item.credit for item in heard] == pytest.approx([earned(item.text, pairs, False) for item in heard])
    ranks = [item.log_prob + item.credit for item in heard]
    assert ranks == sorted(ranks, reverse=True)


@given(seed=st.integers(0, 10_000), pairs=lists)
@settings(max_examples=30, deadline=None)
def test_without_a_delimiter_phrases_begin_anywhere(seed: int, pairs: list[tuple[str, float]]) -> None:
    pairs = list({phrase.replace(" ", "C"): weight for phrase, weight in pairs}.items())
    search = BoostedSearch(BARE, 10_000, Boost(weighed(pairs), BARE))
    search.run(lattice(4, 4, seed), -math.inf)
    for item in search.heard():
        assert item.credit == pytest.approx(earned(item.text, pairs, True))


@given(frames=st.integers(0, 40), seed=st.integers(0, 10_000), sharpness=st.floats(0.0, 20.0), width=st.integers(1, 20))
@settings(max_examples=40, deadline=None)
@pytest.mark.parametrize("phrases", [listed(), listed("AB", "B A", strength=0.0), listed("AB\u00e9")])
def test_a_list_without_effect_gives_exactly_the_plain_search(
    phrases: PhraseList, frames: int, seed: int, sharpness: float, width: int
) -> None:
    log_probs = lattice(frames, 4, seed, sharpness)
    boosted = boosted_search(log_probs, TINY, FRAME, Boost(phrases, TINY), width, 5)
    assert boosted == (greedy(log_probs, TINY, FRAME), prefix_beam_search(log_probs, TINY, width, 5))


@given(frames=st.integers(0, 40), seed=st.integers(0, 10_000), pairs=lists, width=st.integers(1, 16))
@settings(max_examples=60, deadline=None)
def test_only_a_phrase_that_is_heard_changes_the_text(
    frames: int, seed: int, pairs: list[tuple[str, float]], width: int
) -> None:
    log_probs = lattice(frames, 4, seed)
    plain = greedy(log_probs, TINY, FRAME)
    heard, alternatives = boosted_search(log_probs, TINY, FRAME, Boost(weighed(pairs), TINY), width, 5)
    phrases = [phrase.split() for phrase, _ in pairs]
    words = heard.text.split()
    there = any(words[i : i + len(p)] == p for p in phrases for i in range(len(words)))
    assert heard == plain or there
    assert [word.text for word in heard.words] == words and 0 <= heard.confidence <= 1
    times = [moment for word in heard.words for moment in (word.start, word.end)]
    assert times == sorted(times) and all(0 <= moment <= frames * FRAME + 1e-9 for moment in times)
    if alternatives and there and heard != plain:
        assert alternatives[0].text == heard.text


@given(frames=st.integers(1, 30), seed=st.integers(0, 10_000), sharpness=st.floats(0.1, 20.0))
@settings(max_examples=40, deadline=None)
def test_the_best_paths_tokens_sound_when_the_best_path_has_them(frames: int, seed: int, sharpness: float) -> None:
    log_probs = lattice(frames, 4, seed, sharpness)
    path = best_path(log_probs, TINY)
    assert align(log_probs, [token.id for token in path], TINY) == path


@given(seed=st.integers(0, 10_000), tokens=st.lists(st.integers(1, 3), max_size=3))
@settings(max_examples=40, deadline=None)
def test_no_path_of_the_same_tokens_is_more_probable_than_the_alignment(seed: int, tokens: list[int]) -> None:
    log_probs = lattice(6, 4, seed)
    best = max(
        sum(float(log_probs[frame, token]) for frame, token in enumerate(path))
        for path in itertools.product(range(4), repeat=6)
        if [token for token, _ in itertools.groupby(path) if token] == tokens
    )
    found = align(log_probs, tokens, TINY)
    assert [token.id for token in found] == tokens
    inside = {frame: token.id for token in found for frame in range(token.start, token.end)}
    assert sum(float(log_probs[f, inside.get(f, 0)]) for f in range(6)) == pytest.approx(best, abs=1e-5)


# What is said, and what the acoustics make of it: a lattice that hesitates between the letters of two texts.
def doubtful(first: str, second: str, share: float = 0.6) -> LogProbs:
    width = max(len(first), len(second)) * 2
    one, two = ("-".join(text.replace(" ", "|")).ljust(width, "-") for text in (first, second))
    mixed = share * np.exp(spelled(one, 0.98, LETTERS)) + (1 - share) * np.exp(spelled(two, 0.98, LETTERS))
    return np.log(mixed).astype(np.float32)


def heard(log_probs: LogProbs, *phrases: object, strength: float = 1.0) -> str:
    boost = Boost(listed(*phrases, strength=strength), LETTERS)
    return boosted_search(log_probs, LETTERS, FRAME, boost)[0].text


@pytest.mark.parametrize(
    ("phrases", "said"),
    [
        (["zulu"], "TULU TANKS"),  # not said: not written
        (["Tula"], "TULA TANKS"),
        (["tula tanks"], "TULA TANKS"),
        (["tul"], "TULU TANKS"),  # only whole words
        (["tula comes"], "TULU TANKS"),  # credit for a beginning is taken back
        ([{"phrase": "Tula", "case": "keep"}], "Tula TANKS"),
        ([{"phrase": "Tula", "weight": 0}], "TULU TANKS"),
        ([{"phrase": "Zustand", "sounds_like": ["tulu tanks"]}], "ZUSTAND"),
        ([{"phrase": "1 & 1", "sounds_like": "tula"}], "1 & 1 TANKS"),  # written as no letters of the model
    ],
)
def test_a_phrase_that_the_audio_allows_is_written_as_a_whole(phrases: list[object], said: str) -> None:
    assert heard(doubtful("TULU TANKS", "TULA TANKS"), *phrases) == said


def test_a_rewritten_phrase_has_the_times_of_what_was_heard() -> None:
    log_probs = doubtful("NO ZOO STAND", "NO ZOO STAND")
    boost = Boost(listed({"phrase": "Zustand", "sounds_like": "zoo stand"}), LETTERS)
    plain = greedy(log_probs, LETTERS, FRAME)
    found, alternatives = boosted_search(log_probs, LETTERS, FRAME, boost)
    assert found.text == alternatives[0].text == "NO ZUSTAND" and plain.text == "NO ZOO STAND"
    assert found.words[0] == plain.words[0] and found.words[1].text == "ZUSTAND"
    assert (found.words[1].start, found.words[1].end) == (plain.words[1].start, plain.words[2].end)
    split = Boost(listed({"phrase": "zo o st and", "sounds_like": "zoo stand"}), LETTERS)
    words = boosted_search(log_probs, LETTERS, FRAME, split)[0].words
    assert [word.text for word in words] == ["NO", "ZO", "O", "ST", "AND"]
    assert (words[1].start, words[4].end) == (plain.words[1].start, plain.words[2].end)
    assert all(a.end == pytest.approx(b.start) for a, b in itertools.pairwise(words[1:]))


def test_what_the_vocabulary_cannot_write_is_named_and_left_out() -> None:
    boost = Boost(
        listed("Zustand", "1&1", {"phrase": "\u4f60", "sounds_like": ["ni", "n\u4f60"]}, "...", {"phrase": "ZU-STAND"}),
        LETTERS,
    )
    assert len(boost) == 3
    assert [item.phrase for item in boost.left_out] == ["1&1", "\u4f60", "..."]
    assert "DIGIT ONE" in str(boost.left_out[0]) and "holds no word" in str(boost.left_out[2])
    with pytest.raises(VocabularyError, match="phonemes"):
        Boost(listed("a"), Vocabulary(("<pad>", "a"), blank=0, separator=" "))


def test_two_phrases_that_the_model_spells_alike_are_not_both_taken() -> None:
    boost = Boost(listed("Jo-Ann", {"phrase": "Joan", "sounds_like": "jo ann"}), LETTERS)
    assert [str(item) for item in boost.left_out] == ["'Joan': the model spells it as 'Jo-Ann', which stands first"]


@pytest.mark.parametrize("strength", [0.5, 1.0])
def test_phrases_that_nobody_says_are_not_written(strength: float) -> None:
    """Lattices of silence, of murmur and of other speech; a list of names of several lengths."""
    names = ["Zustand", "Mondena", "Nika", "Rasputin", "Kiel", "Ann Arbor", "Slavko Dvorak", "Oslo"]
    boost = Boost(listed(*names, strength=strength), LETTERS)
    size = len(LETTERS.tokens)
    silence = [spelled("-" * 60, 0.95, LETTERS)] * 2
    noise = [lattice(60, size, seed, 1.0) for seed in range(20)]
    for row in noise:  # a model that hears no letter in noise: the blank takes nearly all
        row[:, 0] += 6.0
        row -= np.log(np.exp(row).sum(axis=1, keepdims=True))
    speech = [doubtful(a, b, 0.7) for a, b in itertools.permutations(["ONE TO TEN", "PLEASE STOP", "ALL IS LOST"], 2)]
    for log_probs in [*silence, *noise, *speech]:
        assert boosted_search(log_probs, LETTERS, FRAME, boost)[0] == greedy(log_probs, LETTERS, FRAME)
