import subprocess
import sys

import pytest
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
