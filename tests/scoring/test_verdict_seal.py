"""A verdict that was edited by hand is noticed by whoever reads it."""

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from mondegreen.errors import RegistryError, UsageError
from mondegreen.files import read_json, write_json
from mondegreen.scoring.verdict import Verdict
from tests.scoring.verdict_corpus import judge


@pytest.fixture(scope="module")
def failed() -> Verdict:
    return judge(lambda number: 2, lambda number: 3)


def leaves(tree: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else None
    return [path] if items is None else [leaf for key, branch in items for leaf in leaves(branch, (*path, key))]


def edited(verdict: Verdict, path: tuple[Any, ...], value: Any) -> str:
    tree = verdict.model_dump(mode="json")
    branch = tree
    for key in path[:-1]:
        branch = branch[key]
    branch[path[-1]] = value
    return json.dumps(tree)


def test_a_verdict_verifies_as_written_and_read(failed: Verdict, tmp_path: Path) -> None:
    write_json(tmp_path / "verdict.json", failed)
    assert read_json(tmp_path / "verdict.json", Verdict).verify() and len(failed.seal) == 64


def test_a_verdict_of_an_earlier_release_verifies_and_is_written_as_it_was() -> None:
    text = (Path(__file__).parent / "verdict_of_old.json").read_text(encoding="utf-8")
    read = Verdict.model_validate_json(text)
    assert read.verify() and read.to_dict() == json.loads(text)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_no_field_can_be_edited_unnoticed(failed: Verdict, data: st.DataObject) -> None:
    path = data.draw(st.sampled_from(leaves(failed.model_dump(mode="json"))))
    value = data.draw(st.sampled_from(["pass", "", "x", 0, 1, 0.5, -3, True, False, None, [], {}]))
    text = edited(failed, path, value)
    if json.loads(text) == failed.model_dump(mode="json"):
        return
    try:
        read = Verdict.model_validate_json(text)
    except ValidationError:
        return  # noticed even earlier
    if read != failed:
        with pytest.raises(RegistryError, match="not as it was written"):
            read.verify()


def test_an_outcome_alone_cannot_be_edited(failed: Verdict, tmp_path: Path) -> None:
    path = tmp_path / "verdict.json"
    path.write_text(edited(failed, ("outcome",), "pass"))
    with pytest.raises(UsageError, match="passed is False, the outcome is pass"):
        read_json(path, Verdict)


def test_a_seal_that_was_taken_away_is_noticed(failed: Verdict) -> None:
    with pytest.raises(RegistryError, match="it has no seal"):
        failed.model_copy(update={"seal": ""}).verify()


def test_a_rate_that_is_no_number_breaks_the_seal(failed: Verdict) -> None:
    read = Verdict.model_validate_json(re.sub(r'"rate":0\.\d+,"sub', '"rate":NaN,"sub', failed.model_dump_json()))
    assert read.candidate is not None and math.isnan(read.candidate.wer.rate)
    with pytest.raises(RegistryError, match="does not fit"):
        read.verify()


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity"])
def test_numbers_that_are_none_cannot_be_written_into_a_verdict(failed: Verdict, number: str) -> None:
    text = failed.model_dump_json().replace(
        f'"wer_improvement":{failed.wer_improvement}', f'"wer_improvement":{number}'
    )
    assert number in text
    with pytest.raises(ValidationError, match="finite"):
        Verdict.model_validate_json(text)
