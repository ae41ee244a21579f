"""The guide's command on folders as the guide describes them."""

import io
import json
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from rich.console import Console

from mondegreen.cli.finetune import _report as guide_screen
from mondegreen.config import LabelParams, Params
from mondegreen.errors import UsageError
from mondegreen.files import read_json
from mondegreen.loop.guide_finetune import Request, guide_utterances, left_out, run_guide
from mondegreen.loop.guide_report import GuideFacts, GuideReport, report_on
from mondegreen.registry.mlflow_store import connect
from mondegreen.speech.model import load_model
from tests.registry.conftest import database_template, enter, make_project
from tests.scoring.examples import hypothesis as hypothesis_of
from tests.scoring.examples import utterance
from tests.speech.tones import tone_example
from tests.support.ollama_server import hypothesis, ollama, transcript
from tests.tiny import save_model

__all__ = ["database_template"]  # a fixture
ROOT = Path(__file__).parents[2]
WORDS = ("ab", "bc", "cd", "de", "ef", "fa", "ace", "bed", "cab", "dab", "fed", "bad")


@pytest.fixture
def project(tmp_path: Path, database_template: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return enter(make_project(tmp_path / "project", database_template), monkeypatch)


def recordings(folder: Path, condition: str = "") -> list[Path]:
    """One recording a word; the same file names in every condition."""
    paths = [
        Path(tone_example(folder / condition, f"{word} {word[::-1]}", pitch=2.0 if condition == "noisy" else 1.0).path)
        for word in WORDS
    ]
    return [path.rename(path.with_name(f"{number:03}.wav")) for number, path in enumerate(paths)]


def write_references(path: Path, rows: list[tuple[str, str]]) -> None:
    path.write_text("path,text\n" + "".join(f'{name},"{text}"\n' for name, text in rows))


def clean_and_noisy(folder: Path) -> None:
    rows = []
    for condition in ("clean", "noisy"):
        paths = recordings(folder, condition)
        rows += [(f"{condition}/{path.name}", f"{w} {w[::-1]}") for path, w in zip(paths, WORDS, strict=True)]
    write_references(folder / "references.csv", rows)


def test_clean_and_noisy_copies_of_a_recording_stay_on_one_side(project: Path) -> None:
    clean_and_noisy(Path("audio"))
    utterances, problems = guide_utterances(Path("audio"), None, Params())
    assert not problems and len(utterances) == 24
    split_of: dict[str, set[str]] = {}
    for row in utterances:
        split_of.setdefault(Path(row.path).name, set()).add(row.split)
    assert all(len(splits) == 1 for splits in split_of.values())
    assert sum(row.split == "test" for row in utterances) == 12
    assert {row.split for row in utterances} == {"train", "dev", "test"}


@pytest.mark.parametrize("place", ["inside", "above", "named", "txt"])
def test_references_are_found_where_the_guide_puts_them(
    project: Path, place: str, caplog: pytest.LogCaptureFixture
) -> None:
    paths = recordings(Path("data/audio"))
    rows = [(path.name, word) for path, word in zip(paths, WORDS, strict=True)]
    named = None
    if place == "inside":
        write_references(Path("data/audio/references.csv"), rows)
    elif place == "above":
        rows = [(f"audio/{name}", text) for name, text in rows]
        write_references(Path("data/references.csv"), [*rows, ("other/gone.wav", "x")])
    elif place == "named":
        named = Path("mine.csv")
        write_references(named, rows)
    else:
        for name, text in rows:
            Path("data/audio", name).with_suffix(".txt").write_text(f"{text}\n")
    utterances, _ = guide_utterances(Path("data/audio"), named, Params())
    assert [row.reference for row in utterances] == list(WORDS)
    assert ("line 14: other/gone.wav" in caplog.text) == (place == "above"), "a row without a recording is named"


def test_recordings_that_take_no_part_are_said_on_the_screen_too(project: Path) -> None:
    paths = recordings(Path("audio"))
    Path("audio/damaged.wav").write_bytes(b"no audio")
    table = "".join(
        f"{path.name},{'okay' if number < 8 else word},s{number}\n"
        for number, (path, word) in enumerate(zip(paths, WORDS, strict=True))
    )
    Path("audio/references.csv").write_text(f"path,text,speaker\n{table}damaged.wav,abc,s1\n")
    utterances, problems = guide_utterances(Path("audio"), None, Params())
    lines = list(left_out(problems))
    assert any(line.startswith("left out: audio/damaged.wav: ") for line in lines)
    assert len(utterances) < len(paths) and lines[-1].startswith(
        f"{len(paths) - len(utterances)} recordings teach nothing"
    )
    assert len(lines) == 2


def test_without_references_the_error_says_how_to_give_them(project: Path) -> None:
    recordings(Path("audio"))
    with pytest.raises(UsageError, match=r"has a reference[\s\S]*references\.csv[\s\S]*--references[\s\S]*\.txt"):
        guide_utterances(Path("audio"), None, Params())


def test_too_few_recordings_are_an_error(project: Path) -> None:
    for path in recordings(Path("audio"))[:2]:
        path.with_suffix(".txt").write_text(path.stem)
    with pytest.raises(UsageError, match="too few"):
        guide_utterances(Path("audio"), None, Params())


def test_the_script_takes_the_guides_arguments_and_prints_before_and_after(project: Path) -> None:
    clean_and_noisy(Path("audio"))
    save_model(Path("base"))
    arguments = "--audio_dir audio --output_dir models/tuned --num_epochs 2 --batch_size 4 --learning_rate 3e-5"
    command = [sys.executable, str(ROOT / "scripts/finetune_wav2vec2.py"), *arguments.split()]
    command += ["--use_lora", "--lora_rank", "4", "--lora_alpha", "8", "--model", "base"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=project)
    assert done.returncode == 0, done.stderr
    assert "before" in done.stdout and "after" in done.stdout and "test/noisy" in done.stdout
    assert "95 % interval" in done.stdout and "below 12 the interval is narrower than the truth" in done.stdout
    assert "learns little" in done.stderr
    report = read_json(Path("models/tuned/logs/report.json"), GuideReport)
    assert {row.slice for row in report.held_out} == {"test", "test/clean", "test/noisy"}
    assert report.held_out[0].utterances == 12 and report.error_cases > 0 and report.clusters == 6
    run = connect().get_run(report.run_id).data
    assert run.metrics["finetune/wer_improvement"] == report.wer_improvement and run.params["train.lora_rank"] == "4"
    assert run.metrics["candidate/test/cer"] == report.held_out[0].cer_after and "train/loss" in run.metrics
    assert json.loads(Path("models/tuned/adapter/adapter_config.json").read_text())["r"] == 4
    assert "Phase 3 of 3" in Path("models/tuned/logs/finetune.log").read_text()
    assert not list(Path("var/checkpoints").iterdir())  # they are forgotten with the report
    load_model("models/tuned")


@pytest.mark.slow
def test_an_adapter_alone_hears_what_the_merged_model_hears_and_full_fine_tuning_leaves_none(project: Path) -> None:
    clean_and_noisy(Path("audio"))
    save_model(Path("base"))
    rates, heard = [], []
    for changes in ({}, {"adapter_only": True}, {"use_lora": False}):
        request = Request(audio_dir=Path("audio"), output_dir=Path("out"), model="base", num_epochs=1, **changes)
        rates.append(run_guide(request, Params()).held_out)
        heard.append(load_model("out").network.state_dict())
        assert Path("out/adapter").exists() == (changes == {})
        assert Path("out/config.json").exists() == ("adapter_only" not in changes)
    assert rates[0] == rates[1]
    assert all(torch.equal(weight, heard[1][name]) for name, weight in heard[0].items())
    save_model(Path("base"), seed=1)
    run_guide(Request(audio_dir=Path("audio"), output_dir=Path("alone"), model="base", adapter_only=True), Params())
    save_model(Path("base"), seed=2)
    with pytest.raises(UsageError, match="is an adapter of model"):
        load_model("alone")


def test_a_language_model_is_asked_about_training_recordings_that_nobody_wrote_down(project: Path) -> None:
    paths = recordings(Path("audio"))
    rows = [(path.name, f"{word} {word[::-1]}") for path, word in zip(paths, WORDS, strict=True)]
    write_references(Path("audio/references.csv"), rows[:8])
    save_model(Path("base"))
    # What untrained weights write, without the marks that no text may hold.
    with ollama(lambda request, number: transcript(re.sub("</?s>", "", hypothesis(request)) + "a")) as server:
        label = LabelParams(url=server.url, guards=(), few_shot=0, audit_cases=0, max_label_wer=None, retries=0)
        found = {
            llm: run_guide(
                Request(audio_dir=Path("audio"), output_dir=Path("out"), model="base", num_epochs=1, llm=llm),
                Params(label=label),
            )
            for llm in (False, True)
        }
    assert found[True].error_cases == found[False].error_cases + 4 and len(server.asked) == 4


def test_shares_that_leave_nothing_and_an_adapter_without_lora_are_errors() -> None:
    with pytest.raises(UsageError, match="leave nothing to train on"):
        Request(audio_dir=Path("audio"), held_out=0.8, dev=0.2)
    with pytest.raises(UsageError, match="makes none"):
        Request(audio_dir=Path("audio"), use_lora=False, adapter_only=True)


@pytest.mark.parametrize(("output", "said"), [("file", "file is a file; name a folder"), ("base", "written over base")])
def test_an_output_that_no_model_can_be_written_into_is_refused_before_anything_is_heard(
    output: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("mine")
    save_model(Path("base"))
    before = sorted(Path().rglob("*"))
    with pytest.raises(UsageError, match=said):
        run_guide(Request(audio_dir=Path("audio"), output_dir=Path(output), model="base"), Params())
    assert sorted(Path().rglob("*")) == before and Path("file").read_text() == "mine"


def test_an_error_is_a_message_and_an_exit_code(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("empty").mkdir()
    script = str(ROOT / "scripts/finetune_wav2vec2.py")
    monkeypatch.setattr(sys, "argv", [script, "--audio-dir", "empty"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(script, run_name="__main__")
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert "holds no recordings" in said and "Traceback" not in said


FACTS = GuideFacts(
    model="a", output="b", run_id="c", error_cases=1, replayed=0, dev=1, best_epoch=1, merge_weight=1, notes=[],
    left_out=[],
)  # fmt: skip


def test_recordings_of_few_people_say_whom_the_interval_is_about() -> None:
    rows = [utterance(str(number), "one two", speaker=f"s{number % 3}") for number in range(12)]
    report, _ = report_on(FACTS, rows, *([hypothesis_of(row.id, "one") for row in rows],) * 2, Params())
    (note,) = report.notes
    assert report.clusters == 12 and "about these 3 speakers only" in note


@pytest.mark.parametrize(("texts", "measure"), [(("今天天气很好", "今天下雨"), "CER"), (("one two", "three"), "WER")])
def test_scripts_without_blanks_are_reported_by_character(texts: tuple[str, ...], measure: str) -> None:
    rows = [utterance(str(number), text) for number, text in enumerate(texts)]
    heard = [hypothesis_of(str(number), text[:-1]) for number, text in enumerate(texts)]
    report, _ = report_on(FACTS, rows, heard, heard, Params())
    console = Console(width=120, record=True, file=io.StringIO())
    for part in guide_screen(report):
        console.print(part)
    screen = console.export_text()
    assert report.measure == measure and f"{measure} before" in screen
    assert ("every character counts" in screen) == ("WER" not in screen) == (measure == "CER")
