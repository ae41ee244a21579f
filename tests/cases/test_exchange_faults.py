"""Files that are wrong are refused with their lines, and nothing of them comes in."""

import json
import multiprocessing
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from mondegreen.cases import writing
from mondegreen.cases.exchange import export_cases, import_cases
from mondegreen.cases.formats import read_cases
from mondegreen.cases.store import DataManager
from mondegreen.errors import CaseError, UsageError
from tests.cases.snapshot_project import add_case, record, tree

HEADER = "audio,original_transcript,corrected_transcript,error_score\n"


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[DataManager]:
    monkeypatch.delenv("MONDEGREEN_DATABASE_URL", raising=False)
    manager = DataManager(tmp_path / "var")
    yield manager
    manager.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """With good.wav, and outside of it secret.wav."""
    record(tmp_path / "in/good.wav")
    record(tmp_path / "secret.wav")
    return tmp_path / "in"


def refusal(store: DataManager, path: Path, content: str | bytes | None = None) -> str:
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UsageError) as caught:
        import_cases(store, path)
    assert store.find_cases().cases == []
    assert "Traceback" not in str(caught.value)
    return str(caught.value)


def test_every_problem_is_named_with_its_line_and_nothing_comes_in(store: DataManager, folder: Path) -> None:
    (folder / "noise.wav").write_bytes(b"no audio at all, only words")
    record(folder / "other.wav")
    said = refusal(
        store,
        folder / "cases.csv",
        HEADER
        + 'good.wav,heard,"two\nlines",0.5\n'  # lines 2 and 3: good
        + "other.wav,heard,said,2.0\n"
        + "other.wav,heard,said,nan\n"
        + "other.wav,heard,said,much\n"
        + "good.wav,heard again,said,\n"
        + "gone.wav,heard,said,\n"
        + "noise.wav,heard,said,\n"
        + ",heard,said,\n"
        + "other.wav,heard,said\n",
    )
    lines = said.split("\n")
    assert lines[0].endswith("cases.csv cannot be imported:")
    starts = [line.strip().split(":")[0] for line in lines[1:-1]]
    assert starts == [f"line {number}" for number in (4, 5, 6, 7, 8, 9, 10, 11)]
    for line, problem in zip(
        lines[1:], ["less than or equal to 1", "finite|less than|greater than", "valid number", "in line 2 already",
                    "no file", "noise.wav is not audio", "needs its audio", "3 fields for 4 columns"], strict=False,
    ):  # fmt: skip
        assert any(part in line for part in problem.split("|")), line
    assert "nothing was imported" in lines[-1]


def test_twenty_problems_are_enough(store: DataManager, folder: Path) -> None:
    said = refusal(store, folder / "cases.csv", HEADER + "gone.wav,heard,said,\n" * 1000)
    assert said.count("there is no file") == 20 and "There may be more" in said


@pytest.mark.parametrize(
    "name",
    ["../secret.wav", "a/../../secret.wav", "{outside}/secret.wav", "~/secret.wav", "C:\\secret.wav", "C:secret.wav",
     "..\\secret.wav", "\\\\host\\share\\secret.wav", "link.wav", "inner/secret.wav", "good.wav\0.txt", ".", "inner",
     "https://example.org/secret.wav", "s3://bucket/secret.wav", "a" * 5000 + ".wav"],
)  # fmt: skip
def test_no_path_leads_out_of_the_files_folder(store: DataManager, folder: Path, tmp_path: Path, name: str) -> None:
    (folder / "link.wav").symlink_to(tmp_path / "secret.wav")
    (folder / "inner").symlink_to(tmp_path, target_is_directory=True)
    line = {"audio": name.format(outside=tmp_path), "original_transcript": "heard"}
    said = refusal(store, folder / "cases.jsonl", json.dumps(line))
    assert "line 1: the audio" in said or "line 1: there is no file" in said
    said_by_model = {"type": "textarea", "from_name": "text", "to_name": "audio", "value": {"text": ["heard"]}}
    task = {"data": {"audio": name.format(outside=tmp_path)}, "predictions": [{"result": [said_by_model]}]}
    assert "task 1: " in refusal(store, folder / "tasks.json", json.dumps([task]))
    assert list((tmp_path / "var/blobs").rglob("*.wav")) == []


