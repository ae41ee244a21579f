"""How commands answer, and the lengths of time that they take."""

import json
from collections.abc import Iterator
from datetime import timedelta

import pytest
from pydantic import BaseModel
from rich.text import Text

from mondegreen.cli.common import Column, answer, duration, table
from mondegreen.errors import UsageError


class Fact(BaseModel):
    name: str


def test_with_json_only_the_facts_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    def never() -> Iterator[str]:
        raise AssertionError("the screen was asked for")
        yield ""

    for facts in (Fact(name="ü"), {"name": "ü"}, '{"name": "ü"}'):
        answer(facts, never(), as_json=True)
    assert capsys.readouterr().out.splitlines() == [
        '{"name":"ü"}',  # a record as pydantic writes it
        json.dumps({"name": "ü"}),
        '{"name": "ü"}',
    ]


def test_without_it_lines_come_as_they_are_and_tables_laid_out(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [("a [bold]", 1), ("b", 22)]
    columns = (Column("name", lambda row: row[0]), Column("size", lambda row: Text(str(row[1]), "red"), "right"))
    answer({}, ["[bold]first[/] :smile:", table(rows, *columns, box=None)], as_json=False)
    assert [line.split() for line in capsys.readouterr().out.splitlines()] == [
        ["[bold]first[/]", ":smile:"],
        ["name", "size"],
        ["a", "[bold]", "1"],
        ["b", "22"],
    ]


@pytest.mark.parametrize("written, seconds", [("30s", 30), ("5m", 300), (" 2h", 7200), ("1d", 86400)])
def test_a_length_of_time_is_a_number_and_a_unit(written: str, seconds: int) -> None:
    assert duration(written, "--interval", "smhd", "") == timedelta(seconds=seconds)


@pytest.mark.parametrize("written", ["", "m", "5", "5 m", "-5m", "0m", "5w", "5x", "999999d", "٥m"])
def test_what_is_none_is_refused(written: str) -> None:
    with pytest.raises(UsageError, match="is no length of time"):
        duration(written, "--since", "mhd", "Give 30m.")
