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


@pytest.mark.parametrize(
    ("there", "named", "taken"),
    [
        (["set/b/1.wav"], ["/export/a/1.wav", "/export/b/1.wav"], {"/export/b/1.wav"}),  # it agrees in a folder more
        (["set/1.wav"], ["/export/a/1.wav", "/export/b/1.wav"], set()),
        (["set/b/1.wav"], ["/export/a/1.wav", "b/1.wav"], {"b/1.wav"}),
        (
            ["set/b/1.wav"],
            ["/export/a/1.wav", "B/1.WAV", "b/1.wav"],
            {"B/1.WAV", "b/1.wav"},
        ),  # spelt otherwise: no guess
        (["set/1.wav"], ["/export/a/1.wav", "/export/a/1.wav"], {"/export/a/1.wav"}),  # two segments of one
    ],
)
@pytest.mark.parametrize("form", ["nemo", "kaldi"])
def test_of_two_names_for_one_recording_a_guess_gives_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str, there: list[str], named: list[str], taken: set[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in there:
        tone(Path(name), seconds=2)
    spans = [(0.5 * number, 0.5 * number + 0.5) for number in range(len(named))]
    if form == "nemo":
        rows = [
            {"audio_filepath": name, "text": name, "offset": start, "duration": end - start}
            for name, (start, end) in zip(named, spans, strict=True)
        ]
        source = manifest(Path("set/train.json"), *rows)
    else:
        source = Path("set")
        keys = [f"{number}-x" for number in range(len(named))]
        for table, values in {
            "wav.scp": named,
            "text": named,
            "segments": [f"{key} {start} {end}" for key, (start, end) in zip(keys, spans, strict=True)],
        }.items():
            lines = [f"{key} {value}" for key, value in zip(keys, values, strict=True)]
            (source / table).write_text("\n".join(lines) + "\n")
    told = CliRunner().invoke(app, ["data", "import", form, str(source), "--json"])
    report = json.loads(told.stdout)
    left = report["left_out"].get("guessed", {"count": 0, "examples": []})
    assert report["rows"] == len(named) == report["taken"] + left["count"]
    found = read_table(Path("data/references.csv"), notices=[]) if report["taken"] else []
    assert {row.text for row in found} == taken
    assert all(any(f"{name} may be " in line for line in left["examples"]) for name in set(named) - taken)
