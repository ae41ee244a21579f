"""RegressionTester: registering, measuring, running, and what is on record of it."""

import json
import math
import multiprocessing
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest

from mondegreen.errors import AudioError, MondegreenError, UsageError
from mondegreen.regression import adding
from mondegreen.regression.suites import load_index
from mondegreen.regression.tester import RegressionTester
from tests.regression.regression_project import (
    SENTENCES,
    ToneModel,
    entry,
    lose_last,
    regression_tester,
    write_index,
    write_suite,
    write_tone,
)

DATA = Path("data/regression")
INDEX = DATA / "suites.yaml"
_fork = multiprocessing.get_context("fork")


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("MONDEGREEN_DATABASE_URL", "DVC_ROOT"):
        monkeypatch.delenv(name, raising=False)


def below(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_data_beside_the_index_are_registered_where_they_are() -> None:
    table = write_suite(DATA / "core", range(3))
    before = below(DATA)
    for _ in range(2):  # the second time nothing is new
        assert regression_tester().register_test("core", "critical", table, 0.1, 0.05, 4, margin=0.03) == "core"
        (suite,) = load_index(INDEX)
    assert below(DATA) == sorted([*before, "suites.yaml"])
    assert suite.references == Path("core/references.csv") and suite.baseline_version == "4"
    assert suite.baseline_data and suite.baseline_normalizer == "spoken-3"


def test_data_elsewhere_are_copied_and_the_source_is_left_alone(tmp_path: Path) -> None:
    source = write_suite(tmp_path / "elsewhere", range(3), {0: {"source": "call 7; cut"}, 1: {"source": "call 7; cut"}})
    (source.parent / "notes.txt").write_text("not part of the suite")
    before = below(source.parent)
    for data in (source.parent, source):  # a folder or the file; the second time nothing is new
        regression_tester().register_test("core", test_data_path=data)
        (suite,) = load_index(INDEX)
        assert suite.references == Path("core/references.csv") and suite.margin == 0.02
    assert below(DATA) == [*(f"core/audio/{n:02}.wav" for n in range(3)), "core/references.csv", "suites.yaml"]
    assert below(source.parent) == before
    with pytest.raises(UsageError, match="another suite core"):
        regression_tester().register_test("core", test_data_path=source, margin=0.5)
    regression_tester().register_test("core", test_data_path=source, margin=0.5, replace=True)
    assert load_index(INDEX)[0].margin == 0.5
    write_tone(source.parent / "audio/00.wav", 9)
    with pytest.raises(UsageError, match="exists already, with other contents"):
        regression_tester().register_test("core", test_data_path=source, margin=0.5, replace=True)


@pytest.mark.parametrize("name", ["", "../up", "a/b", ".hidden", " x", "x ", "a\nb", "x" * 65])
def test_a_name_that_is_no_folders_name_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="no name for a suite"):
        regression_tester().register_test(name, test_data_path=write_suite(tmp_path / "x", range(1)))
    assert not DATA.exists()


def test_everything_is_checked_before_anything_is_imported(tmp_path: Path) -> None:
    source = write_suite(tmp_path / "x", range(4))
    flac = tmp_path / "x/audio/02.wav"
    flac.write_bytes(b"fLaC" + flac.read_bytes()[4:])  # a header that only decoding finds out about
    with pytest.raises(AudioError, match=r"02\.wav"):
        regression_tester().register_test("core", test_data_path=source)
    write_tone(flac, 2)
    for fields, problem in (
        ({"test_type": "smoke"}, "core: type"),
        ({"baseline_wer": 15.0}, "core: baseline_wer"),
        ({"margin": -1.0}, "core: margin"),
        ({"behaviour": {"kind": "directional"}}, "has a field behaviour"),
    ):
        with pytest.raises(UsageError, match=problem):
            regression_tester().register_test("core", test_data_path=source, **fields)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="does not exist"):
        regression_tester().register_test("core", test_data_path=tmp_path / "nowhere")
    with pytest.raises(UsageError, match="references is missing"):
        regression_tester().register_test("core")
    assert not DATA.exists()


