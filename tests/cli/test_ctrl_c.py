"""ctrl-C ends a command or a stage with one line and exit code 130; what goes on until it is ended, with 0."""

import os
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from mondegreen.cli.common import GO_ON, confirm, readable
from mondegreen.cli.main import app
from mondegreen.progress import until_stopped
from tests.cli.test_cli_main import _commands

# Run by Python as it starts: presses ctrl-C where a module is imported.
PRESSED = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in a shell's background ignores it
press = lambda *_: os.kill(os.getpid(), signal.SIGINT)
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == os.environ["AT"]:
            exec(os.environ["HOW"])  # as dataclasses do: where Python would end by the signal, not with the code
sys.meta_path.insert(0, Finder())
"""
FINALIZER = "type('Ends', (), {'__del__': press})()"  # from where Python raises nothing
STAGE = "stopped (ctrl-C): a stage; `dvc repro` goes on with it\n"


@pytest.mark.parametrize(
    ("program", "at", "how", "said"),
    [
        ("mondegreen doctor", "mondegreen.cli.main", "press()", "stopped (ctrl-C): mondegreen\n"),
        (
            "mondegreen labels run",
            "mondegreen.loop.case_labels",
            "press()",
            "stopped (ctrl-C): mondegreen labels run; the same command goes on\n",
        ),
        ("mondegreen.stages.train", "mondegreen.config", "press()", STAGE),
        ("mondegreen.stages.train", "mondegreen.config", FINALIZER, STAGE),
    ],
)
def test_it_is_a_line_and_130_while_libraries_are_loaded_too(
    tmp_path: Path, program: str, at: str, how: str, said: str
) -> None:
    (tmp_path / "sitecustomize.py").write_text(PRESSED)
    path = os.pathsep.join([str(tmp_path), *sys.path])
    done = subprocess.run(
        [sys.executable, "-m", *program.split()],
        env=os.environ | {"PYTHONPATH": path, "AT": at, "HOW": how},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr, done.stdout) == (130, said, "")


def test_the_program_on_the_path_is_the_one_that_was_tried() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    assert project["scripts"] == {"mondegreen": "mondegreen.__main__:main"}


def test_which_commands_go_on_are_commands() -> None:
    names = {" ".join(path) for path, _ in _commands(typer.main.get_command(app))}
    assert set(GO_ON) < names


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_what_goes_on_until_it_is_ended_returns(number: signal.Signals, capsys: pytest.CaptureFixture[str]) -> None:
    former, ends = signal.signal(signal.SIGINT, signal.default_int_handler), signal.getsignal(signal.SIGTERM)
    try:
        with until_stopped():
            signal.raise_signal(number)
    finally:
        signal.signal(signal.SIGINT, former)
    assert capsys.readouterr().err == f"stopped ({'ctrl-C' if number == signal.SIGINT else 'SIGTERM'})\n"
    assert signal.getsignal(signal.SIGTERM) is ends


@pytest.mark.parametrize(
    ("command", "at", "code"),
    [
        ("serve --model m --port 0", "mondegreen.serving.server.serve", 0),
        ("ui --port 0", "mondegreen.cli.ui.subprocess.Popen", 0),
        ("models guard --watch", "mondegreen.cli.canary._look_again", 0),
        ("watch", "mondegreen.loop.orchestrator.watch", 0),
        ("watch --once", "mondegreen.loop.orchestrator.watch", 130),
        ("doctor", "mondegreen.registry.doctor.examine", 130),
    ],
)
def test_servers_and_watches_end_with_0_all_else_with_130(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str, at: str, code: int
) -> None:
    def pressed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("mondegreen.cli.ui.addresses", lambda *_: {})
    monkeypatch.setattr(at, pressed)
    done = CliRunner().invoke(app, command.split())
    assert done.exit_code == code and done.stderr.splitlines()[-1].startswith("stopped (ctrl-C)"), done.output


def test_at_a_question_it_is_no_no(monkeypatch: pytest.MonkeyPatch) -> None:
    def pressed(*_: object, **__: object) -> None:
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt:
            raise typer.Abort from None  # as click's own does

    monkeypatch.setattr("typer.confirm", pressed)
    asking = typer.Typer()
    asking.command()(lambda: confirm("Really?"))
    done = CliRunner().invoke(readable(asking))
    assert done.exit_code == 130 and done.stderr.startswith("stopped (ctrl-C)")
