import re
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from mondegreen.cli.main import app
from mondegreen.errors import RegistryError, UsageError

HEAVY = ("torch", "transformers", "mlflow", "peft", "librosa", "scipy", "matplotlib", "soundfile")


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["transcribe", "--help"], ["summary", "--help"]])
def test_help_loads_no_model_library(arguments: list[str]) -> None:
    code = (
        "import sys; from mondegreen.cli.main import app\n"
        f"try: app({arguments!r})\n"
        "except SystemExit as stop: assert not stop.code, stop.code\n"
        f"sys.exit(str([name for name in {HEAVY!r} if name in sys.modules] or ''))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stderr.strip() == "" and done.stdout


def test_version_is_the_packages() -> None:
    result = CliRunner().invoke(app, ["--version"])
    assert result.exit_code == 0 and result.stdout.startswith("mondegreen 0.")


@pytest.mark.parametrize(
    "arguments", [["no-such-command"], ["transcribe"], ["transcribe", "--batch-size", "0", "a.wav"]]
)
def test_wrong_usage_exits_with_2(arguments: list[str]) -> None:
    assert CliRunner().invoke(app, arguments).exit_code == 2


@pytest.mark.parametrize("error, code", [(UsageError("Odd.", "Even it."), 2), (RegistryError("Odd.", "Even it."), 1)])
def test_an_error_is_a_message_and_an_exit_code(monkeypatch: pytest.MonkeyPatch, error: Exception, code: int) -> None:
    def broken(*_: object) -> None:
        raise error

    monkeypatch.setattr("mondegreen.cli.transcribe.named_model", broken)
    result = CliRunner().invoke(app, ["transcribe", "a.wav"])
    assert result.exit_code == code
    assert result.stderr == "error: Odd.\n  What now: Even it.\n" and result.stdout == ""


def _commands(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    yield path, command
    for name, inner in getattr(command, "commands", {}).items():
        yield from _commands(inner, (*path, name))


def test_help_shows_whole_names_and_flowing_paragraphs_at_80_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("typer.rich_utils.MAX_WIDTH", 80)
    for path, command in _commands(get_command(app)):
        text = CliRunner().invoke(app, [*path, "--help"]).stdout
        lines = text.splitlines()
        assert max(map(len, lines)) <= 80 and ("<bool>" not in text or not path), path
        arguments = [item for item in command.params if item.param_type_name == "argument"]
        assert all((item.metavar or "").isupper() for item in arguments), path
        for option in (name for item in command.params for name in (*item.opts, *item.secondary_opts)):
            if option.startswith("--"):
                assert re.search(rf"{option}(?![\w-])", text), f"{path}: {option}"
        prose = text.split("╭")[0].splitlines()
        for line, following in pairwise(prose):
            word = following.split()[0] if following.strip() and line.strip() else ""
            assert not word or len(line.rstrip()) + 1 + len(word) >= 79, f"{path}: a line ends early: {line}"


@pytest.mark.parametrize("spelling", ["--audio_dir", "--audio-dir"])
def test_an_underscore_in_an_option_is_a_hyphen(spelling: str, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["finetune", spelling, str(tmp_path / "none")])
    assert "does not exist" in result.stderr


@pytest.mark.parametrize(
    "command",
    [
        "status", "check", "jobs", "watch --once", "monitor --html page.html", "doctor", "summary", "trials", "report",
        "models list", "models status", "models verify", "models history", "models deploy 1", "models rollback",
        "cases list", "cases stats", "cases verify", "cases versions", "labels audit", "detector evaluate",
        "regression list", "regression report", "audit status", "data check", "transcribe x.wav", "review", "upgrade",
    ],
)  # fmt: skip
def test_outside_of_a_project_nothing_is_written(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MONDEGREEN_DATABASE_URL", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, command.split())
    assert list(tmp_path.iterdir()) == []
    assert isinstance(result.exception, SystemExit | None), result.exception
    assert result.exit_code == 0 or "What now" in result.stderr
