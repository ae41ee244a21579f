"""Imports of corpora that are damaged or count otherwise, and into folders that take nothing: said, never guessed."""

import errno
import json
import os
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

from mondegreen.cli.main import app
from mondegreen.errors import MondegreenError, UsageError
from mondegreen.intake.entries import CorpusFormat
from tests.cases.conftest import small_disk
from tests.intake.corpora import RATE, manifest, samples, taken, tone


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def table(content: str, count: int = 6, name: str = "set/l.csv") -> Path:
    """A table beside the recordings 1.wav, 2.wav, …"""
    for number in range(1, count + 1):
        tone(Path(name).parent / f"{number}.wav", pitch=300 + 40 * number)
    Path(name).write_text(content, encoding="utf-8", newline="")
    return Path(name)


WHOLE = [f"{number}.wav,text {number},ann\n" for number in range(1, 7)]


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ('2.wav,"one" two,ann\n', "',' expected after '\"'"),
        ('2.wav,"two,ann\n', "unexpected end of data"),
        ('2.wav,"two\n" and,ann\n', "',' expected after '\"'"),
    ],
)
def test_a_row_with_a_wrong_quote_takes_no_other_with_it(row: str, said: str) -> None:
    source = table("path,text,speaker\n" + "".join([WHOLE[0], row, *WHOLE[2:]]))
    report, rows = taken("csv", source)
    assert [row.text for row in rows.values()] == [f"text {number}" for number in (1, 3, 4, 5, 6)]
    assert "l.csv:3: this is not CSV: " + said in report.left_out["bad_row"].examples[0]
    assert not report.complete


def test_a_wrong_quote_in_the_header_refuses_the_table_before_anything_is_copied() -> None:
    for header in ('path,"text,speaker\n', 'path,"text" said,speaker\n'):
        with pytest.raises(UsageError, match=r"l\.csv:1: field the whole line: this is not CSV"):
            taken("csv", table(header + "".join(WHOLE)))
    assert not Path("data").exists()


def test_a_row_without_its_text_is_left_out_and_one_without_its_speaker_said() -> None:
    report, rows = taken("csv", table("path,text,speaker\n1.wav,text 1\n2.wav\n3.wav,,ann\n4.wav,text 4,bob\n"))
    assert [(row.text, row.speaker) for row in rows.values()] == [("text 1", ""), ("", "ann"), ("text 4", "bob")]
    assert report.left_out["bad_row"].examples == [
        "set/l.csv:3: field text: it is missing: see whether the row is whole"
    ]
    assert any("l.csv:2: 1 rows have fewer fields than columns" in notice for notice in report.notices)


@pytest.mark.parametrize("columns", [{}, {"text": "text"}])
def test_a_table_that_was_copied_half_way_is_not_taken_for_a_whole_one(columns: dict[str, str]) -> None:
    content = "path,text,speaker\n" + "".join(WHOLE)
    for end in ("5.wav,te", "5.wav", "5.", '5.wav,"te'):
        source = table(content[: content.index("5.wav")] + end)
        report, rows = taken("csv", source, f"data-{len(end)}", columns=columns)
        assert len(rows) == 4 and list(report.left_out) == ["bad_row"]
        assert "l.csv:6: " in report.left_out["bad_row"].examples[0]
    report, rows = taken("csv", table(content.rstrip()))  # whole, without a last line break
    assert len(rows) == 6 and report.complete


def test_a_full_disk_is_an_error_that_says_what_to_do_and_the_import_goes_on_later(tmp_path: Path) -> None:
    tone(Path("set/long.wav"), 60.0)
    for number in range(40):
        tone(Path(f"set/{number}.wav"), 1.0, 300 + number)
    whole = manifest(
        Path("set/whole.json"), *({"audio_filepath": f"{number}.wav", "text": "a"} for number in range(40))
    )
    spans = ({"audio_filepath": "long.wav", "text": "a", "offset": n, "duration": 1.0} for n in range(40))
    parts = manifest(Path("set/parts.json"), *spans)
    for source, size in ((whole, 200), (parts, 200), (parts, 4)):
        with small_disk(tmp_path / "small", kibibytes=size) as disk:
            done = CliRunner().invoke(app, ["data", "import", "nemo", str(source), "--into", str(disk / "data")])
            assert done.exit_code == 1 and isinstance(done.exception, SystemExit), done.exception
            assert "cannot be written: No space left on device." in done.output and "Make room" in done.output
            assert not (disk / "data/references.csv").exists()
            assert not list(disk.rglob("*.part"))
            subprocess.run(["mount", "-o", "remount,size=4m", disk], check=True)
            report, _ = taken("nemo", source, str(disk / "data"))
            assert report.taken == 40 and report.complete
        (tmp_path / "small").rmdir()


