"""What people write as YAML: a key that stands twice, another encoding and a folder are said with file and line."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mondegreen.config import RegressParams, load_params
from mondegreen.errors import UsageError
from mondegreen.files import path_text
from mondegreen.project.upgrading import knobs
from mondegreen.registry.regression_runs import suites_registered
from mondegreen.regression.suites import load_index
from mondegreen.scoring.phrases import read_phrases
from mondegreen.yaml_text import read_yaml

SUITE = "suites:\n  - name: core\n    type: critical\n    references: core.csv\n    margin: 0.0\n"
READERS: dict[str, Callable[[Path], Any]] = {
    "params.yaml": load_params,
    "suites.yaml": load_index,
    "phrases.yaml": read_phrases,
}


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("params.yaml", "validate:\n  alpha: 0.01\n  alpha: 0.2\n", ":3: field alpha stands twice, in line 2 too"),
        ("params.yaml", "seed: 1\ntrain: {epochs: 3}\nseed: 2\n", ":3: field seed stands twice, in line 1 too"),
        ("params.yaml", "train: {epochs: 3, epochs: 4}\n", ":1: field epochs stands twice"),
        ("params.yaml", "seed: [1\n", ":2: it is not YAML: "),
        ("params.yaml", "seed: 2026-13-01\n", ": it is not YAML: month must be in 1..12"),
        ("suites.yaml", f"{SUITE}    margin: 0.5\n", ":6: field margin stands twice, in line 5 too"),
        ("suites.yaml", f"{SUITE}suites: []\n", ":6: field suites stands twice"),
        ("phrases.yaml", "strength: 1\nphrases: [a]\nstrength: 2\n", ":3: field strength stands twice"),
    ],
)
def test_a_key_that_stands_twice_is_refused_with_its_line(tmp_path: Path, name: str, text: str, said: str) -> None:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UsageError) as raised:
        READERS[name](path)
    assert f"{path}{said}" in raised.value.problem and raised.value.next_step


@pytest.mark.parametrize("name", READERS)
def test_another_encoding_and_a_folder_in_the_place_of_a_file_are_said(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes("# größer\n".encode("latin-1"))
    with pytest.raises(UsageError, match=f"{name} is not UTF-8 text"):
        READERS[name](path)
    (tmp_path / "folder").mkdir()
    with pytest.raises(UsageError, match="folder cannot be read: Is a directory"):
        path_text(tmp_path / "folder")


def test_mappings_that_are_merged_may_set_a_key_again() -> None:
    text = "a: &a {x: 1}\nb: &b {y: 2}\nc:\n  <<: *a\n  <<: *b\n  x: 3\n"
    assert read_yaml(text, "x")[0]["c"] == {"x": 3, "y": 2}
    assert read_yaml("# nothing\n", "x") == (None, None)


def test_an_upgrade_does_not_choose_between_two_values() -> None:
    with pytest.raises(UsageError, match=r"params\.yaml:3: field alpha stands twice"):
        knobs("validate:\n  alpha: 0.01\n  alpha: 0.2\n")


def test_an_index_that_ends_with_an_empty_list_after_suites_asks_all_the_same(tmp_path: Path) -> None:
    index = tmp_path / RegressParams().suites
    index.parent.mkdir(parents=True)
    index.write_text(f"{SUITE}suites: []\n")
    assert suites_registered(RegressParams(), tmp_path)
