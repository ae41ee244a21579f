"""Failed cases of a snapshot teach; they never judge, and they never move a recording between the splits."""

import hashlib
import zlib
from pathlib import Path

import numpy as np
import pytest
import soundfile
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from mondegreen.config import Params, PrepareParams, RoundParams
from mondegreen.errors import LeakageError
from mondegreen.files import read_jsonl, sha256_file, write_jsonl
from mondegreen.labels.gold import gold_labels
from mondegreen.records import FailedCase, Label, Utterance
from mondegreen.speech.admission import admitted_cases, read_suites
from mondegreen.speech.channels import channel_digest
from mondegreen.speech.manifest import Manifest, build_manifest
from mondegreen.speech.splits import SplitRule
from mondegreen.stages import label, prepare

ROOT = Path(__file__).resolve().parents[2]
PARAMS = Params(prepare=PrepareParams(dev_fraction=0.25, test_fraction=0.5))


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text("prepare: {dev_fraction: 0.25, test_fraction: 0.5}\n")
    names = [record(f"data/clean/{i}.wav") for i in range(8)]
    rows = "".join(f"clean/{name.name},Sentence number {i}\n" for i, name in enumerate(names))
    Path("data/references.csv").write_text(f"path,text\n{rows}")


def record(name: str) -> Path:
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(zlib.crc32(name.encode())).normal(0, 0.1, 4800)
    soundfile.write(path, noise.astype(np.float32), 16000)
    return path


def case(name: str, text: str, audio: Path | None = None, **more: str) -> FailedCase:
    """A case of a recording of its own, or of a copy of `audio`."""
    path = Path("data/failed_cases/audio") / f"{name}.wav"
    if audio:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(audio.read_bytes())
    else:
        record(path.as_posix())
    values = {
        "id": name,
        "path": f"audio/{name}.wav",
        "sha256": sha256_file(path),
        "duration": 0.3,
        "hypothesis": "what it heard",
        "model_version": "m",
        "text": text,
        "method": "manual",
        "author": "ann",
        "error_types": [],
        "error_score": None,
        "source": "production",
    }
    return FailedCase.model_validate(values | more)


def test_prepare_runs_again_where_other_shares_are_held_out() -> None:
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    assert {"round", "train.dev_cases"} <= set(stages["prepare"]["params"])


def test_a_share_of_the_cases_measures_and_teaches_nothing_though_its_words_may() -> None:
    write_jsonl(Path("data/failed_cases/cases.jsonl"), [case(f"c{i}", "yes please") for i in range(8)])
    params = PARAMS.model_copy(update={"round_": RoundParams(holdout_fraction=0.5)})
    rows = build_manifest(Path("data"), params).rows
    held = {row.path for row in rows if row.domain == "corrected"}
    taught = {row.path for row in rows if "failed_cases" in row.path and row.split == "train"}
    assert held and taught and len(held) + len(taught) == 8 and not held & taught
    assert {(row.split, row.reference) for row in rows if row.path in held} == {("test", "yes please")}
    labels = gold_labels(rows, build_manifest(Path("data"), params).corrections)
    assert sum(label.text == "yes please" and label.source == "human" for label in labels) == 8


def test_who_speaks_in_train_is_never_held_out() -> None:
    people()
    taught = {row.speaker for row in build_manifest(Path("data"), PARAMS).rows if row.split == "train"} - {""}
    own = [case(f"own-{name}", f"New words of {name}", speaker=name.upper()) for name in sorted(taught)]
    others = [case(f"other{i}", f"Other words {i}", speaker=f"new {i}") for i in range(12)]
    write_jsonl(Path("data/failed_cases/cases.jsonl"), [*own, *others])
    params = PARAMS.model_copy(update={"round_": RoundParams(holdout_fraction=0.9)})
    rows = [row for row in build_manifest(Path("data"), params).rows if row.condition == "failed_cases"]
    assert len(own) > 1 and len(rows) == len(own) + len(others)
    assert {row.split for row in rows if row.speaker.lower() in taught} == {"train"}
    assert sum(row.domain == "corrected" for row in rows) > 6


def manifest(*cases: FailedCase) -> Manifest:
    write_jsonl(Path("data/failed_cases/cases.jsonl"), cases)
    return build_manifest(Path("data"), PARAMS)


def test_cases_join_train_and_leave_every_split_as_it_was() -> None:
    before = build_manifest(Path("data"), PARAMS).rows
    found = manifest(case("a", "A new sentence"), case("b", "Another one", method="llm"))
    assert [row for row in found.rows if row.condition != "failed_cases"] == before
    assert {(row.split, row.domain, row.reference) for row in found.rows if row.condition == "failed_cases"} == {
        ("train", "target", "A new sentence"),
        ("train", "target", ""),  # what a machine wrote is no reference
    }
    assert {(row.text, row.source) for row in found.corrections} == {
        ("A new sentence", "human"),
        ("Another one", "llm"),
    }


