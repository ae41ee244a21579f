"""The prepare stage on a user's own recordings, good and bad."""

import json
import os
import re
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import yaml
from pydantic import BaseModel

from mondegreen.config import AudioParams, ModelParams, Params, PrepareParams
from mondegreen.errors import UsageError, VocabularyError
from mondegreen.files import write_json
from mondegreen.records import Utterance
from mondegreen.speech.examining import EXAMINED
from mondegreen.speech.manifest import Report, build_manifest, examine_data, settle
from mondegreen.stages import prepare

ROOT = Path(__file__).resolve().parents[2]
LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"
VOCABULARY = ["<pad>", "|", *LETTERS]


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text("seed: 7\n")
    return tmp_path


def record(*names: str, seconds: float = 0.3, level: float = 0.1) -> None:
    for name in names:
        path = Path("data") / name
        path.parent.mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(zlib.crc32(name.encode())).normal(0, level, int(16000 * seconds))
        soundfile.write(path, noise.astype(np.float32), 16000)


def build(data: Path, params: Params) -> tuple[list[Utterance], Report]:
    manifest = build_manifest(data, params)
    return manifest.rows, manifest.report


def references(*lines: str, folder: str = "data") -> None:
    Path(folder, "references.csv").write_text("\n".join(["path,text", *lines]) + "\n")


ALL_TRAIN = PrepareParams(dev_fraction=0, test_fraction=0)


def test_own_layout_without_references_goes_to_train() -> None:
    record("clean/a.wav", "noisy/b.flac", "c.ogg")
    rows, report = build(Path("data"), Params(prepare=ALL_TRAIN))
    assert [(row.condition, row.split) for row in rows] == [("all", "train"), ("clean", "train"), ("noisy", "train")]
    assert not report.problems


def test_a_name_that_is_no_text_is_left_out_and_the_report_written(tmp_path: Path) -> None:
    record("clean/a.wav", "clean/b.wav")
    Path("data/clean/b.wav").rename(os.fsdecode(b"data/clean/caf\xe9.wav"))
    for name in (b"data/caf\xe9.txt", b"data/caf\xe9.csv"):
        Path(os.fsdecode(name)).write_text("no recording")
    rows, report = build(Path("data"), Params(prepare=ALL_TRAIN))
    assert [row.path for row in rows] == ["data/clean/a.wav"] and report.left_out == {"name_not_utf8": 1}
    write_json(tmp_path / "report.json", report)
    assert r"caf\\udce9.wav" in (tmp_path / "report.json").read_text()


def corpus(speakers: int, said: Callable[[int, int], str], *more: str, clips: int = 3) -> None:
    """Clips of each speaker, with what `said` makes of speaker and clip; `more` are columns and their common value."""
    names = [(speaker, clip, f"clean/{speaker}-{clip}.wav") for speaker in range(speakers) for clip in range(clips)]
    record(*(name for _, _, name in names))
    lines = [",".join([name, said(s, clip), f"s{s}", *more[1:]]) for s, clip, name in names]
    Path("data/references.csv").write_text("\n".join([",".join(["path,text,speaker", *more[:1]]), *lines]) + "\n")


def own(speaker: int, clip: int) -> str:
    return f"sentence {speaker} {clip}"


EMPTY = {
    "no reference": (
        lambda: record("a.wav", "b.wav"),
        "dev and test would be empty: none of the 2 recordings has a ref",
    ),
    "one text": (
        lambda: corpus(12, lambda s, clip: "okay"),
        "train would be empty: each of the .* prepare.shared_texts",
    ),
    "one source": (
        lambda: corpus(3, own, "source", "tape"),
        "with a reference: 9, units of them, .* cut: 1; .* largest has 9",
    ),
    "fixed": (lambda: corpus(12, own, "split", "test"), "dev and train would be empty: the column `split` of data/ref"),
    "retention": (
        lambda: [corpus(12, own), record("retention/r.wav"), references("r.wav,hi", folder="data/retention")],
        "data/retention/: test would be empty: recordings with a reference: 1, .* do without",
    ),
}


@pytest.mark.parametrize(("make", "message"), EMPTY.values(), ids=EMPTY)
def test_a_split_that_would_be_empty_is_an_error_with_its_cause(make: Callable[[], None], message: str) -> None:
    make()
    with pytest.raises(UsageError, match=re.compile(message, re.DOTALL)):
        build_manifest(Path("data"), Params())


