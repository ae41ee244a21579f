"""`mondegreen cases`: what a person types, and what comes back."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner, Result

from mondegreen.cli.main import app
from tests.tiny import save_model


@pytest.fixture
def recordings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Three recordings; the current folder is beside them."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MONDEGREEN_DATABASE_URL", raising=False)
    noise = np.random.default_rng(0)
    paths = [tmp_path / f"{name}.wav" for name in "abc"]
    for path in paths:
        soundfile.write(path, noise.uniform(-0.3, 0.3, 8_000), 16_000)
    return paths


def cases(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["cases", *map(str, arguments)], catch_exceptions=False)


def facts(*arguments: object) -> dict[str, object]:
    result = cases(*arguments, "--json")
    assert result.exit_code == 0, result.stderr
    found: dict[str, object] = json.loads(result.stdout)
    return found


def test_a_case_is_added_listed_shown_and_corrected(recordings: list[Path]) -> None:
    added = facts("add", recordings[0], "--text", "A SMALL [bold]SING", "--model-version", "m1", "--type", "noise")
    key = str(added["id"])
    table = cases("list")
    assert table.exit_code == 0 and key in table.stdout and "[bold]SING" in table.stdout
    assert cases("correct", key[:6], "a small thing", "--author", "Zoë").exit_code == 0
    shown = facts("show", key)
    assert shown["corrected_transcript"] == "a small thing" and shown["label_method"] == "manual"
    assert Path(str(shown["audio"])).read_bytes() == recordings[0].read_bytes()
    assert [entry["author"] for entry in shown["corrections"]] == ["Zoë"]  # type: ignore[attr-defined]
    text = cases("show", key).stdout
    assert "a small thing" in text and "A SMALL [bold]SING" in text and "noise" in text and "m1" in text
    assert facts("stats")["correction_rate"] == 1.0 and "1 case, 1 corrected (100.0 %)" in cases("stats").stdout


def test_a_table_or_an_option_says_whose_voice_it_is(recordings: list[Path], tmp_path: Path) -> None:
    one, two = recordings[:2]
    table = tmp_path / "calls.csv"
    table.write_text(f"file,speaker_id,source,channel\n{one.name},Zoë,tape 7; from a friend,left\nother.wav,Bob,,\n")
    result = cases("add", one, two, "--text", "x", "--metadata", table)
    assert result.exit_code == 2  # one text for two
    added = [facts("add", path, "--text", "x", "--metadata", table, "--channel", "right") for path in (one, two)]
    assert [case["metadata"] for case in added] == [
        {"speaker": "Zoë", "recording": "tape 7", "channel": "right"},
        {"channel": "right"},
    ]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("file,text\na.wav,hi\n", ":1: field speaker: there must be a column path"),
        ("speaker\nZoë\n", ":1: field path: there must be a column path"),
        ("path,speaker\n{name},a\n{name},b\n", ":3: field path: another row says something else"),
        ("path,speaker\n{name},a,b\n", ":2: field the whole line: there are more fields"),
    ],
)
def test_a_wrong_table_of_voices_names_line_and_field(
    recordings: list[Path], tmp_path: Path, content: str, said: str
) -> None:
    table = tmp_path / "calls.csv"
    table.write_text(content.replace("{name}", recordings[0].name))
    result = cases("add", recordings[0], "--text", "x", "--metadata", table)
    assert result.exit_code == 2 and f"{table}{said}" in " ".join(result.stderr.split())


@pytest.mark.parametrize("rows", [["s1,Ann"], ["s1,Ann", "s2,Bob"], ["s2,Bob", "s1,Ann"]])
def test_nobody_else_s_recording_of_the_same_name_says_whose_voice_it_is(
    recordings: list[Path], tmp_path: Path, caplog: pytest.LogCaptureFixture, rows: list[str]
) -> None:
    for name, path in zip(("s1", "s2"), recordings[:2], strict=True):
        (tmp_path / name).mkdir()
        path.rename(tmp_path / name / "1.wav")
    table = tmp_path / "lists/calls.csv"
    table.parent.mkdir()
    lines = ["{}/{}/1.wav,{}".format(tmp_path, *row.split(",")) for row in rows]
    table.write_text("\n".join(["path,speaker", *lines]))
    added = cases("add", "s2/1.wav", "--text", "x", "--metadata", table, "--json")
    assert added.exit_code == 0
    assert json.loads(added.stdout)["metadata"] == ({"speaker": "Bob"} if "s2,Bob" in rows else {})
    assert ("1 of 1 recordings have no row" in caplog.text) == ("s2,Bob" not in rows)


def test_a_path_that_is_read_as_another_is_said_and_of_two_such_none_counts(
    recordings: list[Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    table = tmp_path / "calls.csv"
    table.write_text("path,speaker\n/gone/old/a.wav,Ann\n")
    added = cases("add", recordings[0], "--text", "x", "--metadata", table, "--json")
    assert json.loads(added.stdout)["metadata"] == {"speaker": "Ann"}
    assert f"1 paths: /gone/old/a.wav (line 2) read as {recordings[0]}" in caplog.text
    table.write_text("path,speaker\n/gone/old/b.wav,Ann\n/gone/new/b.wav,Bob\n")
    added = cases("add", recordings[1], "--text", "x", "--metadata", table, "--json")
    assert json.loads(added.stdout)["metadata"] == {}
    assert "/gone/new/b.wav (line 3) may be b.wav, and so may /gone/old/b.wav" in caplog.text


def test_without_a_text_the_model_transcribes_and_a_bad_file_does_not_stop_it(
    recordings: list[Path], tmp_path: Path
) -> None:
    model = save_model(tmp_path / "model")
    (tmp_path / "bad.wav").write_text("a letter\n" * 99)
    result = cases("add", tmp_path / "bad.wav", *recordings[:2], "--model", model, "--json")
    assert result.exit_code == 1 and "bad.wav" in result.stderr
    added = [json.loads(line) for line in result.stdout.splitlines()]
    heard = CliRunner().invoke(app, ["transcribe", *map(str, recordings[:2]), "--model", str(model), "--json"])
    assert [case["original_transcript"] for case in added] == [
        json.loads(line)["text"] for line in heard.stdout.splitlines()
    ]
    assert {case["model_version"] for case in added} == {json.loads(heard.stdout.splitlines()[0])["model"]}
    again = cases("add", recordings[0], "--model", model)
    assert "seen 2 times" in again.stdout and again.exit_code == 0


def test_filters_and_pages_narrow_a_list(recordings: list[Path]) -> None:
    for number, path in enumerate(recordings):
        facts("add", path, "--text", f"NUMBER {number}", "--model-version", f"m{number % 2}", "--source", f"s{number}")
    assert cases("correct", str(facts("list", "--text", "number 2")["cases"][0]["id"]), "two").exit_code == 0  # type: ignore[index]

    def texts(*arguments: str) -> list[str]:
        return [case["original_transcript"] for case in facts("list", *arguments)["cases"]]  # type: ignore[attr-defined]

    assert texts() == ["NUMBER 2", "NUMBER 1", "NUMBER 0"]
    assert texts("--model-version", "m0") == ["NUMBER 2", "NUMBER 0"]
    assert texts("--source", "s1") == ["NUMBER 1"]
    assert texts("--corrected") == texts("--method", "manual") == ["NUMBER 2"]
    assert texts("--uncorrected", "--unused") == ["NUMBER 1", "NUMBER 0"]
    assert texts("--since", "1h") == texts() and texts("--until", "1h") == [] and texts("--since", "2999-01-01") == []
    first = facts("list", "--limit", "2")
    assert texts("--limit", "2", "--after", str(first["next"])) == ["NUMBER 0"]
    assert "No case is like that." in cases("list", "--used").stdout


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["list", "--since", "yesterday"], "--since yesterday"),
        (["list", "--method", "guess"], "method"),
        (["list", "--limit", "0"], "limit"),
        (["add", "a.wav", "b.wav", "--text", "A"], "--text"),
        (["add", "a.wav"], "--model"),
        (["list", "--store", "nowhere"], "no case store in nowhere"),
    ],
)
def test_wrong_usage_is_named_and_exits_with_2(recordings: list[Path], arguments: list[str], said: str) -> None:
    facts("add", recordings[2], "--text", "C")
    result = cases(*arguments)
    assert result.exit_code == 2 and said in result.stderr and result.stdout == ""


def test_an_unknown_case_exits_with_1(recordings: list[Path]) -> None:
    facts("add", recordings[0], "--text", "A")
    for arguments in (["show", "000000"], ["correct", "000000", "text"], ["list", "--after", "000000"]):
        result = cases(*arguments)
        assert result.exit_code == 1 and "no case 000000" in result.stderr and result.stdout == ""


def test_characters_that_the_model_cannot_write_are_reported_and_kept(recordings: list[Path], tmp_path: Path) -> None:
    save_model(tmp_path / "model")
    (tmp_path / "params.yaml").write_text("model: {base: model}\n")
    key = facts("add", recordings[0], "--text", "A")["id"]
    fine = cases("correct", key, "Don’t, please – he said.")
    assert fine.exit_code == 0 and fine.stderr == ""
    odd = cases("correct", key, "pay 50 € 50 now")
    assert odd.exit_code == 0 and "model cannot write '5' '0' '€'" in odd.stderr
    assert facts("show", key)["corrected_transcript"] == "pay 50 € 50 now"
    (tmp_path / "params.yaml").write_text("model: {base: nobody/no-such-model}\n")
    assert cases("correct", key, "50 €").stderr == ""


def test_verify_exits_with_1_when_audio_is_corrupt(recordings: list[Path]) -> None:
    case = facts("add", recordings[0], "--text", "A")
    assert "All is well." in cases("verify").stdout
    Path(str(facts("show", case["id"])["audio"])).write_bytes(b"rust")
    result = cases("verify")
    assert result.exit_code == 1 and f"corrupt: {case['audio_sha256']}" in result.stdout
    assert str(case["id"]) in result.stdout and "What now" in result.stdout
    assert json.loads(cases("verify", "--json").stdout)["corrupt"] == [case["audio_sha256"]]
    assert cases("add", recordings[0], "--text", "A").exit_code == 0  # what it said to do
    assert cases("verify").exit_code == 0
    Path(str(facts("show", case["id"])["audio"])).unlink()
    shown = cases("show", case["id"], "--json")
    assert shown.exit_code == 0 and json.loads(shown.stdout)["audio"] is None and "not in" in shown.stderr
    assert cases("verify").exit_code == 1