def test_a_full_disk_at_the_last_step_names_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(MondegreenError, match=r"data/references\.csv cannot be written: No space(.|\n)*Make room"):
            taken("csv", table("path,text,speaker\n" + "".join(WHOLE)))
    assert not Path("data/references.csv").exists()
    assert taken("csv", "set/l.csv")[0].taken == 6


@pytest.mark.parametrize("blocked", ["data", "data/audio", "data/audio/l"])
@pytest.mark.parametrize("link", [True, False])
def test_a_file_where_the_folder_should_be_is_named_and_not_the_source(blocked: str, link: bool) -> None:
    Path(blocked).parent.mkdir(parents=True, exist_ok=True)
    Path(blocked).write_text("a file")
    with pytest.raises(UsageError, match=f"{blocked} is a file; name a folder"):
        taken("csv", table("path,text,speaker\n" + "".join(WHOLE)), link=link)
    if blocked == "data":
        with pytest.raises(UsageError, match="data is a file"):
            taken("csv", "set/l.csv", "data/below/it")


def test_a_folder_that_may_not_be_written_is_named_and_not_the_source(tmp_path: Path) -> None:
    source = table("path,text,speaker\n" + "".join(WHOLE))
    with small_disk(tmp_path / "small", kibibytes=200) as disk:
        (disk / "data").mkdir()
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        for into in ("data", "other"):
            with pytest.raises(UsageError, match=r"small.* cannot be written into"):
                taken("csv", source, str(disk / into))
        Path("data").mkdir()
        Path("data/audio").symlink_to(disk / "data")  # only the recordings cannot be written
        with pytest.raises(UsageError, match=r"data/audio cannot be written into"):
            taken("csv", source)


def test_a_recording_that_may_not_be_read_and_a_name_that_is_too_long_leave_out_a_row(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ids = ["a", "x" * 260, "c"]
    tone(Path("set/long.wav"), 1.0)
    rows = [{"path": "long.wav", "text": name[:1], "id": name, "offset": 0.25, "duration": 0.25} for name in ids]
    report, found = taken("nemo", manifest(Path("set/m.json"), *rows))
    assert [row.text for row in found.values()] == ["a", "c"]
    assert "File name too long" in report.left_out["bad_name"].examples[0]

    def denied(source: Path, target: Path) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(source))

    monkeypatch.setattr("shutil.copyfile", denied)
    done = CliRunner().invoke(app, ["data", "import", "csv", str(table("path,text\n1.wav,one\n")), "--json"])
    assert json.loads(done.stdout)["left_out"]["unreadable"]["examples"] == [
        "set/l.csv:2: set/1.wav: Permission denied"
    ]


def test_a_source_whose_name_no_disk_can_hold_is_refused() -> None:
    for more in ([], ["--audio", "y" * 300]):
        done = CliRunner().invoke(
            app, ["data", "import", "csv", "x" * 300 if not more else str(table("path\n")), *more]
        )
        assert done.exit_code == 2 and isinstance(done.exception, SystemExit)


def test_a_damaged_segment_of_a_flac_is_left_out_and_those_around_it_are_cut() -> None:
    noise = (np.random.default_rng(0).uniform(-0.5, 0.5, 6 * RATE) * 32767).astype(np.int16)
    Path("set").mkdir()
    soundfile.write("set/d.flac", noise, RATE)
    content = bytearray(Path("set/d.flac").read_bytes())
    middle = len(content) // 2
    content[middle : middle + 2_000] = bytes(byte ^ 0x5A for byte in content[middle : middle + 2_000])
    Path("set/d.flac").write_bytes(content)
    rows = [{"audio_filepath": "d.flac", "text": str(n), "offset": n, "duration": 1.0} for n in (0, 2.5, 5)]
    report, found = taken("nemo", manifest(Path("set/m.json"), *rows))
    assert [row.text for row in found.values()] == ["0", "5"]
    assert np.array_equal(samples(f"data/{next(iter(found))}"), noise[:RATE])
    assert "d.flac is damaged between 2.5 and 3.5 s" in report.left_out["truncated"].examples[0]


def test_segments_of_floats_are_the_same_whenever_they_are_cut() -> None:
    tone(Path("set/a.wav"), 1.0, subtype="FLOAT")
    source = manifest(Path("set/m.json"), {"audio_filepath": "a.wav", "text": "a", "offset": 0.25, "duration": 0.5})
    taken("nemo", source)
    time.sleep(1.1)  # libsndfile writes seconds
    assert taken("nemo", source)[0].there_already == 1


