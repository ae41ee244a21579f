"""A corpus that names more recordings than are there: none gets the text of another of the same name."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mondegreen.cli.main import app
from mondegreen.scoring.references import read_table
from tests.intake.corpora import manifest, tone


@pytest.mark.parametrize("whole", [True, False])
def test_a_recording_that_is_there_keeps_its_own_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    tone(Path("set/b/1.wav"))
    folder = tmp_path / "set" if whole else Path()
    rows = [{"audio_filepath": str(folder / name / "1.wav"), "text": f"said in {name}"} for name in ("a", "b")]
    source = manifest(Path("set/train.json"), *rows)
    told = CliRunner().invoke(app, ["data", "import", "nemo", str(source), "--json"])
    report = json.loads(told.stdout)
    assert told.exit_code == 1 and report["moved"]["count"] == 0
    assert {reason: found["count"] for reason, found in report["left_out"].items()} == {"missing": 1}
    assert "a/1.wav" in report["left_out"]["missing"]["examples"][0]
    (row,) = read_table(Path("data/references.csv"), notices=[])
    assert row.path.endswith("/b/1.wav") and row.text == "said in b"