def test_a_shared_sentence_is_counted_and_named(caplog: pytest.LogCaptureFixture) -> None:
    corpus(12, lambda s, clip: own(s, clip) if clip else "Okay.")
    caplog.set_level("INFO")
    prepare.main()
    report = Report.model_validate_json(Path("build/prepare/report.json").read_text())
    assert report.left_out == {"judged_text": 5}
    assert report.shared_texts and report.shared_texts.most == "okay" and report.shared_texts.units == 12
    (line,) = [
        record.getMessage()
        for record in caplog.records
        if "Okay" in record.getMessage() or "okay" in record.getMessage()
    ]
    assert 'most often "okay", by 12: 5 copies in train' in line and '("okay" 5)' in line
    Path("params.yaml").write_text("seed: 7\nprepare: {shared_texts: allow}\n")
    prepare.main()
    assert Report.model_validate_json(Path("build/prepare/report.json").read_text()).left_out == {}


def test_a_knob_that_a_new_project_has_otherwise_is_named(caplog: pytest.LogCaptureFixture) -> None:
    corpus(12, own)
    prepare.main()
    assert "no round.holdout_fraction: 0 counts, a new project has 0.2" in caplog.text
    caplog.clear()
    Path("params.yaml").write_text("seed: 7\nround: {holdout_fraction: 0.0}\nprepare: {retention_dev_fraction: 0.5}\n")
    prepare.main()
    assert "a new project" not in caplog.text


WORDS = ("okay", "yes", "no", "seven")