@pytest.mark.parametrize("zero", [0, "0", " 0 "])
def test_channels_that_are_counted_from_0_are_refused_whole(zero: object) -> None:
    sides = [np.full(RATE, 0.25), np.full(RATE, 0.5)]
    Path("set").mkdir()
    soundfile.write("set/call.wav", np.stack(sides, axis=1), RATE)
    rows = [{"audio_filepath": "call.wav", "text": "right", "channel": 1}]
    rows += [{"audio_filepath": "call.wav", "text": "left", "channel": zero}]
    lines = "".join(f"call.wav,{row['text']},{row['channel']}\n" for row in rows)
    Path("set/l.csv").write_text("path,text,channel\n" + lines)
    Path("set/l.stm").write_text("call 1 ann 0 0.5 <o> right\ncall 0 bob 0 0.5 <o> left\n")
    kinds: dict[str, CorpusFormat] = {"m.json:2": "nemo", "l.csv:3": "csv", "l.stm:2": "stm"}
    for where, kind in kinds.items():
        source = manifest(Path("set/m.json"), *rows) if kind == "nemo" else Path("set", where.split(":")[0])
        with pytest.raises(UsageError, match=f"{where}: field channel: it is 0, and channels are counted from 1"):
            taken(kind, source)
    assert not Path("data").exists()
    tone(Path("set/call.wav"), 1.0)
    assert taken("stm", "set/l.stm")[0].taken == 2  # of a recording with one channel, whatever its number is


def test_what_is_no_channel_leaves_a_row_out_and_none_means_all() -> None:
    Path("set").mkdir()
    soundfile.write("set/call.wav", np.stack([np.full(RATE, 0.25), np.full(RATE, 0.5)], axis=1), RATE)
    wrong = [True, False, 0.0, 1.0, [], [1], {}, "left", -1]
    right = [1, "2", " b", None, ""]
    rows = [{"audio_filepath": "call.wav", "text": str(n), "channel": n, "id": f"u{k}"} for k, n in enumerate(wrong)]
    rows += [
        {"audio_filepath": "call.wav", "text": str(n), "channel": n, "offset": 0, "id": f"v{k}"}
        for k, n in enumerate(right)
    ]
    report, found = taken("nemo", manifest(Path("set/m.json"), *rows))
    assert report.left_out["bad_row"].count == len(wrong)
    heard = [samples(f"data/{path}") for path in found]
    assert [part.shape[1:] for part in heard] == [(), (), (), (2,)]  # None and "" are the same recording
    assert [part.flat[0] for part in heard[:3]] == [8192, 16384, 16384]


def test_a_table_that_is_rewritten_in_another_form_is_said() -> None:
    Path("data/audio/old").mkdir(parents=True)
    tone(Path("data/audio/old/a.wav"))
    Path("data/references.csv").write_bytes("path;Sentence\nold/a.wav;le café “ici”\n".encode("cp1252"))
    source = table("path,text,speaker\n" + "".join(WHOLE))
    report, rows = taken("csv", source)
    assert rows["old/a.wav"].text == "le café “ici”"
    said = "\n".join(report.notices)
    for part in ("Windows-1252 was assumed", "separated by semicolons", "Sentence read as text"):
        assert f"data/references.csv:{1 + ('1252' in part)}: " in said and part in said
    assert "data/references.csv: it was rewritten with the new rows: UTF-8, commas, columns path,text,speaker" in said
    again = "\n".join(taken("csv", source)[0].notices)
    assert "rewritten" not in again and "semicolons" not in again


def test_recordings_are_looked_for_in_the_folder_of_audio_first() -> None:
    source = table("path,text,speaker\n" + "".join(WHOLE))
    kept = tone(Path("clean/1.wav"), pitch=900)
    manifest(Path("set/m.json"), {"audio_filepath": "1.wav", "text": "text 1"})
    taken("csv", source, audio=Path("clean"))
    taken("nemo", "set/m.json", audio=Path("clean"))
    for path in ("data/audio/l/1.wav", "data/audio/m/1.wav"):
        assert np.array_equal(samples(path), kept)
    assert len(list(Path("data/audio/l").iterdir())) == 6  # the others lie beside the table


def test_splits_are_kept_apart_below_the_folder_of_audio_too() -> None:
    heard = {}
    for number, split in enumerate(("train", "test")):
        manifest(Path(f"af/{split}/metadata.jsonl"), {"file_name": "1.wav", "transcription": split})
        tone(Path(f"af/{split}/1.wav"))
        heard[split] = tone(Path(f"clean/{split}/1.wav"), pitch=600 + 100 * number)
    tone(Path("clean/1.wav"), pitch=900)
    _, rows = taken("audiofolder", "af", audio=Path("clean"), condition="hub")
    assert {row.text for row in rows.values()} == {"train", "test"}
    for path, row in rows.items():
        assert np.array_equal(samples(f"data/{path}"), heard[row.text])
