import json
import os
from pathlib import Path

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner, Result

from mondegreen.cli.main import app
from mondegreen.speech.transcriber import BaselineSTTModel
from tests.tiny import save_model


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("model"))


@pytest.fixture
def recordings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two good recordings of different rates, and a letter that calls itself one; the current folder is beside them."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "recordings"
    folder.mkdir()
    noise = np.random.default_rng(0)
    soundfile.write(folder / "a.wav", noise.uniform(-0.3, 0.3, 8_000), 8_000)
    soundfile.write(folder / "b.flac", noise.uniform(-0.3, 0.3, (22_050, 2)), 44_100)
    (folder / "bad.wav").write_text("Dear reader, this is a letter.\n" * 9)
    return folder


def transcribe(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["transcribe", *map(str, arguments)], catch_exceptions=False)


def test_json_is_one_object_a_file_in_the_order_given(model: Path, recordings: Path) -> None:
    good = [recordings / "b.flac", recordings / "a.wav"]
    result = transcribe(*good, "--model", model, "--json")
    assert result.exit_code == 0 and result.stderr == ""
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert [line["path"] for line in lines] == [str(path) for path in good]
    assert [line["duration"] for line in lines] == [0.5, 1.0]
    for line in lines:
        assert {"path", "text", "confidence", "duration", "words", "nbest"} <= line.keys()
        assert 0 <= line["confidence"] <= 1 and line["nbest"]
        assert [word["text"] for word in line["words"]] == line["text"].split()