def _register_killed_at(step: str, source: Path) -> None:
    """Registers, and dies by SIGKILL when it comes to the step."""

    def die(*arguments: Any, **named: Any) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    copied = []
    copy = shutil.copyfile

    def copy_two(*arguments: Any, **named: Any) -> Any:
        copied.append(arguments)
        return die() if len(copied) > 2 else copy(*arguments, **named)

    patch = pytest.MonkeyPatch()
    if step == "copying":
        patch.setattr(adding.shutil, "copyfile", copy_two)
    elif step == "syncing":
        patch.setattr(adding, "_sync", die)
    elif step == "indexing":
        patch.setattr("mondegreen.regression.adding.put_suite", die)
    else:
        rename = Path.replace
        doomed = ".adding-" if step == "naming the folder" else ".suites.yaml."
        patch.setattr(Path, "replace", lambda self, to: die() if self.name.startswith(doomed) else rename(self, to))
    regression_tester().register_test("core", test_data_path=source)


@pytest.mark.parametrize("step", ["copying", "syncing", "naming the folder", "indexing", "naming the index"])
def test_killed_at_any_step_nothing_half_is_there_and_the_next_call_goes_on(tmp_path: Path, step: str) -> None:
    source = write_suite(tmp_path / "elsewhere", range(4))
    write_suite(DATA / "other", range(2))
    write_index(entry("other"))
    process = _fork.Process(target=_register_killed_at, args=(step, source))
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    assert [suite.name for suite in load_index(INDEX)] == ["other"]  # the index names nothing half
    if (DATA / "core").exists():
        assert len(below(DATA / "core")) == 5
    assert regression_tester().register_test("core", test_data_path=source) == load_index(INDEX)[1].name
    assert not [name for name in below(DATA) if ".adding" in name or ".suites" in name]
    assert len(below(DATA / "core")) == 5


def test_a_measured_baseline_is_what_later_runs_are_compared_with() -> None:
    write_suite(DATA / "core", range(12))
    write_suite(DATA / "tones", range(3))
    rule = {"kind": "minimum", "expect": "right"}
    write_index(entry(margin=0), entry("tones", type="behaviour", behaviour=rule, margin=0))
    suites = regression_tester()
    found = suites.measure_baseline("v1", ToneModel(mishear=lose_last).transcribe)
    assert found["core"]["baseline_wer"] == pytest.approx(12 / 59, abs=1e-6)
    assert found["tones"]["baseline_violation_rate"] == 1.0 and found["tones"]["baseline_wer"] is None
    assert suites.run_test_suite("v2", ToneModel(mishear=lose_last).transcribe).passed
    assert suites.run_test_suite("v3", ToneModel().transcribe).passed
    suites.measure_baseline("v3", ToneModel().transcribe, ["core"])
    assert [suite.baseline_version for suite in load_index(INDEX)] == ["v3", "v1"]
    results = suites.run_test_suite("v4", ToneModel(mishear=lose_last).transcribe)
    assert [suite.outcome for suite in results.suites] == ["fail", "pass"]
    write_tone(DATA / "core/audio/00.wav", 13)
    assert "changed since" in suites.run_test_suite("v5", ToneModel().transcribe).suites[0].reason


def test_a_baseline_is_measured_on_everything_or_not_at_all() -> None:
    write_suite(DATA / "core", range(3))
    index = write_index(entry())
    before = index.read_bytes()

    def deaf(path: str) -> str:
        if path.endswith("01.wav"):
            raise RuntimeError("bad clip")
        return "word"

    with pytest.raises(UsageError, match=r"core/audio/01\.wav: RuntimeError: bad clip"):
        regression_tester().measure_baseline("v1", deaf)
    with pytest.raises(UsageError, match="no suite other"):
        regression_tester().measure_baseline("v1", deaf, ["other"])
    (DATA / "core/audio/02.wav").unlink()
    with pytest.raises(MondegreenError, match=r"02\.wav"):
        regression_tester().measure_baseline("v1", ToneModel().transcribe)
    assert index.read_bytes() == before


