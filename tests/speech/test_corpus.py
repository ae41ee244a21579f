"""Finding recordings and references below a user's data folder."""

import os
import unicodedata
from pathlib import Path

import pytest

from mondegreen.delimited import Notice
from mondegreen.errors import UsageError
from mondegreen.speech.corpus import discover


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(os.fsencode(name))


@pytest.mark.parametrize(
    ("name", "condition"),
    [("audio/clean/a.wav", "clean"), ("noisy/deep/a.FLAC", "noisy"), ("a.ogg", "all"), ("audio/a.mp3", "all")],
)
def test_condition_is_the_folder(tmp_path: Path, name: str, condition: str) -> None:
    touch(tmp_path, name)
    assert [item.condition for item in discover(tmp_path)] == [condition]


def test_other_folders_and_files_are_not_scanned(tmp_path: Path) -> None:
    touch(tmp_path, "clean/a.wav", "regression/s/audio/b.wav", "failed_cases/c.wav", "clean/.d.wav", "clean/notes.txt")
    assert [item.path.name for item in discover(tmp_path)] == ["a.wav"]


def test_a_name_that_is_no_text_is_left_out_by_name(tmp_path: Path) -> None:
    touch(tmp_path, "clean/a.wav", os.fsdecode(b"clean/caf\xe9.wav"), os.fsdecode(b"no\xffisy/b.wav"), "c.csv")
    notices: list[Notice] = []
    assert [item.path.name for item in discover(tmp_path, notices)] == ["a.wav"]
    left_out = [notice for notice in notices if notice.code == "name_not_utf8"]
    assert [notice.file.split(str(tmp_path))[1] for notice in left_out] == [
        r"/clean/caf\udce9.wav",
        r"/no\udcffisy/b.wav",
    ]
    assert "rename" in str(left_out[0])


def test_a_decomposed_name_on_disk_has_its_composed_row(tmp_path: Path) -> None:
    touch(
        tmp_path, "clean/" + unicodedata.normalize("NFD", "für.wav"), "clean/" + unicodedata.normalize("NFC", "ö.wav")
    )
    table = "path,text\nclean/{},one\nclean/{},two\n".format("f\u00fcr.wav", "o\u0308.wav")
    (tmp_path / "references.csv").write_text(table, encoding="utf-8")
    assert sorted(item.reference for item in discover(tmp_path)) == ["one", "two"]


def test_retention_is_its_own_domain_with_its_own_references(tmp_path: Path) -> None:
    touch(tmp_path, "clean/a.wav", "retention/audio/b.flac")
    (tmp_path / "retention/references.csv").write_text("path,text,condition\naudio/b.flac,Hello there,synthetic\n")
    target, retention = discover(tmp_path)
    assert (target.domain, target.reference) == ("target", "")
    assert (retention.domain, retention.reference, retention.condition) == ("retention", "Hello there", "synthetic")


def test_copies_without_source_share_the_recording_by_name(tmp_path: Path) -> None:
    touch(tmp_path, "clean/a.wav", "noisy/a.wav", "noisy/bob/a.wav")
    assert [item.recording for item in discover(tmp_path)] == ["a", "a", "bob/a"]


def test_source_up_to_the_semicolon_is_the_recording(tmp_path: Path) -> None:
    touch(tmp_path, "clean/a.wav")
    (tmp_path / "references.csv").write_text("path,text,source\nclean/a.wav,Hi,tape 7; music at 3.1 dB\n")
    assert discover(tmp_path)[0].recording == "tape 7"


def test_the_column_recording_names_the_recording_and_what_it_leaves_open_is_said(tmp_path: Path) -> None:
    touch(tmp_path, *(f"clean/{name}.wav" for name in "abcd"), "retention/a.wav", "retention/b.wav", "replay/c.wav")
    table = "path,text,recording_id,source\n"
    rows = (
        "clean/a.wav,Hi,call 7,\nclean/b.wav,Ho,call 7,a corpus; 8 kHz\nclean/c.wav,Ha,,tape 7; cut\nclean/d.wav,He,,\n"
    )
    (tmp_path / "references.csv").write_text(table + rows)
    (tmp_path / "retention/references.csv").write_text(table + "a.wav,Hi,1,a synthesiser\nb.wav,Ho,1,a synthesiser\n")
    (tmp_path / "replay/references.csv").write_text(table + "c.wav,Hi,1,a synthesiser\n")
    notices: list[Notice] = []
    found = {item.path.relative_to(tmp_path).as_posix(): item.recording for item in discover(tmp_path, notices)}
    assert [found[f"clean/{name}.wav"] for name in "abcd"] == ["call 7", "call 7", "tape 7", "d"]
    assert [found[f"retention/{name}.wav"] for name in "ab"] == ["retention/1", "retention/1"]
    assert found["replay/c.wav"] == "replay/1"  # of another corpus: no call of data/audio
    said = [str(notice) for notice in notices if notice.file == str(tmp_path / "references.csv")]
    assert any("field recording: it is empty in 1 of 4 rows: lines 5" in line for line in said)
    assert any("field source: in 1 of 4 rows it names another recording" in line for line in said)


