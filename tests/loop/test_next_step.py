"""The one thing that `mondegreen status` says to do."""

from typing import Any

import pytest

from mondegreen.loop.status import next_step

WAITS = "`mondegreen models deploy 1`"


@pytest.mark.parametrize(
    ("aliases", "said"),
    [
        ({}, "Put recordings into data/"),
        ({"challenger": 1}, WAITS),
        ({"champion": 1}, "Nothing: failed cases come in"),
        ({"champion": 1, "challenger": 2}, "Nothing: failed cases come in"),  # a round's end says whether it passed
    ],
    ids=["nothing", "a first version", "in production", "another"],
)
def test_a_version_that_no_round_made_is_not_forgotten(aliases: dict[str, int], said: str) -> None:
    metrics = {"new_error_cases": 0, "new_corrected_cases": 0}
    conditions: dict[str, Any] = {"should_trigger": False, "rest": None, "metrics": metrics}
    assert said in next_step(None, None, conditions, None, aliases)
