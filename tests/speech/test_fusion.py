"""A language model beside the search: against every text's score, and against the plain search."""

import itertools
import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mondegreen.scoring.phrases import PhraseList
from mondegreen.speech.boosting import Boost, BoostedSearch, boosted_search
from mondegreen.speech.decoding import PrefixSearch, Vocabulary, greedy, prefix_beam_search
from mondegreen.speech.fusion import Fusion, Lexicon
from mondegreen.speech.kneser_ney import language_model
from mondegreen.speech.ngram import END_ID, UNKNOWN_ID, NGramModel
from tests.speech.test_boosting import BARE, LETTERS, TINY, doubtful, earned, lists, weighed
from tests.speech.test_decoding import FRAME, lattice, text_log_probs

TEXT = [line.split() for line in ("A AB B", "AB A", "b b a", "<unk> A", "AÉ B")]
MODEL = language_model(TEXT, 3, (0,))[0]
weights = st.tuples(st.floats(0, 2), st.floats(-2, 3))
NONE = PhraseList()


def spelt(lexicon: Lexicon, word: str, vocabulary: Vocabulary) -> float:
    """Log probability of an unknown word's letters, and of its end."""
    letters, total = lexicon.letters.begin, 0.0
    for token in [*(3 + vocabulary.tokens.index(letter) for letter in word), END_ID]:
        score, letters = lexicon.letters.score(letters, token)
        total += score
    return total


def worth(text: str, fusion: Fusion, vocabulary: Vocabulary) -> float:
    """What the words of a text earn, one after the other."""
    model, history, total = fusion.model, fusion.model.begin, 0.0
    words = text.split() if vocabulary.delimiter_id is not None else list(text)
    for word in words:
        index = next((model.ids[form] for form in sorted((word, word.lower())) if form in model.ids), UNKNOWN_ID)
        score, history = model.score(history, index)
        total += model.alpha * (score + (spelt(fusion.lexicon, word, vocabulary) if index == UNKNOWN_ID else 0.0))
    return total + model.beta * len(words) + model.alpha * model.score(history, END_ID)[0]


@given(frames=st.integers(0, 5), seed=st.integers(0, 10_000), pairs=lists, numbers=weights)
@settings(max_examples=60, deadline=None)
@pytest.mark.parametrize("vocabulary", [TINY, BARE])
def test_a_wide_beam_finds_every_text_with_what_its_words_and_phrases_earn(
    vocabulary: Vocabulary, frames: int, seed: int, pairs: list[tuple[str, float]], numbers: tuple[float, float]
) -> None:
    if vocabulary is BARE:
        pairs = list({phrase.replace(" ", "C"): weight for phrase, weight in pairs}.items())
    log_probs, fusion = lattice(frames, 4, seed), Fusion(MODEL.at(*numbers), vocabulary)
    search = BoostedSearch(vocabulary, 10_000, Boost(weighed(pairs), vocabulary), fusion)
    search.run(log_probs, -math.inf)
    heard = search.heard()
    assert {item.text: item.log_prob for item in heard} == pytest.approx(
        text_log_probs(log_probs, vocabulary), abs=1e-5
    )
    for item in heard:
        expected = worth(item.text, fusion, vocabulary) + earned(item.text, pairs, vocabulary is BARE)
        assert item.credit == pytest.approx(expected, abs=1e-6)
    ranks = [item.log_prob + item.credit for item in heard]
    assert all(a >= b - 1e-9 for a, b in itertools.pairwise(ranks))


@given(frames=st.integers(0, 40), seed=st.integers(0, 10_000), sharpness=st.floats(0.0, 20.0), width=st.integers(1, 20))
@settings(max_examples=40, deadline=None)
def test_without_weights_it_is_exactly_the_plain_search(frames: int, seed: int, sharpness: float, width: int) -> None:
    log_probs = lattice(frames, 4, seed, sharpness)
    found = boosted_search(log_probs, TINY, FRAME, Boost(NONE, TINY), width, 5, fusion=Fusion(MODEL.at(0, 0), TINY))
    assert found == (greedy(log_probs, TINY, FRAME), prefix_beam_search(log_probs, TINY, width, 5))