def test_the_bar_moves_with_the_windows_of_a_long_recording(
    model: Path, recordings: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    noise = np.random.default_rng(1).uniform(-0.3, 0.3, 480_000)
    soundfile.write(recordings / "long.wav", noise, 8_000)
    shown: list[tuple[str, float]] = []
    monkeypatch.setattr(
        "mondegreen.progress.Bar.show", lambda self, what, done, total, piece="": shown.append((what, done))
    )
    assert transcribe(recordings / "long.wav", recordings / "a.wav", "--model", model).exit_code == 0
    assert shown == [
        ("transcribing", 0),
        ("transcribing, 0:00:00 of 0:01:00", 0),
        ("transcribing, 0:00:20 of 0:01:00", pytest.approx(1 / 3)),
        ("transcribing, 0:00:40 of 0:01:00", pytest.approx(2 / 3)),
        ("transcribing", 1),
        ("transcribing", 2),
    ]


def test_a_bad_file_is_reported_and_the_rest_go_on(model: Path, recordings: Path) -> None:
    paths = [recordings / "bad.wav", recordings / "missing.wav", recordings / "a.wav"]
    result = transcribe(*paths, "--model", model, "--json")
    assert result.exit_code == 1
    bad, missing, good = (json.loads(line) for line in result.stdout.splitlines())
    assert (bad["path"], bad["reason"]) == (str(paths[0]), "not_audio") and "bad.wav" in bad["error"]
    assert missing["reason"] == "missing" and "text" in good
    assert "bad.wav" in result.stderr and "missing.wav" in result.stderr


def test_a_name_that_is_no_text_loses_no_batch(model: Path, recordings: Path) -> None:
    names = [b"caf\xe9.flac", "u\u0308ber.wav".encode(), b"two\nlines.wav", b"bad\xff.wav"]
    for name in names:
        source = {b"b": "bad.wav", b"c": "b.flac"}.get(name[:1], "a.wav")
        (recordings / os.fsdecode(name)).hardlink_to(recordings / source)
    result = transcribe(recordings, "--model", model, "--json", "--log")
    assert result.exit_code == 1 and "not logged" not in result.stderr
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    found = {os.fsencode(Path(line["path"]).name): line for line in lines}
    assert found.keys() == {*names, b"a.wav", b"b.flac", b"bad.wav"}
    assert [name for name in sorted(found) if "error" in found[name]] == [b"bad.wav", b"bad\xff.wav"]
    assert "caf\\udce9.flac (" in transcribe(recordings, "--model", model).stdout


def test_the_batch_size_never_changes_the_text(model: Path, recordings: Path) -> None:
    texts = []
    for size in (1, 2, 8):
        result = transcribe(
            recordings / "a.wav", recordings / "b.flac", "--model", model, "--batch-size", size, "--json"
        )
        texts.append([json.loads(line)["text"] for line in result.stdout.splitlines()])
    assert texts[0] == texts[1] == texts[2]


def test_a_folder_stands_for_the_recordings_in_it(model: Path, recordings: Path) -> None:
    result = transcribe(recordings, "--model", model, "--json")
    names = [Path(json.loads(line)["path"]).name for line in result.stdout.splitlines()]
    assert names == ["a.wav", "b.flac", "bad.wav"] and result.exit_code == 1


def test_a_folder_without_recordings_is_an_error(model: Path, tmp_path: Path) -> None:
    result = transcribe(tmp_path, "--model", model, "--json")
    assert result.exit_code == 1 and json.loads(result.stdout)["reason"] == "unreadable"


def test_without_json_a_line_is_for_people(model: Path, recordings: Path) -> None:
    result = transcribe(recordings / "a.wav", "--model", model)
    heard = BaselineSTTModel(str(model)).transcribe(recordings / "a.wav")
    assert result.stdout.startswith(f"{recordings / 'a.wav'} (1.0 s, confidence ")
    assert result.stdout.rstrip().endswith(heard.text)


def test_the_model_of_params_yaml_is_the_default(model: Path, recordings: Path, tmp_path: Path) -> None:
    assert transcribe(recordings / "a.wav").exit_code == 2
    (tmp_path / "params.yaml").write_text(f"model: {{base: {model}}}\n")
    result = transcribe(recordings / "a.wav", "--json")
    assert result.exit_code == 0 and json.loads(result.stdout)["text"] is not None


def test_a_long_recording_is_taken_in_windows(model: Path, recordings: Path, tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text(f"model: {{base: {model}}}\naudio: {{max_duration: 0.8}}\n")
    result = transcribe(recordings / "a.wav", "--json")
    line = json.loads(result.stdout)
    assert result.exit_code == 0 and line["duration"] == 1.0 and line["nbest"] == []


def two_speakers(path: Path) -> Path:
    noise = np.random.default_rng(1).uniform(-0.3, 0.3, (16_000, 2))
    soundfile.write(path, noise, 16_000)
    return path


def test_split_hears_each_channel_under_a_name_of_its_own(model: Path, recordings: Path) -> None:
    call = two_speakers(recordings / "call.wav")
    result = transcribe(call, recordings / "a.wav", "--model", model, "--channel", "split", "--json")
    first, second, mono = (json.loads(line) for line in result.stdout.splitlines())
    assert [first["path"], second["path"], mono["path"]] == [f"{call}#1", f"{call}#2", str(recordings / "a.wav")]
    assert first["text"] != second["text"]
    alone = transcribe(f"{call}#2", "--model", model, "--json")
    taken = transcribe(call, "--model", model, "--channel", "second", "--json")
    assert [json.loads(one.stdout)["text"] for one in (alone, taken)] == [second["text"]] * 2
    third = transcribe(f"{call}#3", "--model", model, "--json")
    assert third.exit_code == 1 and json.loads(third.stdout)["reason"] == "no_channel"


def test_what_was_not_heard_is_said_as_text_and_in_json(model: Path, recordings: Path) -> None:
    whole = (recordings / "a.wav").read_bytes()
    (recordings / "cut.wav").write_bytes(whole[:-1_000])
    result = transcribe(recordings / "cut.wav", "--model", model)
    assert result.exit_code == 0 and "cut.wav: its header says 16000 bytes of audio" in result.stderr
    assert "0.062 s" in result.stderr
    warnings = json.loads(transcribe(recordings / "cut.wav", "--model", model, "--json").stdout)["warnings"]
    assert len(warnings) == 1 and "0.062 s" in warnings[0]
    (recordings / "half.wav").write_bytes(whole[:8_000])
    refused = transcribe(recordings / "half.wav", "--model", model, "--json")
    assert refused.exit_code == 1 and json.loads(refused.stdout)["reason"] == "truncated"


def test_files_of_a_folder_that_are_not_taken_are_counted_and_named(model: Path, recordings: Path) -> None:
    for name in (".DS_Store", "._a.wav", "notes.txt"):
        (recordings / name).write_bytes(b"x")
    result = transcribe(recordings, "--model", model, "--json")
    assert len(result.stdout.splitlines()) == 3
    assert "1 file was not taken, being no recordings by name: notes.txt" in result.stderr
    assert "2 files were skipped, being hidden or a resource fork" in result.stderr


def test_phrases_of_a_file_are_heard_and_those_that_cannot_be_are_named(
    model: Path, recordings: Path, tmp_path: Path
) -> None:
    plain = json.loads(transcribe(recordings / "a.wav", "--model", model, "--json").stdout)
    listed = tmp_path / "phrases.yaml"
    listed.write_text(f"phrases:\n  - 4711\u00a0x\n  - {{phrase: zustand, sounds_like: {plain['text'].split()[0]}}}\n")
    result = transcribe(recordings / "a.wav", "--model", model, "--json", "--phrases", listed)
    found = json.loads(result.stdout)
    assert result.exit_code == 0 and "DIGIT FOUR" in result.stderr and "left out" in result.stderr
    assert found["text"].startswith("ZUSTAND") and found["model"] != plain["model"]
    listed.write_text("phrases:\n  - phrase: a\n    weight: heavy\n")
    wrong = transcribe(recordings / "a.wav", "--model", model, "--phrases", listed)
    assert wrong.exit_code == 2 and f"{listed}:3: phrase 1, field weight" in wrong.stderr
