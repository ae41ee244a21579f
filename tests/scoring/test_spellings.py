"""Both normalisers side by side, and why they differ."""

import pytest

from mondegreen.scoring.metrics import join, score
from mondegreen.scoring.spellings import Spellings, spellings
from tests.scoring.examples import hypothesis, utterance


def found(said: str, a: str, b: str) -> Spellings:
    rows = [utterance(f"{number:016x}", reference=said) for number in range(10)]
    sides = tuple([hypothesis(row.id, text) for row in rows] for text in (a, b))
    rates = tuple(score(join(rows, side).scored).wer for side in sides)
    return spellings(rows, (sides[0], sides[1]), "spoken", (rates[0], rates[1]))


@pytest.mark.parametrize(
    ("said", "a", "b", "cause"),
    [
        (
            "call twenty three now",
            "call twenty tree now",
            "call 23 now",
            "digits: none of the references, none of A, 10",
        ),
        ("hold the line", "hold the lime", "[laughter] hold the line uh", "brackets such as [laughter]: none of the"),
        ("hold the line", "hold the lime", "um uh hold the line", "fillers such as uh and um: none of the references"),
    ],
)
def test_spelling_that_decides_which_is_better_is_named(said: str, a: str, b: str, cause: str) -> None:
    comparison = found(said, a, b)
    assert "DEPENDS ON THE NORMALISER" in comparison.warning
    assert any(item.startswith(cause) for item in comparison.causes), comparison.causes


def test_spelling_that_moves_a_rate_is_named_and_what_counts_under_neither_is_not() -> None:
    comparison = found("we will not go", "we won't go", "he could stay here")
    curly = found("don't hold the line", "don’t hold the line", "do hold a line")
    assert curly.warning == "spelling counts" and curly.causes[0].startswith("curly apostrophes: none of the ref")
    assert comparison.warning == "spelling counts" and comparison.causes[0].startswith("contractions")
    plain = found("Don't hold, the LINE.", "don't hold the line", "DON'T hold the lime")
    assert (plain.warning, plain.causes) == ("", ()) and plain.a == 0 and plain.b > 0
