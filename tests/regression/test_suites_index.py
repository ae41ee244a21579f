"""The index: what is read, what is refused, and what writing keeps."""

import multiprocessing
from pathlib import Path
from typing import Any

import pytest
import yaml

from mondegreen.errors import UsageError
from mondegreen.regression.suites import load_index, put_suite, set_fields, suite_of
from tests.regression.regression_project import entry, write_index

GAIN = {"kind": "invariance", "change": "gain"}
TODAY = """# Regression suites. margin: absolute WER that a candidate may lose against the baseline on this suite.
suites:
  - name: critical-prompts
    type: critical
    references: critical-prompts/references.csv
    margin: 0.05
    severity: critical
    owner: maintainers
"""


@pytest.fixture
def index(tmp_path: Path) -> Path:
    path = tmp_path / "suites.yaml"
    path.write_text(TODAY)
    return path


def lock_of(index: Path) -> Path:
    return index.parent / "locks" / "index.lock"


def test_the_index_as_it_was_before_baselines_is_read(index: Path) -> None:
    (suite,) = load_index(index)
    assert (suite.name, suite.type, suite.margin, suite.baseline_wer) == ("critical-prompts", "critical", 0.05, None)


def test_adding_keeps_comments_and_what_stands_there(index: Path) -> None:
    new = suite_of(entry("edge", type="edge_cases", baseline_wer=0.1, baseline_version=3))
    assert put_suite(index, new, lock_of(index)) is True
    assert index.read_text().startswith(TODAY)
    assert load_index(index)[1] == new and new.baseline_version == "3"
    assert put_suite(index, new, lock_of(index)) is False  # the same again
    with pytest.raises(UsageError, match="another suite edge"):
        put_suite(index, suite_of(entry("edge", margin=0.2)), lock_of(index))
    assert put_suite(index, suite_of(entry("edge", margin=0.2)), lock_of(index), replace=True)
    assert [suite.margin for suite in load_index(index)] == [0.05, 0.2]
    assert index.read_text().startswith(TODAY)


def test_the_first_suite_makes_the_index(tmp_path: Path) -> None:
    path = tmp_path / "data" / "regression" / "suites.yaml"
    put_suite(path, suite_of(entry()), lock_of(path))
    put_suite(path, suite_of(entry("two")), lock_of(path))
    assert [suite.name for suite in load_index(path)] == ["core", "two"]
    assert path.read_text().startswith("# Regression suites")


def test_fields_are_set_and_taken_out_beside_comments(index: Path) -> None:
    set_fields(index, {"critical-prompts": {"baseline_wer": 0.25, "owner": None}}, lock_of(index))
    (suite,) = load_index(index)
    assert suite.baseline_wer == 0.25 and suite.owner == "" and index.read_text().startswith("# Regression suites.")
    with pytest.raises(UsageError, match="no suite other"):
        set_fields(index, {"other": {"margin": 0.1}}, lock_of(index))
    with pytest.raises(UsageError, match="critical-prompts: margin"):
        set_fields(index, {"critical-prompts": {"margin": 7}}, lock_of(index))
    assert load_index(index) == [suite]  # what could not be read again was not written


def _add(index: Path, number: int) -> None:
    put_suite(index, suite_of(entry(f"suite-{number}")), lock_of(index))


def test_eight_that_add_at_once_lose_nothing(index: Path) -> None:
    fork = multiprocessing.get_context("fork")
    writers = [fork.Process(target=_add, args=(index, number)) for number in range(8)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
    assert {suite.name for suite in load_index(index)} == {"critical-prompts", *(f"suite-{n}" for n in range(8))}


@pytest.mark.parametrize(
    ("suite", "problem"),
    [
        (entry(margin=2), "suite core: margin"),
        ({"type": "benchmark", "references": "a.csv", "margin": 0.1}, "suite number 1: name"),
        (entry(type="smoke"), "suite core: type"),
        (entry(colour="red"), "suite core: colour"),
        (entry(baseline_wer=15), "less than or equal to 2"),  # 15 % written as 15 would never shut the gate
        (entry(baseline_wer=float("nan")), "baseline_wer"),
        (entry(baseline_cer=0.1), "baseline_cer stands without baseline_wer"),
        (entry(baseline_violation_rate=0.1), "belongs to suites of type behaviour"),
        (entry(references=None), "references is missing"),
        (entry(type="behaviour"), "has a field behaviour"),
        (entry(behaviour=GAIN), "has a field behaviour"),
        (entry(type="behaviour", behaviour=GAIN, baseline_wer=0.1), "no WER and no CER"),
        (entry(type="behaviour", behaviour=GAIN | {"values": [99]}), "not between -40 and 40"),
        (entry(type="behaviour", behaviour=GAIN | {"values": ["flac"]}), "no value of gain"),
        (entry(type="behaviour", behaviour={"kind": "invariance", "change": "format", "values": [1]}), "no value of"),
        (entry(type="behaviour", behaviour={"kind": "directional", "values": [0, 10]}), "quieter noise first"),
        (entry(type="behaviour", behaviour={"kind": "opposite"}), "behaviour"),
        ("not a mapping", "suite number 1"),
    ],
)
def test_a_wrong_field_is_named(tmp_path: Path, suite: Any, problem: str) -> None:
    path = write_index(suite, path=tmp_path / "suites.yaml")
    with pytest.raises(UsageError, match=problem) as raised:
        load_index(path)
    assert str(path) in str(raised.value) and "What now" in str(raised.value)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"suites: [", "not YAML"),
        (b"", "the whole file"),
        (b"- a\n- b\n", "the whole file"),
        (b"suites: \xff\xfe", "not UTF-8"),
        (yaml.safe_dump({"suites": [entry(), entry()]}).encode(), "stand twice: core"),
    ],
)
def test_an_index_that_cannot_be_used_is_refused_and_never_overwritten(
    tmp_path: Path, content: bytes, problem: str
) -> None:
    path = tmp_path / "suites.yaml"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=problem):
        load_index(path)
    with pytest.raises(UsageError, match=problem):
        put_suite(path, suite_of(entry("new")), lock_of(path))
    assert path.read_bytes() == content


def test_a_missing_index_and_a_folder_in_its_place(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="regression add"):
        load_index(tmp_path / "suites.yaml")
    with pytest.raises(UsageError, match="cannot be read"):
        load_index(tmp_path)
