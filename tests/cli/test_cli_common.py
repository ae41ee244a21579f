"""How commands answer, and the lengths of time that they take."""

import io
import json
import os
import sys
from collections.abc import Iterator
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel
from rich.text import Text

from mondegreen.cli.common import Column, answer, duration, json_text, never_fail_to_print, table
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


@given(
    name=st.binary(min_size=1).filter(lambda name: b"\0" not in name),
    encoding=st.sampled_from(["utf-8", "ascii", "cp1252", "latin-1", "utf-16"]),
    text=st.text(),
)
def test_json_gives_any_file_name_back_through_any_stdout(name: bytes, encoding: str, text: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.stdout", io.TextIOWrapper(io.BytesIO(), encoding=encoding))
        for facts in (Fact(name=os.fsdecode(name) + text), {"name": os.fsdecode(name) + text}):
            line = json_text(facts)
            assert line.encode(encoding)  # it can be said
            assert json.loads(line)["name"] == os.fsdecode(name) + text


def test_what_a_narrow_stdout_lacks_is_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    for encoding, said in (("ascii", b"\\xfc \\udce9"), ("utf-8", b"\xc3\xbc \\udce9"), ("latin-1", b"\xfc \\udce9")):
        stream = io.BytesIO()
        monkeypatch.setattr("sys.stdout", io.TextIOWrapper(stream, encoding=encoding))
        never_fail_to_print()
        sys.stdout.write("\u00fc " + os.fsdecode(b"\xe9"))
        sys.stdout.flush()
        assert stream.getvalue() == said
