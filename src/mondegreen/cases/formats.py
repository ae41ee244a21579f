"""The file formats of cases on their way between stores: CSV for spreadsheets, JSON lines, tasks of Label Studio."""

import json
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Literal, TextIO

from mondegreen.cases.label_studio import read_tasks, write_tasks
from mondegreen.cases.sent_cases import CaseInFile, Remark, SentCase, parsed
from mondegreen.cases.spreadsheet import read_csv, write_csv
from mondegreen.delimited import Notice
from mondegreen.errors import UsageError

Format = Literal["csv", "jsonl", "label-studio"]
_SUFFIXES: dict[str, Format] = {".csv": "csv", ".tsv": "csv", ".jsonl": "jsonl", ".json": "label-studio"}
_LONGEST = 16 << 20  # characters of a line


def format_of(path: Path, given: str | None) -> Format:
    """The format as given, else by the file's name. Raises UsageError."""
    found = next((kind for kind in _SUFFIXES.values() if kind == given), None)
    if given is None:
        found = _SUFFIXES.get(path.suffix.lower())
    if found is None:
        raise UsageError(
            f"{given or path.name} is no format of ours.", "Use csv (.csv), jsonl (.jsonl) or label-studio (.json)."
        )
    return found


def write_cases(stream: TextIO, kind: Format, cases: Iterable[SentCase], prefix: str = "") -> int:
    """Writes cases; says how many.

    Args:
        prefix: for Label Studio, goes before the audio's relative path, so that it is found there:
            /data/local-files/?d=project/
    """
    number = 0

    def counted() -> Iterator[SentCase]:
        nonlocal number
        for case in cases:
            number += 1
            yield case

    if kind == "csv":
        write_csv(stream, counted())
    elif kind == "label-studio":
        write_tasks(stream, counted(), prefix)
    else:
        stream.writelines(case.model_dump_json() + "\n" for case in counted())
    return number


def read_cases(
    path: Path, kind: Format, notices: list[Notice] | None, *, text_area: str = "", silence: bool = False
) -> Iterator[CaseInFile]:
    """The file's cases, or what is wrong with them.

    Args:
        notices: what a reader says of the file as a whole is appended.
        text_area, silence: see `label_studio.read_tasks`.

    Raises:
        UsageError: the file cannot be decoded, has no header that can be understood, is too large, or holds no tasks.
    """
    if kind == "csv":
        return read_csv(path, notices)
    if kind == "label-studio":
        return read_tasks(path, notices, text_area=text_area, silence=silence)
    return _read_jsonl(path)


def _read_jsonl(path: Path) -> Iterator[CaseInFile]:
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="\n") as stream:
        for number, line in enumerate(iter(lambda: stream.readline(_LONGEST), ""), 1):
            if line.strip():
                yield parsed(f"line {number}", partial(_loaded, line), "this is not JSON: ")


def _loaded(line: str, _: list[Remark]) -> Any:
    if bad := [character for character in line if "\udc80" <= character <= "\udcff"]:
        raise ValueError(f"character {line.index(bad[0]) + 1} is not UTF-8; save the file as UTF-8")
    return json.loads(line)
