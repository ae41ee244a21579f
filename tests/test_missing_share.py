"""audio.max_missing_share decides what is admitted, wherever a recording is read: no path has a share of its own."""

import ast
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

from mondegreen.cases.snapshots import take_snapshot
from mondegreen.cases.store import DataManager
from mondegreen.cli.main import app
from mondegreen.config import AudioParams, Params
from mondegreen.errors import MondegreenError
from mondegreen.files import sha256_file
from mondegreen.loop.evaluation_data import read_evaluation_data
from mondegreen.regression.adding import register_suite
from mondegreen.regression.judging import prepare_suite
from mondegreen.regression.runner import untracked
from mondegreen.regression.suites import load_index
from mondegreen.speech.admission import read_failed_cases
from mondegreen.stages.code import PACKAGE
from tests.cases.snapshot_project import PARAMS, add_case, dvc_within, make_project, record

INDEX = Path("data/regression/suites.yaml")
# 0.3 s of a second are missing.
SHARES = pytest.mark.parametrize(("share", "admitted"), [(0.5, True), (0.1, False)], ids=["lenient", "strict"])
READERS = ("load_audio", "duration_of", "stream_windows")


@pytest.fixture(autouse=True)
def cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A recording of 0.7 s whose header promises a second, in a folder that is no project yet."""
    monkeypatch.delenv("MONDEGREEN_DATABASE_URL", raising=False)
    monkeypatch.chdir(tmp_path)
    path = record(tmp_path / "incoming/cut.wav", 1.0)
    path.write_bytes(path.read_bytes()[:22_400])
    Path("incoming/references.csv").write_text("path,text\ncut.wav,cut words\n")
    Path("incoming/rows.jsonl").write_text('{"audio_path": "cut.wav", "reference": "cut words"}\n')
    return path


def of(share: float) -> Params:
    return PARAMS.model_copy(update={"audio": AudioParams(max_missing_share=share)})


def works(work: Callable[[], object]) -> bool:
    try:
        work()
    except MondegreenError as error:
        assert "truncated" in str(error)
        return False
    return True


def run(*arguments: object) -> int:
    return CliRunner().invoke(app, list(map(str, arguments)), catch_exceptions=False).exit_code


def test_whoever_reads_a_recording_says_how_much_of_it_may_be_missing() -> None:
    silent = []
    for module in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(module.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in READERS:
                told = any(keyword.arg in ("max_missing_share", None) for keyword in node.keywords)
                silent += [] if told else [f"{module.relative_to(PACKAGE)}:{node.lineno}"]
    assert not silent


@SHARES
@pytest.mark.parametrize("source", ["incoming", "incoming/rows.jsonl"])
def test_a_suite_is_added_and_run_with_what_may_be_missing(source: str, share: float, admitted: bool) -> None:
    rule = {"kind": "invariance", "change": "gain"}
    fields = {"name": "core", "type": "behaviour", "margin": 0.1, "behaviour": rule}

    def add(share: float) -> object:
        return register_suite(fields, Path(source), of(share), Path("var/lock"), replace=False, track=untracked)

    assert works(lambda: add(share)) == admitted
    if not admitted:
        add(0.5)
    (suite,) = load_index(INDEX)
    assert works(lambda: prepare_suite(suite, INDEX, Path("var"), of(share))) == admitted
    if admitted:
        sounds = prepare_suite(suite, INDEX, Path("var"), of(share)).variants
        assert [round(sound.utterance.duration, 1) for sound in sounds] == [0.7, 0.7, 0.7]


def test_who_hears_a_row_that_was_handed_over_decides_and_it_is_known_by_its_bytes(cut: Path) -> None:
    (row,) = read_evaluation_data(Path("incoming/references.csv"), "target")
    assert row.sha256 == sha256_file(cut) and round(row.duration, 1) == 0.7


@SHARES
def test_compare_measures_what_the_section_allows(share: float, admitted: bool) -> None:
    Path("params.yaml").write_text(f"audio: {{max_missing_share: {share}}}\n")
    beat = np.where(np.arange(32_000) // 4_000 % 2, 1, 0.001)
    soundfile.write("whole.wav", np.random.default_rng(0).uniform(-0.3, 0.3, 32_000) * beat, 16_000)
    Path("incoming/cut.wav").rename("cut.wav")
    Path("ref.csv").write_text("path,text\ncut.wav,cut words\nwhole.wav,whole\n")
    Path("h.jsonl").write_text('{"path": "cut.wav", "text": "cut"}\n{"path": "whole.wav", "text": "whole"}\n')
    arguments = ["compare", "h.jsonl", "h.jsonl", "-r", "ref.csv", "--snr", "--json"]
    slices = json.loads(CliRunner().invoke(app, arguments, catch_exceptions=False).stdout)["slices"]
    assert ("under 5 dB" in {row["name"] for row in slices if row["kind"] == "snr"}) == admitted


@SHARES
def test_a_segment_is_cut_out_of_what_the_section_allows(share: float, admitted: bool) -> None:
    Path("params.yaml").write_text(f"audio: {{max_missing_share: {share}}}\n")
    row = {"audio_filepath": "cut.wav", "offset": 0.1, "duration": 0.4, "text": "cut words"}
    Path("incoming/m.json").write_text(json.dumps(row) + "\n")
    assert (run("data", "import", "nemo", "incoming/m.json") == 0) == admitted
    assert bool(list(Path("data").rglob("*.wav"))) == admitted


def test_a_stricter_section_takes_recordings_out_of_the_next_dataset_version(cut: Path) -> None:
    project = make_project(Path("project").absolute())
    store = DataManager(project / "var")
    store.store_failed_case(cut, "heard", "cut words", model_version="m1", author="ann")
    whole = add_case(store, "whole", "whole words")
    loose = Params(model=PARAMS.model, cases=PARAMS.cases.model_copy(update={"min_validity": 0.0}))
    with dvc_within():
        for share, cases in ((0.5, 2), (0.5, 2), (0.1, 1)):
            asked = loose.model_copy(update={"audio": AudioParams(max_missing_share=share)})
            assert take_snapshot(store, asked, project).cases == cases
    assert {case.id for case in read_failed_cases(project / "data")} == {whole}