def test_two_hundred_speakers_who_share_words_and_lines() -> None:
    """A team's corpus: a few speakers said most, all say the same short words, some read the same lines."""
    clips = {speaker: max(2, 40 // (speaker + 1)) for speaker in range(200)}
    said = {
        f"clean/{speaker}-{clip}.wav": (speaker, WORDS[speaker % 4] if clip == 0 else f"line {speaker % 150} {clip}")
        for speaker, count in clips.items()
        for clip in range(count)
    }
    record(*said, seconds=0.05)
    lines = [f"{name},{text},s{speaker}" for name, (speaker, text) in said.items()]
    Path("data/references.csv").write_text("\n".join(["path,text,speaker", *lines]) + "\n")
    examination = examine_data(Path("data"), Params())
    for allow in (False, True):
        manifest = settle(examination, Params(prepare=PrepareParams(shared_texts="allow" if allow else "hold_out")))
        rows, report = manifest.rows, manifest.report
        split_of: dict[str, set[str]] = {}
        texts: dict[str, set[str]] = {"train": set(), "dev": set(), "test": set()}
        for row in rows:
            split_of.setdefault(row.speaker, set()).add(row.split)
            texts[row.split].add(row.reference)
        assert all(len(splits) == 1 for splits in split_of.values())
        left_out = report.left_out.get("judged_text", 0)
        assert len(rows) + left_out == len(said) and (left_out > 0) != allow
        for split, share in {"train": 0.4, "dev": 0.15, "test": 0.45}.items():
            dealt = sum(row.split == split for row in rows) + (left_out if split == "train" else 0)
            assert abs(dealt - share * len(said)) <= max(clips.values()), (split, dealt)
        assert bool(texts["train"] & (texts["dev"] | texts["test"])) == allow
        assert report.shared_texts and report.shared_texts.units == 50  # who says the commonest word


def test_broken_files_are_listed_and_the_run_goes_on() -> None:
    record("a.wav", "b.wav", "cut.wav")
    Path("data/empty.wav").touch()
    Path("data/text.wav").write_text("not audio, just words")
    cut = Path("data/cut.wav").read_bytes()
    Path("data/cut.wav").write_bytes(cut[: len(cut) // 2])
    record("silent.wav", level=0)
    rows, report = build(Path("data"), Params(prepare=ALL_TRAIN))
    assert [Path(row.path).name for row in rows] == ["a.wav", "b.wav", "silent.wav"]
    assert report.left_out == {"empty": 1, "not_audio": 1, "truncated": 1}
    assert [p.path for p in report.problems if p.warning and p.reason == "silent"] == ["data/silent.wav"]


def test_nothing_usable_is_refused() -> None:
    Path("data").mkdir()
    Path("data/empty.wav").touch()
    with pytest.raises(UsageError, match=r"empty\.wav"):
        build_manifest(Path("data"), Params())


def test_short_references_and_long_recordings_are_left_out() -> None:
    record("a.wav", "b.wav")
    record("long.wav", seconds=1.5)
    references("a.wav,Yes", "b.wav,Yes it is")
    params = Params(audio=AudioParams(max_duration=1.0, min_words=2), prepare=ALL_TRAIN)
    rows, report = build(Path("data"), params)
    assert [row.path for row in rows] == ["data/b.wav"]
    assert report.left_out == {"few_words": 1, "too_long": 1}


def test_limit_takes_the_first_of_each_condition() -> None:
    record("clean/a.wav", "clean/b.wav", "noisy/c.wav", "noisy/d.wav")
    rows, _ = build(Path("data"), Params(prepare=ALL_TRAIN.model_copy(update={"limit": 1})))
    assert [row.path for row in rows] == ["data/clean/a.wav", "data/noisy/c.wav"]


def test_equal_bytes_get_different_ids_and_the_same_split() -> None:
    record("a.wav", *(f"other{i}.wav" for i in range(8)))
    Path("data/z.wav").write_bytes(Path("data/a.wav").read_bytes())
    references("a.wav,One text", "z.wav,Another text", *(f"other{i}.wav,Text {i}" for i in range(8)))
    rows = {row.path: row for row in build(Path("data"), Params())[0]}
    first, second = rows["data/a.wav"], rows["data/z.wav"]
    assert second.id == f"{first.id}-2"
    assert second.split == first.split


def test_unreferenced_copy_of_a_test_recording_is_left_out_and_said() -> None:
    record("clean/a.wav", "noisy/a.wav")
    references("clean/a.wav,Only this one was written down")
    rows, report = build(Path("data"), Params(prepare=PrepareParams(dev_fraction=0, test_fraction=1)))
    assert [row.path for row in rows] == ["data/clean/a.wav"]
    assert report.left_out == {"no_reference": 1}


def test_fractions_above_one_are_refused() -> None:
    record("a.wav")
    with pytest.raises(UsageError, match="add up"):
        build_manifest(Path("data"), Params(prepare=PrepareParams(dev_fraction=0.6, test_fraction=0.6)))


def test_stage_writes_the_same_bytes_whatever_it_knows_of_the_recordings() -> None:
    record(*(f"clean/{i}.wav" for i in range(6)))
    references(*(f"clean/{i}.wav,Sentence number {i}" for i in range(6)))
    outputs = []
    for known in (False, True, False):
        assert EXAMINED.is_file() == known
        prepare.main()
        outputs.append({path.name: path.read_bytes() for path in Path("build/prepare").iterdir()})
        if known:
            EXAMINED.unlink()
    assert outputs[0] == outputs[1] == outputs[2]
    splits = json.loads(outputs[0]["report.json"])["domains"]["target"]
    assert sum(split["utterances"] for split in splits.values()) == 6


def test_stage_exits_with_the_errors_code_and_its_message() -> None:
    done = subprocess.run([sys.executable, "-m", "mondegreen.stages.prepare"], capture_output=True, text=True)
    assert done.returncode == UsageError.exit_code
    assert "init . --sample" in done.stderr
    assert "Traceback" not in done.stderr


def test_what_the_model_cannot_write_is_found_and_left_out_of_train_alone(tmp_path: Path) -> None:
    names = [f"{number:02}.wav" for number in range(20)]
    record(*names)
    texts = ["call AT&T now" if number % 4 == 0 else f"plain words {chr(97 + number)}" for number in range(20)]
    references(*(f"{name},{text} {name[0]}x{name[1]}" for name, text in zip(names, texts, strict=True)))
    (tmp_path / "base").mkdir()
    (tmp_path / "base/vocab.json").write_text(json.dumps({token: index for index, token in enumerate(VOCABULARY)}))
    (tmp_path / "base/config.json").write_text(json.dumps({"vocab_size": len(VOCABULARY)}))
    before, _ = build(Path("data"), Params())
    rows, report = build(Path("data"), Params(model=ModelParams(base="base")))
    assert report.spelling and report.spelling.checked and report.spelling.lacking["&"].times == 5
    odd = {row.path for row in before if "&" in row.reference}
    assert set(report.spelling.lacking["&"].files) == odd
    gone = {row.path for row in before if "&" in row.reference and row.split == "train"}
    assert gone and gone != odd and [row for row in before if row.path not in gone] == rows
    assert report.left_out == {"unwritable": len(gone)}
    problems = [item for item in report.problems if item.reason == "unwritable"]
    assert {item.path: item.warning for item in problems} == {path: path not in gone for path in odd}
    assert all("'&' (AMPERSAND)" in item.message for item in problems)


def test_a_model_that_can_write_no_transcript_stops_before_anything_is_computed(tmp_path: Path) -> None:
    record("a.wav", "b.wav")
    references("a.wav,привет мир", "b.wav,добрый день")
    (tmp_path / "base").mkdir()
    (tmp_path / "base/vocab.json").write_text(json.dumps({token: index for index, token in enumerate(VOCABULARY)}))
    (tmp_path / "base/config.json").write_text(json.dumps({"vocab_size": len(VOCABULARY)}))
    with pytest.raises(VocabularyError, match=r"base can write none of the 2 transcripts[\s\S]*CYRILLIC"):
        build(
            Path("data"), Params(model=ModelParams(base="base"), prepare=PrepareParams(dev_fraction=0, test_fraction=0))
        )


def test_the_pipeline_names_every_knob_and_file_that_the_manifest_depends_on(monkeypatch: pytest.MonkeyPatch) -> None:
    record("a.wav", "b.wav", "c.wav", "d.wav")
    references("a.wav,one", "b.wav,two", "c.wav,three", "d.wav,four")
    params, read = Params(), set[str]()
    sections = {id(section): name for name, section in params if isinstance(section, BaseModel)}
    plain = BaseModel.__getattribute__

    def seen(self: BaseModel, name: str) -> object:
        if name in type(self).model_fields and (id(self) in sections or self is params):
            read.add(f"{sections[id(self)].rstrip('_')}.{name}" if id(self) in sections else name)
        return plain(self, name)

    monkeypatch.setattr(BaseModel, "__getattribute__", seen)
    build_manifest(Path("data"), params)
    monkeypatch.undo()
    knobs = {name for name in read if "." in name or name not in sections.values()}
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    named = stages["prepare"]["params"]
    assert "model.base" in knobs and "prepare.limit" in knobs
    assert {name for name in knobs if name not in named and name.partition(".")[0] not in named} == set()
    assert "starter/model" in stages["prepare"]["deps"]  # its vocabulary says what can be taught


def test_each_channel_of_a_call_is_an_utterance_with_its_own_reference() -> None:
    Path("data").mkdir()
    for number in range(6):
        noise = np.random.default_rng(number).uniform(-0.1, 0.1, (8_000, 2))
        soundfile.write(Path(f"data/call{number}.wav"), noise, 16_000)
    references(*(f"call{number}.wav#{side},{side} says {number}" for number in range(6) for side in (1, 2)))
    rows, _ = build(Path("data"), Params(audio=AudioParams(channel="split")))
    assert {row.path: row.reference for row in rows}["data/call3.wav#2"] == "2 says 3"
    assert len(rows) == len({row.sha256 for row in rows}) == 12
    assert all(row.id.endswith(f"-ch{row.path[-1]}") for row in rows)
    assert len({(row.recording, row.split) for row in rows}) == 6  # a call stays together
    references(*(f"call{number}.wav,2 says {number}" for number in range(6)))
    second, _ = build(Path("data"), Params(audio=AudioParams(channel="second")))
    assert all(row.reference for row in second)
    assert {row.path for row in second} == {f"data/call{number}.wav#2" for number in range(6)}


def test_files_that_are_not_taken_are_in_the_report() -> None:
    record("a.wav")
    for name in ("notes.txt", "._a.wav", "README.md", "report.json"):  # the last two come with the sample
        Path("data", name).write_bytes(b"x")
    _, report = build(Path("data"), Params(prepare=ALL_TRAIN))
    said = {problem.reason: problem.message for problem in report.problems}
    assert "1 file was not taken" in said["not_taken"] and "notes.txt" in said["not_taken"]
    assert "1 file was skipped" in said["hidden"]