def test_a_link_within_the_folder_is_no_harm(store: DataManager, folder: Path) -> None:
    (folder / "link.wav").symlink_to("good.wav")
    (folder / "cases.csv").write_text(HEADER + "link.wav,heard,said,\n")
    assert import_cases(store, folder / "cases.csv").new_cases == 1


@pytest.mark.parametrize(
    ("header", "problem"),
    [
        ("", "cases.csv:1: field id: the first line must name the columns"),
        ("audio,words\n", "line 1: columns missing: 'original_transcript', 'corrected_transcript'"),
        ("original_transcript,corrected_transcript\n", "missing: 'id or audio'"),
        (HEADER.replace("\n", ",path\n"), "cases.csv:1: field audio: the columns 'audio' and 'path' mean the same"),
    ],
)
def test_wrong_columns_are_named(store: DataManager, folder: Path, header: str, problem: str) -> None:
    said = refusal(store, folder / "cases.csv", header)
    assert problem in said


def test_what_is_not_unicode_is_named_with_its_line(store: DataManager, folder: Path) -> None:
    said = refusal(store, folder / "cases.csv", (HEADER + "good.wav,heard,сказано,\n").encode("cp1251"))
    assert "cases.csv:2: field the whole line: it is not UTF-8" in said
    said = refusal(store, folder / "cases.jsonl", b'{}\n{"audio": "\xe9"}')
    assert "line 2: this is not JSON: character 12 is not UTF-8" in said


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("{", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("3", "the whole entry"),
        ('{"audio": "good.wav", "original_transcript": "x", "original_transcript": "y"}', "transcript stands twice"),
        ('{"audio": "good.wav"}', "needs what the model heard"),
        ('{"audio": "good.wav", "original_transcript": "x", "extra": 1}', "field extra"),
        ('{"audio": "good.wav", "original_transcript": "x", "error_score": NaN}', "error_score"),
        ('{"audio": "good.wav", "original_transcript": "x", "metadata": {"a": Infinity}}', "metadata"),
        ('{"audio": "good.wav", "original_transcript": "\\ud800"}', "original_transcript"),
        ('{"audio": "good.wav", "original_transcript": "a\\u0000b"}', "NUL"),
        ('{"audio": "good.wav", "original_transcript": "x", "id": "0123456789abcdef"}', "is not the id of this audio"),
        ('{"audio": "good.wav", "original_transcript": "x", "id": "../../etc/passwd"}', "field id"),
        ('{"audio": "good.wav", "original_transcript": "x", "audio_name": "../a.wav"}', "not the name of a file"),
        ('{"audio": "good.wav", "original_transcript": "x", "sha256": "%s"}' % ("0" * 64), "not 0000"),
        ('{"original_transcript": "x", "sha256": "%s"}' % ("0" * 64), "the store has no recording"),
        ('{"audio": "good.wav", "original_transcript": "x", "first_seen": "2026-11-23T10:00:00"}', "first_seen"),
        ('{"audio": "good.wav", "original_transcript": "x", "corrections": [{"transcript": "a", "method": "guess"}]}',
         "corrections.0.method"),
        ('{"audio": "good.wav", "original_transcript": "x", "corrections": [{"transcript": " ", "method": "llm"}]}',
         "machine's correction is empty"),
    ],
)  # fmt: skip
def test_entries_that_cannot_be_stored_are_named(store: DataManager, folder: Path, line: str, problem: str) -> None:
    said = refusal(store, folder / "cases.jsonl", f"\n{line}\n")
    assert "line 2: " in said and problem in said


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("{}", "no list of tasks"),
        ("[", "is not JSON"),
        ('[{"data": {"audio": "good.wav", "audio": "other.wav"}}]', "field audio stands twice"),
        ('[3, {"data": 3}, {"data": {}}, {"data": {"audio": "good.wav"}, "annotations": 7}]', "task 4: "),
        ('[{"data": {"mondegreen": {"audio": "good.wav", "error_score": 7}}}]', "field error_score"),
    ],
)
def test_what_is_no_label_studio_export_is_named(store: DataManager, folder: Path, content: str, problem: str) -> None:
    assert problem in refusal(store, folder / "tasks.json", content)


