"""What an error says of a field."""

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