def test_one_source_for_all_of_retention_is_not_one_recording(tmp_path: Path) -> None:
    touch(tmp_path, "retention/a.flac", "retention/b.flac")
    (tmp_path / "retention/references.csv").write_text(
        "path,text,source\na.flac,Hi,a synthesiser\nb.flac,Ho,a synthesiser\n"
    )
    assert [item.recording for item in discover(tmp_path)] == ["retention/a", "retention/b"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("path,words\na.wav,Hi\n", "references.csv:1: field text"),
        ("", "references.csv:1: field path"),
        ("path,text\nb.wav,Hi\n", "references.csv:2: field path: there is no recording b.wav (did you mean a.wav?)"),
        (
            "path,text\na.wav,Hi\nA.WAV,Ho\n",
            ":3: field path: A.WAV means the recording a.wav",
        ),
        (
            "path,speaker,text,client_id\na.wav,,Hi,\n",
            "1: field speaker: the columns 'speaker' and 'client_id' mean",
        ),
        ("path,text\na.wav,Hi\n./a.wav,Ho\n", "references.csv:3: field path: a.wav stands in line 2"),
        ("path,text\na.wav,Yes, please\n", "references.csv:2: field text: there are more fields"),
        ("path,text\na.wav\n", "references.csv:2: field text: it is empty or missing"),
        ("path,text\n,Hi\n", "references.csv:2: field path: it is empty or missing"),
        ('path,text\na.wav,"Hi\n', "references.csv:"),
        (b"path,text\na.wav,\xef\xf0\xe8\xe2\xe5\xf2\n", "references.csv:2: field the whole line: it is not UTF-8"),
    ],
)
def test_bad_references_name_file_line_and_field(tmp_path: Path, content: str | bytes, message: str) -> None:
    touch(tmp_path, "a.wav")
    (tmp_path / "references.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UsageError) as error:
        discover(tmp_path)
    assert message in str(error.value)


def test_byte_order_mark_and_carriage_returns_are_fine(tmp_path: Path) -> None:
    touch(tmp_path, "a.wav")
    (tmp_path / "references.csv").write_bytes("\ufeffpath,text\r\na.wav,Hi\r\n".encode())
    assert discover(tmp_path)[0].reference == "Hi"


@pytest.mark.parametrize("make", [False, True])
def test_no_recordings_is_an_error(tmp_path: Path, make: bool) -> None:
    folder = tmp_path / "data"
    if make:
        folder.mkdir()
    with pytest.raises(UsageError):
        discover(folder)


def test_a_split_that_the_user_fixed_is_read_with_the_row(tmp_path: Path) -> None:
    touch(tmp_path, "a.wav", "b.wav")
    (tmp_path / "references.csv").write_text("path,text,split\na.wav,Hi,Test\nb.wav,Ho,\n")
    assert [item.split for item in discover(tmp_path)] == ["test", None]


@pytest.mark.parametrize(("folder", "split"), [("", "validation"), ("retention", "train"), ("replay", "test")])
def test_a_split_that_the_recordings_cannot_have_is_refused(tmp_path: Path, folder: str, split: str) -> None:
    touch(tmp_path / folder, "a.wav")
    (tmp_path / folder / "references.csv").write_text(f"path,text,split\na.wav,Hi,{split}\n")
    with pytest.raises(UsageError, match=rf"references\.csv:2: field split: '{split}'"):
        discover(tmp_path)


def test_linked_folders_are_heard_and_what_is_no_file_is_named(tmp_path: Path) -> None:
    data = tmp_path / "data"
    touch(data, "audio/clean/a.wav", "audio/b.wav/c.wav")
    touch(tmp_path, "elsewhere/d.wav")
    (data / "audio/noisy").symlink_to(tmp_path / "elsewhere")
    (data / "audio/up").symlink_to("..")
    (data / "audio/gone.wav").symlink_to("nowhere.wav")
    (data / "audio/self.wav").symlink_to("self.wav")
    os.mkfifo(data / "audio/fifo.wav")
    notices: list[Notice] = []
    heard = {item.path.name: item.condition for item in discover(data, notices)}
    assert heard == {"a.wav": "clean", "c.wav": "b.wav", "d.wav": "noisy"}
    told = next(notice.message for notice in notices if notice.code == "unheard")
    assert told.startswith("5 cannot be heard")
    assert all(f"audio/{name} (" in told for name in ("up", "gone.wav", "self.wav", "fifo.wav", "b.wav"))


def test_a_speaker_is_one_in_any_spelling_and_doubtful_ones_are_named(tmp_path: Path) -> None:
    speakers = ["Zo\u00e9", "Zoe\u0301", "Anna", "anna", "unknown", "N/A", "-", ""]
    touch(tmp_path, *(f"clean/{number}.wav" for number in range(len(speakers))))
    rows = [f"clean/{number}.wav,text,{name}" for number, name in enumerate(speakers)]
    (tmp_path / "references.csv").write_text("\n".join(["path,text,speaker", *rows]), encoding="utf-8")
    notices: list[Notice] = []
    found = discover(tmp_path, notices)
    assert len({item.speaker for item in found[:2]}) == 1
    said = {notice.code: notice.message for notice in notices}
    assert "Anna and anna" in said["speaker_twins"] and "Zo" not in said["speaker_twins"]
    assert "unknown, N/A, -" in said["speaker_placeholder"]
