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


@pytest.mark.parametrize(
    ("outcome", "uncorrected", "said"),
    [
        ("inconclusive", 0, "correct more cases"),
        ("inconclusive", 3, "correct 3 cases (`mondegreen review`)"),
        ("fail", 0, "whose verdict is `fail`, which the gate refuses"),
        ("none", 0, "which nobody has judged"),
        ("", 0, "which nobody has judged"),
    ],
)
def test_nobody_is_sent_to_a_gate_that_refuses(outcome: str, uncorrected: int, said: str) -> None:
    metrics = {"new_error_cases": uncorrected, "new_corrected_cases": 0}
    conditions: dict[str, Any] = {"should_trigger": False, "rest": None, "metrics": metrics}
    step = next_step(None, None, conditions, None, {"challenger": 1}, outcome=outcome)
    assert said in step and "deploy" not in step
    assert outcome in ("none", "") or "`mondegreen models show 1` says what is missing" in step
    assert WAITS in next_step(None, None, conditions, None, {"challenger": 1}, outcome="pass")