def test_a_text_that_was_taken_out_and_audio_that_is_another_are_refused(store: DataManager, folder: Path) -> None:
    key = add_case(store, "one", "words")
    export_cases(store, folder / "cases.csv")
    content = (folder / "cases.csv").read_text()
    (folder / "cases.csv").write_text(content.replace(",words,", ",,"))
    with pytest.raises(UsageError, match=r"line 2: field corrected_transcript: the text 'words' was taken out"):
        import_cases(store, folder / "cases.csv")
    sha256 = store.get_case(key).audio_sha256
    (folder / "cases.csv").write_text(content.replace(sha256, "0" * 64))
    with pytest.raises(UsageError, match=rf"line 2: field sha256: the case {key} has the audio {sha256}"):
        import_cases(store, folder / "cases.csv")
    assert len(store.corrections(key)) == 1


def test_formats_and_files_that_are_not_there_are_named(store: DataManager, folder: Path) -> None:
    with pytest.raises(UsageError, match=r"cases\.txt is no format"):
        import_cases(store, folder / "cases.txt")
    with pytest.raises(UsageError, match="xml is no format"):
        export_cases(store, folder / "cases.csv", file_format="xml")
    with pytest.raises(UsageError, match="does not exist"):
        import_cases(store, folder / "cases.csv")


def test_a_file_that_cannot_be_opened_or_whose_name_no_disk_can_hold_is_named(store: DataManager, folder: Path) -> None:
    with pytest.raises(UsageError, match=r"in cannot be read: Is a directory(.|\n)*Check its name"):
        list(read_cases(folder, "jsonl", None))
    for suffix in ("csv", "jsonl", "json"):
        with pytest.raises(UsageError, match="cannot be read: File name too long"):
            import_cases(store, folder / f"{'x' * 300}.{suffix}")


def test_a_wrong_quote_hides_no_other_problem(store: DataManager, folder: Path) -> None:
    rows = 'good.wav,heard,"said" so,\ngone.wav,heard,said,\ngood.wav,heard,"said,\n'
    said = refusal(store, folder / "cases.csv", HEADER + rows)
    assert [line.split(":")[0].strip() for line in said.split("\n")[1:-1]] == ["line 2", "line 3", "line 4"]
    assert "not CSV" in refusal(store, folder / "cases.csv", HEADER.replace(",", ',"', 1) + rows)


def test_an_import_that_is_killed_half_way_leaves_no_case(store: DataManager, folder: Path) -> None:
    rows = [f"{i}.wav" for i in range(3)]
    for name in rows:
        record(folder / name, 0.05)
    (folder / "cases.csv").write_text(HEADER + "".join(f"{name},heard,said,\n" for name in rows))
    real = writing.store_corrections

    def killed() -> None:
        def die(session, *arguments):  # type: ignore[no-untyped-def]
            real(session, *arguments)
            session.flush()
            os.kill(os.getpid(), signal.SIGKILL)

        writing.store_corrections = die  # in this process, which is about to end
        import_cases(DataManager(store.folder), folder / "cases.csv")

    process = multiprocessing.get_context("fork").Process(target=killed)
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert store.find_cases().cases == []
    assert import_cases(store, folder / "cases.csv").new_cases == 3


def test_a_full_disk_leaves_the_store_and_an_older_export_as_they_were(
    store: DataManager, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "cases.csv").write_text(HEADER + "good.wav,heard,said,\n")

    def full(*_: object) -> str:
        raise CaseError("The audio cannot be stored: No space left on device.", "Make room.")

    with monkeypatch.context() as patch:
        patch.setattr(store.blobs, "put", full)
        with pytest.raises(CaseError, match="No space left"):
            import_cases(store, folder / "cases.csv")
    assert store.find_cases().cases == []

    add_case(store, "one", "words")
    export_cases(store, folder / "out.csv")
    before = tree(folder)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", lambda handle: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        with pytest.raises(CaseError, match=r"out\.csv cannot be written: No space left"):
            export_cases(store, folder / "out.csv")
    assert tree(folder) == before


def test_damaged_audio_is_not_exported(store: DataManager, folder: Path) -> None:
    path = store.audio_path(add_case(store, "one", "words"))
    path.write_bytes(path.read_bytes()[:-2] + b"xx")
    with pytest.raises(CaseError, match="is damaged"):
        export_cases(store, folder / "out.csv", with_audio=True)
    assert not (folder / "out.csv").exists()
    assert export_cases(store, folder / "out.csv") == 1