@given(frames=st.integers(1, 40), seed=st.integers(0, 10_000), numbers=weights, width=st.integers(1, 16))
@settings(max_examples=60, deadline=None)
@pytest.mark.parametrize("vocabulary", [TINY, BARE])
def test_words_times_and_alternatives_belong_to_the_text(
    vocabulary: Vocabulary, frames: int, seed: int, numbers: tuple[float, float], width: int
) -> None:
    log_probs, fusion = lattice(frames, 4, seed), Fusion(MODEL.at(*numbers), vocabulary)
    boost = Boost(NONE, vocabulary)
    heard, alternatives = boosted_search(log_probs, vocabulary, FRAME, boost, width, 5, fusion=fusion)
    assert heard.text == (alternatives[0].text if any(numbers) else greedy(log_probs, vocabulary, FRAME).text)
    assert [word.text for word in heard.words] == heard.text.split() and 0 <= heard.confidence <= 1
    times = [moment for word in heard.words for moment in (word.start, word.end)]
    assert times == sorted(times) and all(0 <= moment <= frames * FRAME + 1e-9 for moment in times)
    assert len({item.text for item in alternatives}) == len(alternatives) <= 5


class _Patient:
    """Of a search: one that tries every token of every frame, and keeps all until the frame is over."""

    def _stayed(self, row: list[float]) -> tuple[object, object, float]:
        beams, _, _ = super()._stayed(row)  # type: ignore[misc]
        return beams, [], 0.0


@given(
    frames=st.integers(1, 30), seed=st.integers(0, 10_000), pairs=st.just([]) | lists,
    numbers=st.none() | weights, width=st.integers(1, 8),
)  # fmt: skip
@settings(max_examples=100, deadline=None)
def test_nothing_is_pruned_early_that_would_survive_its_frame(
    frames: int, seed: int, pairs: list[tuple[str, float]], numbers: tuple[float, float] | None, width: int
) -> None:
    """To the last bit, of the plain search too."""

    class PatientPlain(_Patient, PrefixSearch):
        pass

    class PatientBoosted(_Patient, BoostedSearch):
        pass

    log_probs, boost = lattice(frames, 4, seed, 3.0), Boost(weighed(pairs), TINY)
    fusion = Fusion(MODEL.at(*numbers), TINY) if numbers else None
    plain: list[PrefixSearch] = [kind(TINY, width) for kind in (PrefixSearch, PatientPlain)]
    boosted: list[PrefixSearch] = [kind(TINY, width, boost, fusion) for kind in (BoostedSearch, PatientBoosted)]
    for searches in (plain, boosted):
        found = []
        for search in searches:
            search.run(log_probs, -math.inf)
            kept = sorted((search.tokens(node), pair) for node, pair in search.beams.items())
            found.append((kept, search.log_scale))
        assert found[0] == found[1]


def model_of(*lines: str) -> NGramModel:
    return language_model([line.split() for line in lines], 3, (0,))[0]


@pytest.mark.parametrize(
    ("alpha", "beta", "said"),
    [
        (0.0, 0.0, "TULU TANKS"),
        (0.5, 0.0, "TULA TANKS"),  # the word that the model knows
        (0.02, 0.0, "TULU TANKS"),  # what is heard counts for more
        (0.5, -40.0, "TULATANKS"),  # each word costs: fewer are written
    ],
)
def test_the_weights_say_how_much_the_words_count(alpha: float, beta: float, said: str) -> None:
    fusion = Fusion(model_of("TULA TANKS", "SEE TULA", "TANKS COME").at(alpha, beta), LETTERS)
    log_probs = doubtful("TULU TANKS", "TULA TANKS")
    assert boosted_search(log_probs, LETTERS, FRAME, Boost(NONE, LETTERS), fusion=fusion)[0].text == said


def test_a_word_that_the_model_does_not_know_is_heard_where_the_sound_is_clear() -> None:
    fusion = Fusion(model_of("SEE TULA", "TULA TANKS").at(0.5, 1.0), LETTERS)
    clear = doubtful("SEE OSLO", "SEE OSLO")
    assert boosted_search(clear, LETTERS, FRAME, Boost(NONE, LETTERS), fusion=fusion)[0].text == "SEE OSLO"


def test_words_that_the_letters_cannot_write_are_never_heard() -> None:
    lexicon = Lexicon(model_of("tula AÉ TU-LA 3 Tula"), LETTERS)
    spelt: Sequence[str] = ["".join(LETTERS.tokens[ord(token)] for token in word) for word in lexicon.spellings]
    assert spelt == ["TULA"]
    assert Lexicon(model_of("3 4"), LETTERS).spellings == []
    fusion = Fusion(model_of("3 4"), LETTERS)
    spot = fusion.start
    for token in [5] * 400:  # a word whose letters' probability is no number any more
        spot = fusion.next(spot, token)
    assert np.isfinite(spot.credit) and np.isfinite(fusion.whole(spot))