@pytest.mark.parametrize("method", ["manual", "llm"])
def test_a_case_with_the_text_or_the_bytes_of_what_judges_stays_out(method: str) -> None:
    rows = build_manifest(Path("data"), PARAMS).rows
    judge = next(row for row in rows if row.split == "test")
    found = manifest(
        case("text", judge.reference.upper() + "!", method=method),
        case("bytes", "Some other words", audio=Path(judge.path), method=method),
        case("source", "Still other words", recording=judge.recording, method=method),
    )
    assert found.report.left_out == {"held_out_content": 1, "held_out_recording": 1, "held_out_text": 1}
    assert found.corrections == []
    assert judge.path in next(p.message for p in found.report.problems)


def test_what_the_audit_drew_teaches_by_no_way_and_may_judge() -> None:
    rows = build_manifest(Path("data"), PARAMS).rows
    taught, judge = (next(row for row in rows if row.split == split) for split in ("train", "test"))
    cases = case("drawn", "Some words"), case("free", "Other words")
    Path("data/failed_cases/audited.txt").write_text(f"{taught.sha256}\n{judge.sha256}\n{cases[0].sha256}\n")
    found = manifest(*cases)
    assert found.report.left_out == {"audited": 2} and [row.text for row in found.corrections] == ["Other words"]
    paths = {row.path for row in found.rows}
    assert judge.path in paths and taught.path not in paths


def test_what_a_regression_suite_holds_teaches_by_no_way_and_may_judge() -> None:
    rows = build_manifest(Path("data"), PARAMS).rows
    taught, judge = (next(row for row in rows if row.split == split) for split in ("train", "test"))
    cases = case("guarded", "Some words"), case("free", "Other words")
    for number, path in enumerate((taught.path, judge.path, "data/failed_cases/audio/guarded.wav")):
        copy = Path(f"data/regression/refunds/{number}.WAV")
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(Path(path).read_bytes())
    found = manifest(*cases)
    assert found.report.left_out == {"held_out_suite": 2} and [row.text for row in found.corrections] == ["Other words"]
    paths = {row.path for row in found.rows}
    assert judge.path in paths and taught.path not in paths


