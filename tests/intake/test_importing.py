"""Corpora of other toolkits become recordings and references; every row is taken or named."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from mondegreen.cli.main import app
from mondegreen.errors import UsageError
from mondegreen.intake.entries import CorpusFormat, SourceCorpus
from mondegreen.intake.importing import import_corpus
from mondegreen.scoring.references import read_table
from mondegreen.speech.corpus import discover
from tests.intake.corpora import RATE, kaldi, manifest, samples, taken, tone


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_nemo_manifest_keeps_whole_files_and_cuts_segments_at_the_sample() -> None:
    long = tone(Path("set/wav/long.wav"), 2.0)
    tone(Path("set/wav/a.wav"))
    source = manifest(
        Path("set/train.json"),
        {"audio_filepath": "/export/elsewhere/wav/a.wav", "duration": 0.3, "text": "whole", "speaker": 7},
        {"audio_filepath": "wav/long.wav", "offset": 0.5001, "duration": 0.25, "text": "part"},
        {"audio_filepath": "wav/long.wav", "offset": 1.9, "duration": 0.5, "text": "beyond"},
        {"audio_filepath": "wav/none.wav", "text": "gone"},
        {"text": "no audio"},
    )
    report, rows = taken("nemo", source)
    part = "audio/train/wav/long-00000500-00000750.wav"
    assert {path: (row.text, row.speaker, row.source) for path, row in rows.items()} == {
        "audio/train/wav/a.wav": ("whole", "7", ""),
        part: ("part", "", "train/wav/long"),
    }
    assert np.array_equal(samples(f"data/{part}"), long[round(0.5001 * RATE) : round(0.7501 * RATE)])
    assert Path("data/audio/train/wav/a.wav").read_bytes() == Path("set/wav/a.wav").read_bytes()
    assert {reason: found.count for reason, found in report.left_out.items()} == {
        "bad_row": 1, "beyond_end": 1, "missing": 1,
    }  # fmt: skip
    assert (report.copied, report.cut, report.moved.count) == (1, 1, 1)
    assert "train.json:3" in report.left_out["beyond_end"].examples[0]
    assert {(item.condition, item.recording) for item in discover(Path("data"))} == {
        ("train", "wav/a"), ("train", "train/wav/long"),
    }  # fmt: skip


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "FLOAT", "ULAW"])
def test_segments_keep_channel_rate_and_every_bit(subtype: str) -> None:
    left, right = (np.random.default_rng(n).uniform(-0.9, 0.9, RATE) for n in (1, 2))
    Path("stm").mkdir()
    soundfile.write("stm/call.wav", np.stack([left, right], axis=1), RATE, subtype)
    Path("stm/call.stm").write_text(";; note\ncall A ann 0.1 0.4 <o> hello there\ncall B bob 0.25 0.75 yes\n")
    _, rows = taken("stm", "stm", condition="calls")
    whole = soundfile.read("stm/call.wav", dtype="float64")[0]
    for channel, name, start, end in (
        (0, "call-A-00000100-00000400", 0.1, 0.4),
        (1, "call-B-00000250-00000750", 0.25, 0.75),
    ):
        cut, rate = soundfile.read(f"data/audio/calls/{name}.wav", dtype="float64")
        assert rate == RATE and np.array_equal(cut, whole[round(start * RATE) : round(end * RATE), channel])
    assert [(row.text, row.speaker, row.recording) for row in rows.values()] == [
        ("hello there", "ann", "calls/call"), ("yes", "bob", "calls/call"),
    ]  # fmt: skip


def test_a_kaldi_folder_never_runs_a_command() -> None:
    tone(Path("wav/r1.wav"), 1.0)
    tone(Path("wav/r2.flac"), 0.5)
    segments = kaldi(
        Path("kaldi/test"),
        wav="r1 wav/r1.wav\nr2 /corpora/x/wav/r2.flac\nr3 touch ran; cat wav/r1.wav |\nr4 foo.ark:17\n",
        segments="u1 r1 0.0 0.5\nu2 r1 0.5 -1\nu3 r2 0.1 0.2\nu4 r3 0 1\nu5 r9 0 1\nu6 r1 0.9 0.2\nu7 r4 0 1\n",
        text="u1 one\nu2 two\nu3\nu8 nobody\n",
        utt2spk="u1 s1\nu2 s1\nu3 s2\n",
    )
    report, rows = taken("kaldi", segments, audio=Path())
    assert {row.path: (row.text, row.speaker, row.source) for row in rows.values()} == {
        "audio/test/u1.wav": ("one", "s1", "test/r1"),
        "audio/test/u2.wav": ("two", "s1", "test/r1"),
        "audio/test/u3.wav": ("", "s2", "test/r2"),
    }
    counts = {reason: found.count for reason, found in report.left_out.items()}
    assert counts == {"no_audio": 2, "bad_row": 1, "missing": 1, "pipe": 1}
    assert not Path("ran").exists() and "r3 is a command" in report.left_out["pipe"].examples[0]
    assert (len(samples("data/audio/test/u2.wav")), report.without_text) == (RATE // 2, 1)


def test_a_librispeech_folder_gives_readers_and_chapters() -> None:
    for key in ("19-198-0000", "19-198-0001", "26-495-0000", "26-495-0002"):
        reader, chapter, _ = key.split("-")
        tone(Path("LibriSpeech/dev-clean", reader, chapter, f"{key}.flac"), pitch=float(key[-1]) * 40 + 300)
    Path("LibriSpeech/dev-clean/19/198/19-198.trans.txt").write_text("19-198-0000 ONE\n19-198-0001 TWO WORDS\n")
    Path("LibriSpeech/dev-clean/26/495/26-495.trans.txt").write_text("26-495-0000 THREE\n26-495-0001 GONE\n")
    report, rows = taken("librispeech", "LibriSpeech/dev-clean")
    assert [(row.path, row.text, row.speaker, row.source) for row in rows.values()] == [
        ("audio/dev-clean/19-198-0000.flac", "ONE", "19", "dev-clean/19-198"),
        ("audio/dev-clean/19-198-0001.flac", "TWO WORDS", "19", "dev-clean/19-198"),
        ("audio/dev-clean/26-495-0000.flac", "THREE", "26", "dev-clean/26-495"),
    ]
    assert (report.unlisted.count, report.left_out["missing"].count, report.speakers) == (1, 1, 2)


def test_a_second_import_changes_nothing_and_a_killed_one_goes_on() -> None:
    tone(Path("set/a.wav"))
    tone(Path("set/b.wav"), 1.0)
    source = manifest(
        Path("set/m.json"),
        {"audio_filepath": "a.wav", "text": "one"},
        {"audio_filepath": "b.wav", "text": "two", "offset": 0.5, "duration": 0.5},
    )
    taken("nemo", source)
    before = {path: path.read_bytes() for path in Path("data").rglob("*") if path.is_file()}
    report, _ = taken("nemo", source)
    assert (report.taken, report.there_already, report.complete) == (0, 2, True)
    assert {path: path.read_bytes() for path in Path("data").rglob("*") if path.is_file()} == before
    Path("data/references.csv").unlink()  # killed before its last step, in the middle of a file
    Path("data/audio/m/.import.part").write_bytes(b"RIFF")
    report, rows = taken("nemo", source)
    assert (report.taken, len(rows)) == (2, 2)
    assert {path: path.read_bytes() for path in Path("data").rglob("*") if path.is_file()} == before


def test_a_column_that_nobody_filled_is_not_written_and_not_doubted_later() -> None:
    tone(Path("set/a.wav"))
    tone(Path("set/b.wav"), 1.0)
    taken("nemo", manifest(Path("set/m.json"), {"audio_filepath": "a.wav", "text": "one"}))
    assert Path("data/references.csv").read_text() == "path,text\naudio/m/a.wav,one\n"
    taken("nemo", manifest(Path("set/m.json"), {"audio_filepath": "b.wav", "text": "two", "speaker": "s"}))
    assert Path("data/references.csv").read_text().startswith("path,text,speaker\naudio/m/a.wav,one,\n")


def test_what_is_there_stays_and_conflicts_are_named() -> None:
    for name in ("a", "b", "c"):
        tone(Path(f"set/{name}.wav"))
    tone(Path("data/audio/m/b.wav"), pitch=600)
    tone(Path("data/audio/m/a.wav"))
    Path("data/references.csv").write_text("text,path,note\nmine,audio/m/a.wav,n1\n,x/other.wav,n2\n")
    kept = Path("data/audio/m/b.wav").read_bytes()
    source = manifest(Path("set/m.json"), *({"audio_filepath": f"{name}.wav", "text": "theirs"} for name in "abcc"))
    report, rows = taken("nemo", source)
    assert {reason: found.count for reason, found in report.left_out.items()} == {"conflict": 2, "twice": 1}
    assert Path("data/audio/m/b.wav").read_bytes() == kept
    assert [(row.path, row.text, row.fields["note"]) for row in rows.values()] == [
        ("audio/m/a.wav", "mine", "n1"), ("x/other.wav", "", "n2"), ("audio/m/c.wav", "theirs", ""),
    ]  # fmt: skip


def test_a_row_that_names_its_recording_in_another_way_is_that_recording_s() -> None:
    for name in ("a", "b", "c"):
        tone(Path(f"set/{name}.wav"))
    for name in ("a", "b"):
        tone(Path(f"data/audio/m/{name}.wav"))
    Path("data/references.csv").write_text("path,text\na.wav,mine\nAUDIO/M/B,theirs\n")
    source = manifest(Path("set/m.json"), *({"audio_filepath": f"{name}.wav", "text": "theirs"} for name in "abc"))
    report, rows = taken("nemo", source)
    assert (report.taken, report.there_already) == (1, 1) and list(report.left_out) == ["conflict"]
    assert "references.csv as a.wav with another text" in report.left_out["conflict"].examples[0]
    assert list(rows) == ["a.wav", "AUDIO/M/B", "audio/m/c.wav"]
    assert [found.reference for found in discover(Path("data"))] == ["mine", "theirs", "theirs"]


def test_links_stand_for_whole_recordings() -> None:
    tone(Path("set/a.wav"))
    report, _ = taken("nemo", manifest(Path("set/m.json"), {"audio_filepath": "a.wav", "text": "one"}), link=True)
    assert report.linked == 1 and Path("data/audio/m/a.wav").resolve() == Path("set/a.wav").resolve()
    assert [item.path.name for item in discover(Path("data"))] == ["a.wav"]


_VALUES = (
    st.none() | st.booleans() | st.integers(-2, 3) | st.floats() | st.sampled_from(["a.wav", "sub/b.wav", "", "../x"])
)
_ROWS = st.lists(
    st.dictionaries(st.sampled_from(["audio_filepath", "text", "offset", "duration", "speaker"]), _VALUES, max_size=5)
    | st.fixed_dictionaries(
        {"audio_filepath": st.sampled_from(["a.wav", "sub/b.wav"]), "text": st.text(max_size=4) | st.just("\ud800")}
    ),
    min_size=1,
    max_size=8,
)


@given(rows=_ROWS, twice=st.booleans())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_row_is_taken_or_named(
    rows: list[dict[str, object]], twice: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("corpus")
    tone(folder / "a.wav", 0.2)
    tone(folder / "sub/b.wav", 2.5)
    source = manifest(folder / "m.json", *rows)
    for _ in range(1 + twice):
        report = import_corpus("nemo", SourceCorpus(source), folder / "data")
        left = sum(reason.count for reason in report.left_out.values())
        assert report.rows == len(rows) == report.taken + report.there_already + left
    table = folder / "data" / "references.csv"
    known = {row.path for row in read_table(table)} if table.exists() else set()
    files = {path.relative_to(folder / "data").as_posix() for path in (folder / "data").rglob("*.wav")}
    assert known == files and len(known) == report.taken + report.there_already


def test_the_command_says_what_was_left_out_and_exits_with_1() -> None:
    tone(Path("set/a.wav"))
    rows = [{"audio_filepath": "a.wav", "text": "one"}, {"audio_filepath": "b.wav", "text": "two"}]
    source = manifest(Path("set/m.json"), *rows)
    shown = CliRunner().invoke(app, ["data", "import", "nemo", str(source)])
    assert (
        shown.exit_code == 1
        and "1 of 2 rows taken" in shown.stdout
        and "m.json:2: there is no recording b.wav" in shown.stdout
    )
    told = CliRunner().invoke(app, ["data", "import", "nemo", str(source), "--into", "other", "--json"])
    assert json.loads(told.stdout)["left_out"]["missing"]["count"] == 1
    source.write_text(json.dumps(rows[0]))
    assert CliRunner().invoke(app, ["data", "import", "nemo", str(source)]).exit_code == 0
    for wrong in (["nemo", "none.json"], ["flac", str(source)], ["kaldi", "set"], ["nemo", str(source), "--map", "a"]):
        assert CliRunner().invoke(app, ["data", "import", *wrong]).exit_code == 2


def test_common_voice_keeps_speakers_and_its_quotes() -> None:
    for n in range(3):
        tone(Path(f"cv/en/clips/common_voice_en_{n}.mp3"), 1.0, 300 + 50 * n, 16000)
    Path("cv/en/validated.tsv").write_text(
        "client_id\tpath\tsentence\tup_votes\tage\n"
        'abc\tcommon_voice_en_0.mp3\t"Hello," she said.\t2\ttwenties\n'
        "abc\tcommon_voice_en_1\tÜber alles; und mehr\t2\t\n"
        "def\tcommon_voice_en_7.mp3\tgone\t2\t\n"
    )
    report, rows = taken("commonvoice", "cv/en/validated.tsv")
    assert [(row.path, row.text, row.speaker) for row in rows.values()] == [
        ("audio/validated/common_voice_en_0.mp3", '"Hello," she said.', "abc"),
        ("audio/validated/common_voice_en_1.mp3", "Über alles; und mehr", "abc"),
    ]
    assert (report.unlisted.count, report.moved.count) == (1, 1)
    said = "\n".join(report.notices)
    assert "client_id read as speaker" in said and "sentence read as text" in said and "'up_votes', 'age'" in said


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_an_audiofolder_keeps_its_splits_apart(kind: str) -> None:
    for split in ("train", "test"):
        tone(Path(f"af/{split}/1.wav"), pitch=300 if split == "test" else 500)
        row = {"file_name": "1.wav", "transcription": f"said in {split}", "speaker_id": split, "age": 7}
        if kind == "jsonl":
            manifest(Path(f"af/{split}/metadata.jsonl"), row)
        else:
            Path(f"af/{split}/metadata.csv").write_text(f"{','.join(row)}\n{','.join(map(str, row.values()))}\n")
    report, rows = taken("audiofolder", "af", condition="hub")
    assert {row.path: (row.text, row.speaker) for row in rows.values()} == {
        "audio/hub/test/1.wav": ("said in test", "test"), "audio/hub/train/1.wav": ("said in train", "train"),
    }  # fmt: skip
    assert report.complete and "'age'" in report.notices[-1]


def test_any_table_with_columns_that_the_user_names() -> None:
    call = tone(Path("calls/1.wav"), 2.0)
    tone(Path("calls/2.wav"))
    Path("calls/list.csv").write_text(
        "Datei;Wer;text;Gehört;von;bis;method\n"
        "1.wav;ann;x;guten Tag;0,5;1,25;manual\n2.wav;bob;x;auf Wiederhören;;;llm\n"
        "2.wav;bob;x;y;1;0,5;\n3.wav;bob;x;y;a;;\n"
    )
    columns = {"Datei": "path", "Wer": "speaker", "Gehört": "text", "von": "start", "bis": "end"}
    report, rows = taken("csv", "calls/list.csv", columns=columns)
    part = "audio/list/1-00000500-00001250.wav"
    assert {row.path: (row.text, row.speaker, row.source, row.reference_source) for row in rows.values()} == {
        part: ("guten Tag", "ann", "list/1", "human"), "audio/list/2.wav": ("auf Wiederhören", "bob", "", "llm"),
    }  # fmt: skip
    assert np.array_equal(samples(f"data/{part}"), call[RATE // 2 : round(1.25 * RATE)])
    assert report.left_out["bad_row"].count == 2 and any("'text'" in line for line in report.notices)


@pytest.mark.parametrize(
    ("kind", "source", "columns", "said"),
    [
        ("csv", "t.csv", {}, "no column that names the recordings"),
        ("csv", "t.csv", {"c": "path"}, "has no column c"),
        ("commonvoice", "cv", {}, "dev.tsv, test.tsv"),
        ("audiofolder", "cv", {}, "metadata.csv"),
        ("audiofolder", "pq", {}, "read_parquet"),
        ("librispeech", "cv", {}, "trans.txt"),
        ("stm", "cv", {}, "holds no .stm"),
        ("kaldi", "cv", {}, "wav.scp"),
        ("nemo", "empty.json", {}, "holds no utterance"),
    ],
)
def test_a_source_that_cannot_be_read_says_what_to_do(
    kind: CorpusFormat, source: str, columns: dict[str, str], said: str
) -> None:
    for name in ("cv", "pq"):
        Path(name).mkdir()
    for name in ("cv/dev.tsv", "cv/test.tsv", "pq/data.parquet", "empty.json"):
        Path(name).touch()
    Path("t.csv").write_text("a,b\n1,2\n")
    with pytest.raises(UsageError, match=said):
        import_corpus(kind, SourceCorpus(Path(source), None, columns), Path("data"))


def test_what_an_stm_does_not_score_is_no_reference() -> None:
    tone(Path("stm/call.wav"), 2.0)
    Path("stm/call.stm").write_text(
        "call 1 ann 0 0.5 <o> said\ncall 1 ann 0.5 1 <o> ignore_time_segment_in_scoring\n"
        "call 1 inter_segment_gap 1 1.5 <o>\ncall 1 ann 1.5 2 <o> { uh / um / @ } yes\n"
    )
    report, rows = taken("stm", "stm/call.stm")
    assert [row.text for row in rows.values()] == ["said"]
    assert {reason: found.count for reason, found in report.left_out.items()} == {"not_scored": 2, "alternatives": 1}


def test_names_of_any_bytes_are_taken_and_told(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9")
    tone(Path("set/a.wav"))
    Path("set/a.wav").rename(f"set/{name}.wav")
    tone(Path("set/long.wav"), 1.0)
    Path("set/long.wav").rename(os.fsdecode(b"set/l\xe4ng.wav"))
    source = manifest(
        Path("set/m.json"),
        {"audio_filepath": f"{name}.wav", "text": "one"},
        {"audio_filepath": os.fsdecode(b"l\xe4ng.wav"), "text": "two", "offset": 0.25, "duration": 0.5},
        {"audio_filepath": f"{name}.flac", "text": "gone"},
        {"audio_filepath": "x" * 300, "text": "gone"},
    )
    done = CliRunner().invoke(app, ["data", "import", "nemo", str(source), "--json"])
    report = json.loads(done.stdout)
    assert (done.exit_code, report["taken"], report["left_out"]["missing"]["count"]) == (1, 2, 2)
    assert sorted(path.name for path in Path("data/audio/m").iterdir()) == ["caf_.wav", "l_ng-00000250-00000750.wav"]
    assert CliRunner().invoke(app, ["data", "import", "nemo", str(source)]).exit_code == 1


def test_segments_without_a_span_are_left_out_and_two_speakers_of_one_are_both_taken() -> None:
    tone(Path("in/a.wav"), 1.0)
    times = ("-1 1", "nan 1", "0 inf", "0.5 0.1")
    lines = [f"a 1 s {time} {time}" for time in times] + ["a 1 ann 0 0.5 one", "a 1 bob 0 0.5 two", "a 1 s 0.5 1 last"]
    Path("in/a.stm").write_text("\n".join(lines))
    report, rows = taken("stm", "in/a.stm")
    assert report.left_out["bad_row"].count == len(times)
    assert [(row.text, row.speaker) for row in rows.values()] == [("one", "ann"), ("two", "bob"), ("last", "s")]


def test_a_link_to_itself_beside_the_source_is_named() -> None:
    tone(Path("in/a.wav"))
    Path("in/selfwav.wav").symlink_to("selfwav.wav")
    report, rows = taken("nemo", manifest(Path("in/m.json"), {"audio_filepath": "a.wav", "text": "one"}))
    assert len(rows) == 1 and "selfwav.wav" in report.unlisted.examples[0]


@pytest.mark.parametrize("kind", ["nemo", "audiofolder"])
def test_fields_that_mean_the_same_and_differ_leave_a_row_out(kind: CorpusFormat) -> None:
    fields: list[dict[str, object]] = [
        {"text": "right", "reference": "other"}, {"text": "a", "Text": "b"},
        {"text": "a", "speaker_id": "1", "client_id": "2"}, {"text": "same", "sentence": "same", "reference": None},
    ]  # fmt: skip
    for number in range(len(fields)):
        tone(Path(f"in/{number}.wav"), pitch=300 + 50 * number)
    rows = [{"file_name": f"{number}.wav", **more} for number, more in enumerate(fields)]
    source = manifest(Path("in/metadata.jsonl"), *rows)
    report, found = taken(kind, source if kind == "nemo" else "in")
    assert [row.text for row in found.values()] == ["same"] and report.left_out["bad_row"].count == 3
    assert "'text' and 'reference' both mean text" in report.left_out["bad_row"].examples[0]


@pytest.mark.parametrize("ends", ["\r", "\r\n"])
def test_channels_of_kaldi_segments_and_any_line_end(ends: str) -> None:
    both = np.stack([np.full(RATE, 0.25), np.full(RATE, 0.5)], axis=1)
    Path("k").mkdir()
    soundfile.write("k/r.wav", both, RATE)
    Path("k/wav.scp").write_bytes(b"r r.wav\n")
    segments = ("u1 r 0 0.5 0", "u2 r 0 0.5 1", "u3 r 0 0.5 B", "u4 r 0 0.5", "u5 r 0 1 7", "u6 r 0 1 x")
    Path("k/segments").write_bytes(ends.join(segments).encode())
    Path("k/text").write_bytes(ends.join(f"u{n} words {n}" for n in range(1, 7)).encode())
    report, rows = taken("kaldi", "k")
    assert [row.text for row in rows.values()] == ["words 1", "words 2", "words 3", "words 4"]
    heard = [samples(f"data/{path}") for path in rows]
    assert [part.shape for part in heard] == [(RATE // 2,)] * 3 + [(RATE // 2, 2)]
    assert [part[0] for part in heard[:3]] == [8192, 16384, 16384]
    assert report.left_out.keys() == {"no_channel", "bad_row"}


def test_recordings_and_tables_in_linked_folders_are_found() -> None:
    for name in ("a", "b"):
        tone(Path(f"elsewhere/wav/{name}.wav"), pitch=400 + ord(name))
    Path("elsewhere/1-2.trans.txt").write_text("1-2-0000 ONE\n")
    tone(Path("elsewhere/1-2-0000.wav"))
    Path("set").mkdir()
    Path("set/linked").symlink_to(Path("elsewhere").resolve())
    Path("elsewhere/loop").symlink_to(Path("set").resolve())
    source = manifest(Path("set/m.json"), {"audio_filepath": "/export/wav/a.wav", "text": "one"})
    report, rows = taken("nemo", source)
    assert (report.taken, report.unlisted.count, len(rows)) == (1, 2, 1)
    assert taken("librispeech", "set", "libri")[0].taken == 1


def test_speakers_who_may_be_one_or_several_are_said() -> None:
    names = ("Anna", "anna", "unknown", "", "Zo")
    rows = [{"audio_filepath": f"{n}.wav", "text": str(n), "speaker": name} for n, name in enumerate(names)]
    for n in range(len(names)):
        tone(Path(f"set/{n}.wav"), pitch=400 + 30 * n)
    report, _ = taken("nemo", manifest(Path("set/m.json"), *rows))
    said = "\n".join(report.notices)
    assert "Anna and anna; write one person's name in one way" in said and "Zo" not in said
    assert "counts as one person: unknown" in said and "the speaker is empty in 1 of 5 rows" in said
