"""A file or folder that cannot be written: said before the work, and never as a traceback after it."""

import errno
import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner, Result

from mondegreen.cli.main import app
from mondegreen.errors import MondegreenError
from mondegreen.files import write_jsonl, writing
from mondegreen.progress import exit_on_error
from mondegreen.scoring import phrases
from mondegreen.scoring.verdict import TermScore
from mondegreen.speech import ngram_files, transcriber, tuning
from mondegreen.speech.kneser_ney import language_model
from mondegreen.speech.tuning import LmTuning, StrengthRow, Tuning, WeightRow
from tests.scoring.examples import utterance
from tests.tiny import save_model


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [*map(str, arguments)], catch_exceptions=False)


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text("seed: 7\n")
    Path("file").write_text("below it nothing can be written")
    write_jsonl(Path("build/prepare/manifest.jsonl"), [utterance("a", "one", split="dev")])
    return tmp_path


@pytest.mark.parametrize(
    "command",
    [
        "lm build --model no-such-model --output file/words.lm",
        "lm convert no-such.lm file/words.lm",
        "phrases mine --store no-such-store --output file/mined.yaml",
        "data check no-such-folder --html file/page.html",
        "data retention --model no-such-model --data file/data",
        "detector calibrate --build no-such-folder --folder file/detector",
        "monitor --html file/page.html",
    ],
)
def test_where_nothing_can_be_written_is_said_before_anything_else(command: str) -> None:
    before = sorted(Path().rglob("*"))
    refused = run(*command.split())
    assert refused.exit_code == 2 and "error: file" in refused.stderr and "no-such" not in refused.stderr
    assert "What now: " in refused.stderr and sorted(Path().rglob("*")) == before


@pytest.mark.parametrize("command", ["lm tune words.lm --write", "phrases tune list.yaml --write"])
def test_a_file_that_may_not_be_changed_is_named_before_dev_is_heard(
    command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("list.yaml").write_text("phrases: [one]\n")
    monkeypatch.setattr("os.access", lambda path, mode: not mode & os.W_OK)  # whoever runs the tests may be root
    refused = run(*command.split(), "--model", "no-such-model")
    assert refused.exit_code == 2 and f"{command.split()[2]} cannot be written" in refused.stderr


def full(*inputs: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def weigh(monkeypatch: pytest.MonkeyPatch) -> None:
    rates = {"wer": 0.1, "loss_bound": 0.0, "retention_wer": None, "retention_loss_bound": None}
    row = WeightRow(alpha=0.5, beta=1.0, **rates, allowed=True)
    fields = {"margin": 0.1, "retention_margin": 0.1, "utterances": 1, "retention_utterances": 0}
    found = LmTuning(model="m", **fields, rows=(row,), alpha=0.5, beta=1.0)
    monkeypatch.setattr(tuning, "tune_lm", lambda *inputs: found)
    monkeypatch.setattr(ngram_files, "write_bytes", full)


def strengthen(monkeypatch: pytest.MonkeyPatch) -> None:
    terms = TermScore(said=1, heard=1, invented=0, recall=1.0, precision=1.0, error_rate=0.0)
    row = StrengthRow(strength=1.5, phrases=terms, wer=0.1, loss_bound=0.0, false_an_hour=None, allowed=True)
    fields = {"utterances": 1, "retention_seconds": 0.0, "margin": 0.1, "max_false_an_hour": 5.0}
    found = Tuning(model="m", **fields, rows=(row,), chosen=1.5)
    monkeypatch.setattr(tuning, "tune", lambda *inputs: found)
    monkeypatch.setattr(phrases, "write_text", full)


@pytest.mark.parametrize(
    ("command", "breaks", "measured", "next_step"),
    [
        ("lm tune words.lm --write", weigh, "0.5", "--alpha 0.5 --beta 1` writes another file"),
        ("phrases tune list.yaml --write", strengthen, "1.5", "Set strength: 1.5 in it"),
    ],
)
def test_what_was_measured_is_shown_though_it_cannot_be_written(
    command: str,
    breaks: Callable[[pytest.MonkeyPatch], None],
    measured: str,
    next_step: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Path("list.yaml").write_text("phrases: [one]\n")
    ngram_files.write_lm(Path("words.lm"), language_model([["YES", "NO"]] * 3, 2, (0,))[0])
    before = Path("words.lm").read_bytes(), Path("list.yaml").read_bytes()
    heard = SimpleNamespace(boost=None, with_phrases=lambda listed: SimpleNamespace(boost=None))
    monkeypatch.setattr(transcriber, "load_transcriber", lambda *inputs: heard)
    breaks(monkeypatch)
    refused = run(*command.split(), "--model", "any")
    assert refused.exit_code == 1 and "cannot be written: No space left on device" in refused.stderr
    assert "Make room" in refused.stderr
    assert measured in refused.stdout and next_step in refused.stderr
    assert (Path("words.lm").read_bytes(), Path("list.yaml").read_bytes()) == before


@pytest.mark.parametrize(
    "command", ["build text.txt --no-corrections --model model -o new.lm", "convert words.lm new.lm"]
)
def test_a_language_model_for_which_there_is_no_room_is_an_error_with_a_next_step(
    command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_model(Path("model"), num_hidden_layers=1)
    Path("text.txt").write_text("yes no\nno yes\n")
    ngram_files.write_lm(Path("words.lm"), language_model([["YES", "NO"]] * 3, 2, (0,))[0])
    monkeypatch.setattr(ngram_files, "write_bytes", full)
    refused = run("lm", *command.split())
    assert refused.exit_code == 1 and "error: new.lm cannot be written: No space left" in refused.stderr
    assert "Make room" in refused.stderr and not Path("new.lm").exists()


@pytest.mark.parametrize(
    ("number", "code"), [(errno.ENOSPC, 1), (errno.EDQUOT, 1), (errno.EACCES, 2), (errno.EROFS, 2)]
)
def test_a_full_disk_is_no_fault_of_the_command_and_a_wrong_folder_is(number: int, code: int) -> None:
    with pytest.raises(MondegreenError, match="place/file cannot be written") as said, writing(Path("place/file")):
        raise OSError(number, os.strerror(number))
    assert said.value.exit_code == code and ("Make room" in said.value.next_step) == (code == 1)


def test_a_disk_that_is_full_in_the_middle_of_anything_is_said_without_a_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def unsaved(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "var/somewhere")

    monkeypatch.setattr("mondegreen.project.upgrading.changes", unsaved)
    refused = run("upgrade")
    said = "error: var/somewhere cannot be written: No space left on device.\n  What now: Make room"
    assert refused.exit_code == 1 and said in refused.stderr
    with pytest.raises(SystemExit) as ended, exit_on_error():  # a stage's
        unsaved()
    assert ended.value.code == 1 and said in capsys.readouterr().err
    with pytest.raises(PermissionError), exit_on_error():  # what nobody expects keeps its traceback
        raise PermissionError(errno.EACCES, "Permission denied")