def test_a_suite_holds_what_its_files_hold_by_channel_as_well_whatever_they_are_called(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/call").write_bytes(b"a recording")
    (tmp_path / "data/regression").mkdir(parents=True)
    (tmp_path / "data/regression/linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere/back").symlink_to(tmp_path / "data/regression")
    digest = hashlib.sha256(b"a recording").hexdigest()
    assert {digest, channel_digest(digest, 1), channel_digest(digest, 2)} <= read_suites(tmp_path / "data")
    assert not read_suites(tmp_path / "elsewhere")


@pytest.mark.parametrize("name", ["{path}", "clean/{file}", "{file}", "{stem}"])
def test_a_piece_of_a_recording_that_judges_never_trains_whatever_its_recording_is_called(name: str) -> None:
    judge = Path(next(row.path for row in build_manifest(Path("data"), PARAMS).rows if row.split == "test"))
    named = name.format(path=judge.as_posix(), file=judge.name, stem=judge.stem)
    found = manifest(case("piece", "Some words of it", recording=named), case("other", "Others", recording="9.wav"))
    assert found.report.left_out == {"held_out_recording": 1}
    assert [row.text for row in found.corrections] == ["Others"]


def people() -> dict[str, str]:
    """A speaker of each split, of twelve."""
    names = [record(f"data/clean/{i}.wav").name for i in range(8, 24)]
    rows = "".join(f"clean/{name},Sentence number {i},s{i % 12}\n" for i, name in enumerate(names))
    Path("data/references.csv").write_text(f"path,text,speaker\n{rows}")
    return {row.split: row.speaker for row in build_manifest(Path("data"), PARAMS).rows if row.speaker}


def test_a_recording_that_two_models_misheard_is_whose_it_is_by_either_case() -> None:
    judge = people()["test"]
    first = case("a", "What was said")
    found = manifest(first, first.model_copy(update={"id": "b", "model_version": "n", "speaker": judge.upper()}))
    assert found.report.left_out == {"held_out_speaker": 2}
    assert not [row for row in found.rows if row.condition == "failed_cases"]


def test_of_two_cases_of_a_recording_a_persons_teaches_whatever_their_ids() -> None:
    first = case("a", "By a person")
    found = manifest(first, first.model_copy(update={"id": "b", "text": "By a machine", "method": "llm"}))
    assert [row.text for row in found.corrections] == ["By a person"]
    assert found.report.left_out == {"known": 1}


def test_a_speaker_who_judges_never_trains() -> None:
    found = manifest(*(case(split, f"Words of {split}", speaker=speaker) for split, speaker in people().items()))
    assert found.report.left_out == {"held_out_speaker": 2}
    assert [row.text for row in found.corrections] == ["Words of train"]


def test_a_correction_gives_an_unreferenced_training_recording_its_text() -> None:
    bare = record("data/clean/bare.wav")
    found = manifest(case("a", "What was said there", audio=bare))
    assert [row.path for row in found.rows if row.sha256 == sha256_file(bare)] == ["data/failed_cases/audio/a.wav"]


def test_a_reference_outranks_a_case_and_a_person_a_machine() -> None:
    rows = build_manifest(Path("data"), PARAMS).rows
    trained = next(row for row in rows if row.split == "train")
    first = case("a", "By a machine", method="llm")
    found = manifest(
        first,
        case("b", "By a person", audio=Path("data/failed_cases/audio/a.wav")),
        case("c", "Not what the reference says", audio=Path(trained.path)),
    )
    assert [row.text for row in found.corrections] == ["By a person"]
    assert found.report.left_out == {"known": 2}


def test_a_changed_recording_is_refused_and_named() -> None:
    row = case("a", "A new sentence")
    record("data/failed_cases/audio/other.wav").replace("data/failed_cases/audio/a.wav")
    found = manifest(row)
    assert found.report.left_out == {"corrupt": 1}
    assert "dvc checkout" in found.report.problems[0].message


def test_the_copy_of_an_unreferenced_twin_of_a_test_recording_stays_out() -> None:
    rows = build_manifest(Path("data"), PARAMS).rows
    judge = next(row for row in rows if row.split == "test")
    twin = record(f"data/noisy/{Path(judge.path).name}")  # shares the recording's name, so it is withheld
    found = manifest(case("a", "What a caller said", audio=twin))
    assert found.report.left_out == {"no_reference": 1, "held_out_content": 1}


def test_the_stages_hand_corrections_on() -> None:
    write_jsonl(Path("data/failed_cases/cases.jsonl"), [case("a", "A new sentence"), case("b", "Two", method="llm")])
    prepare.main()
    assert len(read_jsonl(Path("build/prepare/corrections.jsonl"), Label)) == 2
    rows = read_jsonl(Path("build/prepare/manifest.jsonl"), Utterance)
    Path("build/transcribe").mkdir()
    Path("build/transcribe/hypotheses.jsonl").write_text("".join(hypothesis(row) for row in rows))
    label.main()
    labels = {item.text: item.source for item in read_jsonl(Path("build/label/labels.jsonl"), Label)}
    assert labels["A new sentence"] == "human"
    assert labels["Two"] == "llm"


def hypothesis(row: Utterance) -> str:
    return (
        f'{{"id": "{row.id}", "path": "{row.path}", "text": "", "confidence": 1, "duration": 1, "words": [], '
        '"nbest": [], "model": "m"}\n'
    )


SPLITS = st.sampled_from([("train", "target"), ("dev", "target"), ("test", "target"), ("test", "retention")])
NAMES = st.sampled_from("abcd")


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(NAMES, NAMES, NAMES, SPLITS), max_size=6),
    st.lists(st.tuples(NAMES, NAMES, NAMES, st.sampled_from(["manual", "llm"])), max_size=6),
    st.booleans(),
)
def test_nothing_that_is_admitted_shares_anything_with_what_judges(rows: list, cases: list, by_speaker: bool) -> None:
    settled = [
        utterance(f"r{i}", sha, text, speaker, split, domain)
        for i, (sha, text, speaker, (split, domain)) in enumerate(rows)
    ]
    pairs = [pair(f"c{i}", sha, text, speaker, method) for i, (sha, text, speaker, method) in enumerate(cases)]
    kept, problems = admitted_cases(pairs, settled, [], SplitRule(str, by_speaker))
    judging = [row for row in settled if row.split != "train" or row.domain == "retention"]
    for item, row in kept:
        assert all(row.sha256 != judge.sha256 and item.text != judge.reference for judge in judging)
        assert not by_speaker or all(row.speaker != judge.speaker for judge in judging if judge.domain == "target")
    assert len({row.sha256 for _, row in kept}) == len(kept)
    assert len(kept) + len(problems) == len(pairs)


def utterance(name: str, sha: str, text: str, speaker: str, split: str, domain: str) -> Utterance:
    return Utterance(
        id=name,
        path=name,
        sha256=sha,
        duration=1,
        condition="all",
        speaker=speaker,
        recording=name,
        reference=text,
        split=split,
        domain=domain,
    )


def pair(name: str, sha: str, text: str, speaker: str, method: str) -> tuple[FailedCase, Utterance]:
    item = FailedCase(
        id=name,
        path=name,
        sha256=sha,
        duration=1,
        hypothesis="",
        model_version="m",
        text=text,
        method=method,
        author="",
        error_types=[],
        error_score=None,
        source="",
    )
    return item, utterance(name, sha, "" if method == "llm" else text, speaker, "train", "target")


@pytest.mark.parametrize(("split", "domain"), [("test", "target"), ("dev", "target"), ("test", "retention")])
def test_a_machines_text_never_becomes_a_label_where_models_are_judged(split: str, domain: str) -> None:
    row = utterance("a", "s", "", "", split, domain)
    with pytest.raises(LeakageError, match="machine"):
        gold_labels([row], [Label(id="a", text="made up", source="llm")])
