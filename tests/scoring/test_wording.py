"""Numbers in words: counts agree with their nouns, and a loss is said without the sign of an improvement."""

import pytest

from mondegreen.scoring.wording import at_most, many, moved


@pytest.mark.parametrize(("number", "said"), [(0, "0 rounds"), (1, "1 round"), (2, "2 rounds"), (1500, "1,500 rounds")])
def test_a_count_agrees_with_its_noun(number: int, said: str) -> None:
    assert many(number, "round") == said


@pytest.mark.parametrize(
    ("loss", "went", "bound"),
    [
        (0.0264, "rose by 2.64 points", "did not rise by more than 2.64 points"),
        (-0.0012, "fell by 0.12 points", "fell by at least 0.12 points"),
        (0.0, "did not move", "did not rise by more than 0.00 points"),
    ],
)
def test_a_loss_has_no_sign(loss: float, went: str, bound: str) -> None:
    assert (moved(loss), at_most(loss)) == (went, bound)
