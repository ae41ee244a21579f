import pytest
from hypothesis import given
from hypothesis import strategies as st

from mondegreen.config import ValidateParams
from mondegreen.scoring.comparison import compare
from mondegreen.scoring.slices import (
    DURATIONS,
    WORD_CLASSES,
    Slice,
    band,
    bands,
    confusion_changes,
    names_in,
    slices,
    word_class,
)
from tests.scoring.examples import hypothesis, random_comparison, utterance


def named(rows: list[Slice]) -> dict[tuple[str, str], Slice]:
    return {(row.kind, row.name): row for row in rows}


def test_every_kind_adds_up_to_the_whole() -> None:
    comparison = random_comparison(1)
    snr = {pair.utterance.id: float(number % 40) for number, pair in enumerate(comparison.baseline)}
    found = slices(comparison, snr, samples=1000)
    words, errors = int(comparison.words.sum()), int(comparison.baseline_errors.sum())
    for kind in ("condition", "speaker", "duration", "snr", "confidence"):
        rows = [row for row in found if row.kind == kind]
        assert len(rows) > 1
        assert sum(row.utterances for row in rows) == len(comparison.baseline)
        assert sum(row.words for row in rows) == words
        assert sum(row.baseline.value * row.words for row in rows) == pytest.approx(errors)
    classes = [row for row in found if row.kind == "word class"]
    assert [row.name for row in classes] == [name for name in WORD_CLASSES if name != "names"]  # all in small letters
    assert sum(row.words for row in classes) == words
    lost = sum(pair.words.substitutions + pair.words.deletions for pair in comparison.candidate)
    assert sum(row.candidate.value * row.words for row in classes) == pytest.approx(lost)


def test_intervals_hold_their_value_and_resample_the_widest_unit_that_can_be() -> None:
    rows = slices(random_comparison(2, each=20), samples=1000)
    assert {row.kind for row in rows} == {"condition", "speaker", "duration", "confidence", "word class"}
    for row in rows:
        assert row.utterances > 1
        assert row.unit == ("recording" if row.kind == "speaker" else "speaker") and row.clusters > 1
        for estimate in (row.baseline, row.candidate, row.improvement):
            assert estimate.interval is not None
            assert estimate.interval[0] <= estimate.value <= estimate.interval[1]
        assert row.p_value is not None and 0 < row.p_value <= 1
        assert row.improvement.value == pytest.approx(row.baseline.value - row.candidate.value)


def test_known_slices_and_one_utterance_has_no_interval() -> None:
    utterances = [utterance("a", "press b", duration=1), utterance("b", "seven of nine", duration=2, condition="noisy")]
    baseline = [hypothesis("a", "press"), hypothesis("b", "seven oh nine two")]
    candidate = [hypothesis("a", "press b"), hypothesis("b", "heaven of nine")]
    found = named(slices(compare(utterances, baseline, candidate, ValidateParams())))
    assert {kind for kind, _ in found} == {"condition", "duration", "word class"}
    noisy = found["condition", "noisy"]
    assert (noisy.words, noisy.clusters, noisy.baseline.value, noisy.candidate.value) == (3, 1, 2 / 3, 1 / 3)
    assert noisy.baseline.interval is None
    assert found["duration", "under 2 s"].words == 2 and found["duration", "2 to 5 s"].words == 3
    losses = {
        name: (row.baseline.value, row.candidate.value) for (kind, name), row in found.items() if kind == "word class"
    }
    assert losses == {
        "numbers": (0, 0.5), "letters": (1, 0), "function words": (1, 0), "content words": (0, 0),
    }  # fmt: skip


def test_snr_is_a_slice_only_where_it_is_known() -> None:
    comparison = random_comparison(3)
    ids = [pair.utterance.id for pair in comparison.baseline]
    assert not any(row.kind == "snr" for row in slices(comparison, {ids[0]: 3.0}, samples=1000))
    known = {ids[0]: 3.0, ids[1]: 12.0, ids[2]: float("nan")}
    rows = [row for row in slices(comparison, known, samples=1000) if row.kind == "snr"]
    assert [(row.name, row.utterances) for row in rows] == [("under 5 dB", 1), ("10 to 20 dB", 1)]


def test_no_utterance_gives_no_slice() -> None:
    assert slices(compare([utterance("a", "")], [hypothesis("a")], [hypothesis("a")], ValidateParams())) == []


def test_confusions_of_both_models_stand_side_by_side() -> None:
    utterances = [utterance("a", "b b b c"), utterance("b", "c")]
    baseline = [hypothesis("a", "p p b c"), hypothesis("b", "c")]
    candidate = [hypothesis("a", "p b b"), hypothesis("b", "k c")]
    rows = confusion_changes(compare(utterances, baseline, candidate, ValidateParams()))
    assert [(row.reference, row.hypothesis, *row.counts) for row in rows] == [
        ("b", "p", 2, 1), (None, "k", 0, 1), ("c", None, 0, 1),
    ]  # fmt: skip


@given(st.floats(0, 1e4))
def test_a_number_falls_into_exactly_one_band(seconds: float) -> None:
    assert bands(DURATIONS, "s") == ["under 2 s", "2 to 5 s", "5 to 10 s", "10 to 20 s", "20 s and more"]
    assert band(seconds, DURATIONS, "s") == bands(DURATIONS, "s")[sum(seconds >= edge for edge in DURATIONS)]


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("oh", "numbers"), ("42", "numbers"), ("b", "letters"), ("a", "function words"), ("i", "function words"),
        ("don't", "function words"), ("operator", "content words"),
    ],
)  # fmt: skip
def test_word_classes(word: str, expected: str) -> None:
    assert word_class(word) == expected


@pytest.mark.parametrize(
    ("reference", "names"),
    [
        ("Then Ms. O'Brien saw Zo\u00eb's dog. Dogs bark.", {"ms", "o'brien", "zo\u00eb", "zo\u00eb's"}),
        ("THE ROAD TO DUNMARROW", set()),
        ("For Sales press B, or say NO", {"sales"}),
        ("", set()),
    ],
)
def test_names_are_what_a_reference_writes_with_a_capital_within_a_sentence(reference: str, names: set[str]) -> None:
    assert names_in(reference) == names
    assert {word_class(name, names_in(reference)) for name in names} <= {"names"}


def test_names_are_a_slice_of_their_own() -> None:
    utterances = [utterance("a", "The road to Dunmarrow was closed."), utterance("b", "We saw Dunmarrow")]
    heard = [[hypothesis("a", "the road to done marrow was closed"), hypothesis("b", "we saw dunmarrow")]] * 2
    found = named(slices(compare(utterances, *heard, ValidateParams())))["word class", "names"]
    assert (found.words, found.baseline.value) == (2, 0.5)
