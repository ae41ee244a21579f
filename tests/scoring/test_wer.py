import jiwer
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from mondegreen.records import Rate
from mondegreen.scoring.wer import ErrorCounts, count_characters, count_words

small = st.integers(0, 50)
counts = st.builds(
    lambda s, d, i, hits: ErrorCounts(substitutions=s, deletions=d, insertions=i, reference_length=s + d + hits),
    small,
    small,
    small,
    small,
)
sentence = st.lists(st.sampled_from(["the", "cat", "sat", "on", "a", "mat"]), max_size=8).map(" ".join)


@given(counts, counts, counts)
def test_adding_is_associative_and_commutative_with_a_zero(a: ErrorCounts, b: ErrorCounts, c: ErrorCounts) -> None:
    assert (a + b) + c == a + (b + c)
    assert a + b == b + a
    assert a + ErrorCounts.zero() == a == sum([a], ErrorCounts.zero())
    assert (a + b).errors == a.errors + b.errors and (a + b).hits == a.hits + b.hits


@given(st.lists(st.tuples(sentence, sentence), min_size=1, max_size=6))
def test_the_sum_over_utterances_is_the_corpus_rate(pairs: list[tuple[str, str]]) -> None:
    references, hypotheses = (list(side) for side in zip(*pairs, strict=True))
    total = sum((count_words(*pair) for pair in pairs), ErrorCounts.zero())
    if total.reference_length:
        assert total.rate == pytest.approx(jiwer.wer(references, hypotheses))
        characters = sum((count_characters(*pair) for pair in pairs), ErrorCounts.zero())
        assert characters.rate == pytest.approx(jiwer.cer(references, hypotheses))


@given(sentence, sentence)
def test_counts_are_those_of_jiwer(reference: str, hypothesis: str) -> None:
    for count, process in ((count_words, jiwer.process_words), (count_characters, jiwer.process_characters)):
        ours, theirs = count(reference, hypothesis), process(reference, hypothesis)
        assert ours.hits == theirs.hits
        assert (ours.substitutions, ours.deletions, ours.insertions) == (
            theirs.substitutions,
            theirs.deletions,
            theirs.insertions,
        )


@pytest.mark.parametrize(
    ("reference", "hypothesis", "expected"),
    [
        ("a b c", "a x c d", ErrorCounts(1, 0, 1, 3)),
        ("a b c", "", ErrorCounts(0, 3, 0, 3)),
        ("", "a b", ErrorCounts(0, 0, 2, 0)),
        ("", "", ErrorCounts.zero()),
    ],
)
def test_known_word_counts(reference: str, hypothesis: str, expected: ErrorCounts) -> None:
    assert count_words(reference, hypothesis) == expected


def test_characters_count_spaces() -> None:
    assert count_characters("a b", "ab") == ErrorCounts(0, 1, 0, 3)


def test_a_rate_without_reference_is_an_error_not_a_number() -> None:
    with pytest.raises(ValueError, match="at least one token"):
        _ = count_words("", "a").rate


@pytest.mark.parametrize("numbers", [(-1, 0, 0, 5), (0, 0, -1, 5), (3, 3, 0, 5)])
def test_impossible_counts_are_refused(numbers: tuple[int, int, int, int]) -> None:
    with pytest.raises(ValueError):
        ErrorCounts(*numbers)


def test_a_mean_of_rates_cannot_be_written() -> None:
    two = count_words("a b", "a") + count_words("a", "b")
    with pytest.raises(TypeError):
        two / 2  # type: ignore[operator]
    with pytest.raises(TypeError):
        two + 0.5  # type: ignore[operator]
    with pytest.raises(TypeError):
        sum([two])  # type: ignore[type-var]


def test_the_record_holds_the_numbers() -> None:
    rate = ErrorCounts(1, 2, 3, 10).to_rate()
    assert (rate.errors, rate.rate, rate.reference_length) == (6, 0.6, 10)


def test_a_record_whose_kinds_do_not_add_up_is_refused() -> None:
    honest = ErrorCounts(1, 2, 3, 10).to_rate()
    with pytest.raises(ValidationError, match="errors must be the sum"):
        Rate.model_validate(honest.model_dump() | {"errors": 5})
