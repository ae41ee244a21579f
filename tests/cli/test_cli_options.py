"""Options of which one would make the other mean nothing: an error that names both, and nothing is dropped."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from mondegreen.cli.main import app


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("validate a b --retention kept.csv --no-retention", "--retention names a set, --no-retention asks for none"),
        ("validate --looks --dev", "--looks shows the record and judges nothing"),
        ("validate a b --looks", "--looks shows the record and judges nothing"),
        ("report --markdown --clips 3", "--clips play in a page, --markdown writes none"),
        ("cases add a.wav --text hello --model base", "--text says what was heard: --model has nothing to transcribe"),
        ("models guard --interval 5m", "--interval is between the looks of --watch"),
        ("models shadow 2 --audio a.wav --since 24h", "--since is of what the service kept, --audio names recordings"),
        ("lm convert words.lm words.arpa --alpha 0.5", "ARPA has no place for alpha and beta"),
        ("regression add core folder --model base --baseline-wer 0.1", "--model measures the baseline, --baseline-wer"),
        ("regression run base --stored --baseline other", "--stored compares with no model, --baseline names one"),
        ("watch --once --interval 5m", "--once and --interval exclude each other"),
    ],
)
def test_options_that_cancel_each_other_are_wrong_usage(
    command: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text("seed: 7\n")
    before = sorted(Path().rglob("*"))
    refused = CliRunner().invoke(app, command.split())
    assert refused.exit_code == 2 and f"error: {said}" in refused.stderr.replace("words.arpa: ", "")
    assert "What now: " in refused.stderr and not refused.stdout and sorted(Path().rglob("*")) == before