def test_runs_are_on_record_with_the_digest_of_the_model() -> None:
    write_suite(DATA / "core", range(12))
    write_index(entry())
    suites, old = regression_tester(), ToneModel("00" * 32)
    good, bad = ToneModel("aa" * 32), ToneModel("bb" * 32, lose_last)
    passed = suites.run_test_suite("1", good.transcribe, old.transcribe)
    suites.run_test_suite("2", bad.transcribe, old.transcribe)
    suites.run_test_suite("3", lambda path: "word", old.transcribe)
    assert [run.model_version for run in suites.get_history()] == ["3", "2", "1"]
    latest = suites.get_latest_run(good.digest)
    assert latest and latest.passed and latest.results == passed and latest.results.baseline_model == old.digest
    suites.run_test_suite("1 again", ToneModel(good.digest, lose_last).transcribe, old.transcribe)
    latest = suites.get_latest_run(good.digest)
    assert latest and not latest.passed and latest.model_version == "1 again"
    assert suites.get_latest_run("cc" * 32) is None
    assert suites.get_latest_run("") is None  # a run of a bare function is no model's run


def test_what_is_no_digest_is_not_recorded_as_one() -> None:
    write_suite(DATA / "core", range(12))
    write_index(entry())
    odd = ToneModel()
    for digest in (lambda: "a method", "x" * 65, 7):
        odd.digest = digest  # type: ignore[assignment]
        assert regression_tester().run_test_suite("1", odd.transcribe, ToneModel("old").transcribe).model == ""


def test_trends_and_reports_follow_the_suites_over_the_versions() -> None:
    write_suite(DATA / "core", range(12))
    write_suite(DATA / "tones", range(3))
    write_index(entry(), entry("tones", type="behaviour", behaviour={"kind": "minimum", "expect": "right"}))
    suites = regression_tester()
    assert "No run" in suites.generate_regression_report() and "No run" in suites.generate_regression_report("html")
    worst = ToneModel(mishear=lambda text, sound: "")
    for version, model in (("v1", worst), ("v2", ToneModel(mishear=lose_last)), ("v3", ToneModel())):
        suites.run_test_suite(version, model.transcribe, worst.transcribe)
    trend = suites.get_trend("core")
    assert [value for _, value in trend["values"]] == [1.0, pytest.approx(12 / 59), 0.0]
    assert trend["improvement"] == 1.0 and trend["latest"] == 0.0
    assert suites.get_trend("tones", "violation_rate")["improvement"] == 1.0
    assert math.isnan(suites.get_trend("none")["improvement"]) and suites.get_trend("none")["reason"]
    with pytest.raises(UsageError, match="no metric"):
        suites.get_trend("core", "loudness")
    text = suites.generate_regression_report()
    assert "| core | WER | █▂▁ | v1 100.0 %, v2 20.3 %, v3 0.0 % |" in text and "| tones | violations | ██▁ |" in text
    page = suites.generate_regression_report("html")
    assert "<svg" in page and "http" not in page.replace("http://www.w3.org", "") and "<td>core</td>" in page
    found = json.loads(suites.generate_regression_report("json"))
    assert found["series"][0]["points"][0]["rate"] == 1.0 and len(found["runs"]) == 3
    assert len(json.loads(suites.generate_regression_report("json", limit=2))["runs"]) == 2


def test_names_and_reasons_of_others_do_not_become_markup() -> None:
    write_suite(DATA / "core", range(12), {0: {"must_contain": SENTENCES[0]}})
    write_index(entry(owner="<script>alert(1)</script> | [red]"))
    suites = regression_tester()
    suites.run_test_suite("<b>v1</b>", lambda path: "a | b", ToneModel().transcribe)
    page = suites.generate_regression_report("html")
    assert "<script>" not in page and "<b>v1" not in page
    rows = [line for line in suites.generate_regression_report().splitlines() if line.startswith("| core")]
    assert all(
        line.replace("\\|", "").count("|") == rows[0].replace("\\|", "").count("|") or "WER" in line for line in rows
    )


def test_the_database_is_the_projects_also_from_dvcs_temporary_copies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "copy").mkdir()
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    monkeypatch.chdir(tmp_path / "copy")
    assert RegressionTester().store == tmp_path / "var"
