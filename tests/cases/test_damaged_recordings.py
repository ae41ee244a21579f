"""A recording of which much is missing: audio.max_missing_share says what a model may hear, and what may teach."""

from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mondegreen.cases.exchange import export_cases
from mondegreen.cases.snapshots import take_snapshot
from mondegreen.cases.store import DataManager
from mondegreen.cli.main import app
from mondegreen.config import AudioParams
from mondegreen.monitoring.tracker import MetadataTracker
from mondegreen.review.page import draw
from mondegreen.speech.admission import read_failed_cases
from tests.cases.snapshot_project import PARAMS, add_case, dvc_within, make_project, params, record
from tests.tiny import save_model


@pytest.fixture
def cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A recording of a second, of which 0.3 s are missing; beside it are a project, and a model that hears rubbish."""
    monkeypatch.delenv("MONDEGREEN_DATABASE_URL", raising=False)
    monkeypatch.chdir(make_project(tmp_path / "project"))
    save_model(tmp_path / "model")
    path = record(tmp_path / "incoming/cut.wav", 1.0)
    path.write_bytes(path.read_bytes()[:22_400])
    return path


def run(*arguments: object) -> int:
    return CliRunner().invoke(app, list(map(str, arguments)), catch_exceptions=False).exit_code


def by_manager(path: Path) -> int:
    return not DataManager("var").store_failed_case(path, "heard", model_version="m1")


def by_tracker(path: Path) -> int:
    tracker = MetadataTracker("var")
    return not tracker.log_inference(path, "heard", is_error=True, model_version="m1", duration=0.7, latency=0.1)


def by_text(path: Path) -> int:
    return run("cases", "add", path, "--text", "heard", "--model-version", "m1")


def by_import(path: Path) -> int:
    elsewhere = DataManager(path.parent / "elsewhere")
    elsewhere.store_failed_case(path, "heard", model_version="m1")
    export_cases(elsewhere, path.parent / "cases.jsonl", with_audio=True)
    return run("cases", "import", path.parent / "cases.jsonl")


def by_model(path: Path) -> int:
    return run("cases", "add", path, "--model", path.parents[1] / "model")


def by_log(path: Path) -> int:
    return run("transcribe", path, "--model", path.parents[1] / "model", "--log")


WAYS = [by_manager, by_tracker, by_text, by_import, by_model, by_log]


@pytest.mark.parametrize("comes_in", WAYS)
def test_what_the_section_allows_comes_in_is_shown_and_teaches(comes_in: Callable[[Path], int], cut: Path) -> None:
    Path("params.yaml").write_text("audio:\n  max_missing_share: 0.5\n")
    assert comes_in(cut) == 0
    store = DataManager("var")
    (case,) = store.find_cases().cases
    assert case.duration == pytest.approx(0.7, abs=0.02)
    assert draw(store.audio_path(case)).duration == pytest.approx(0.7, abs=0.02)
    store.store_correction(case.id, "cut words")
    allowed = PARAMS.model_copy(update={"audio": AudioParams(max_missing_share=0.5)})
    with dvc_within():
        take_snapshot(store, allowed, Path())
        assert [item.text for item in read_failed_cases(Path("data"))] == ["cut words"]


@pytest.mark.parametrize("comes_in", WAYS)
def test_of_what_it_does_not_allow_no_model_hears_anything_and_nothing_teaches(
    comes_in: Callable[[Path], int], cut: Path
) -> None:
    refused = comes_in(cut)
    store = DataManager("var")
    found = store.find_cases().cases
    assert refused == (not found) == (comes_in in (by_model, by_log))
    for case in found:
        store.store_correction(case.id, "cut words")
        add_case(store, "whole", "whole words")
        with dvc_within():
            lenient = params(min_completeness=0.0, min_validity=0.0)
            assert take_snapshot(store, lenient, Path()).left_out == {"truncated": 1}
