"""Changing the index: entries are added and baselines entered; what people wrote beside them stays."""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq

from mondegreen.errors import UsageError
from mondegreen.files import lock, write_text
from mondegreen.loop.regression.index import Suite, load_index, parse_index

_HEAD = "# Regression suites; docs/regression.md says what the fields mean.\nsuites: []\n"


def put_suite(path: Path, suite: Suite, lock_file: Path, replace: bool = False) -> bool:
    """Adds an entry, comments and order of the others kept; the same entry again is no change.

    Args:
        lock_file: held meanwhile; outside data/, whose digest DVC keeps.
        replace: put it in the place of the entry of that name.

    Returns:
        Whether the index changed.

    Raises:
        UsageError: the index is wrong, or another entry has that name.
    """
    with lock(lock_file):
        former = {entry.name: entry for entry in load_index(path)} if path.exists() else {}
        if former.get(suite.name) == suite:
            return False
        if suite.name in former and not replace:
            raise UsageError(f"{path} has another suite {suite.name} already.", "Choose another name, or say replace.")
        document = _document(path)
        entries = document["suites"]
        fields = CommentedMap(suite.model_dump(mode="json", exclude_defaults=True))
        if suite.name in former:
            entries[list(former).index(suite.name)] = fields
        else:
            entries.append(fields)
        _write(path, document)
        return True


def set_fields(path: Path, changes: Mapping[str, Mapping[str, Any]], lock_file: Path) -> None:
    """Sets fields of entries, by the name of the suite; None takes a field out.

    Raises:
        UsageError: the index is wrong, or has no such suite.
    """
    with lock(lock_file):
        names = [suite.name for suite in load_index(path)]
        if unknown := sorted(set(changes) - set(names)):
            raise UsageError(f"{path} has no suite {', '.join(unknown)}.", "`mondegreen regression list` shows them.")
        document = _document(path)
        for name, fields in changes.items():
            entry = document["suites"][names.index(name)]
            for field, value in fields.items():
                if value is None:
                    entry.pop(field, None)
                else:
                    entry[field] = value
        _write(path, document)


def _document(path: Path) -> CommentedMap:
    """The index with its comments."""
    document = _yaml().load(path.read_text(encoding="utf-8") if path.exists() else _HEAD)
    if document["suites"] is None or (isinstance(document["suites"], CommentedSeq) and not document["suites"]):
        document["suites"] = CommentedSeq()  # an empty list in brackets would be added to in brackets
    return document  # type: ignore[no-any-return]


def _write(path: Path, document: CommentedMap) -> None:
    """Whole or not at all, and never what could not be read again."""
    stream = io.StringIO()
    _yaml().dump(document, stream)
    parse_index(stream.getvalue(), path)
    for leftover in path.parent.glob(f".{path.name}.*"):  # of a killed writer; DVC would take it for data
        leftover.unlink()
    write_text(path, stream.getvalue())


def _yaml() -> YAML:
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 120
    yaml.indent(mapping=2, sequence=4, offset=2)
    return yaml
