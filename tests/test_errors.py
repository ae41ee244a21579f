"""What an error says of a field."""

import math
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from mondegreen.config import Params
from mondegreen.errors import first_fault
from mondegreen.scoring.phrases import PhraseList


@pytest.mark.parametrize(
    ("kind", "given", "field", "said"),
    [
        (PhraseList, {"strenght": 1}, "strenght", "there is no such field (is strength meant?)"),
        (Params, {"validte": {}}, "validte", "there is no such field (is validate meant?)"),
        (Params, {"train": {"lora_rnk": 4}}, "train.lora_rnk", "there is no such field (is lora_rank meant?)"),
        (PhraseList, {"phrases": [{"phrase": "a", "wieght": 1}]}, "phrases.0.wieght", "(is weight meant?)"),
        (Params, {"train": {"zzzzz": 4}}, "train.zzzzz", "there is no such field"),
        (PhraseList, {"phrases": [{"phrase": "a", "class": "b"}]}, "the whole record", "phrase 'a': class 'b'"),
    ],
)
def test_a_field_that_there_is_not_is_told_with_one_like_it(
    kind: type[BaseModel], given: dict[str, Any], field: str, said: str
) -> None:
    with pytest.raises(ValidationError) as refused:
        kind.model_validate(given)
    fault = first_fault(refused.value, kind)
    assert fault.field == field and said in fault.message and (fault.message.endswith("?)") or "?" not in said)
    assert "Extra inputs" not in fault.message and "Value error" not in fault.message


@pytest.mark.parametrize(
    ("given", "field", "said"),
    [
        ({"train": {"merge_weights": [0.5, 1, 1.5]}}, "train.merge_weights.2", "less than or equal to 1"),
        ({"train": {"merge_weights": [-0.25, 1]}}, "train.merge_weights.0", "greater than or equal to 0"),
        ({"seed": -1}, "seed", "greater than or equal to 0"),
        ({"seed": 2**32}, "seed", "less than 4294967296"),
        ({"train": {"batch_seconds": math.inf}}, "train.batch_seconds", "finite number"),
        ({"train": {"learning_rate": math.nan}}, "train.learning_rate", "finite number"),
        ({"select": {"replay_ratio": math.inf}}, "select.replay_ratio", "finite number"),
        ({"gcp": {"max_hours": math.inf}}, "gcp.max_hours", "finite number"),
        ({"trigger": {"window_hours": 1e9}}, "trigger.window_hours", "less than or equal to"),
        ({"retention_days": {"audio": 999_999}}, "retention_days.audio", "less than or equal to"),
        ({"label": {"timeout": 1e12}}, "label.timeout", "less than or equal to"),
        ({"monitor": {"webhook_timeout": 1e12}}, "monitor.webhook_timeout", "less than or equal to"),
        ({"serve": {"poll_seconds": 1e12}}, "serve.poll_seconds", "less than or equal to"),
        ({"compute": {"gpus": 1.5}}, "compute", "whole ones"),
    ],
)
def test_a_number_that_a_later_line_cannot_take_is_refused_at_once(
    given: dict[str, Any], field: str, said: str
) -> None:
    """The trainer's and numpy's own errors would come after hours, and as tracebacks."""
    with pytest.raises(ValidationError) as refused:
        Params.model_validate(given)
    fault = first_fault(refused.value, Params)
    assert fault.field == field and said in fault.message


def test_no_number_of_the_parameters_may_be_infinite_or_none() -> None:
    def refused(section: str, field: str, default: object, value: float) -> bool:
        given = [value] * max(1, len(default)) if isinstance(default, tuple) else value
        try:
            Params.model_validate({section: {field: given}})
        except ValidationError:
            return True
        return False

    whole = Params().model_dump(by_alias=True)
    sections = {name: tree for name, tree in whole.items() if isinstance(tree, dict)}
    taken = [
        f"{section}.{field}: {value}"
        for section, tree in sections.items()
        for field, default in tree.items()
        for value in (math.inf, -math.inf, math.nan)
        if not refused(section, field, default, value)
    ]
    assert len(sections) > 15 and not taken
