"""data/replay: speech that the base model hears well, replayed in training where the project's own is too little."""

from pathlib import Path

import pytest

from mondegreen.config import Params
from mondegreen.detector.calibration import collect
from mondegreen.labels.gold import make_audit
from mondegreen.scoring.metrics import metrics_file
from mondegreen.speech.manifest import build_manifest
from tests.stages.test_prepare import project, record, references  # noqa: F401  # the fixture is used by its name
from tests.stages.test_select import Corpus, ids


def known(folder: str, *lines: str) -> None:
    Path(f"data/{folder}/references.csv").write_text("\n".join(["path,text,speaker", *lines]) + "\n")


@pytest.fixture
def corpus() -> Corpus:
    """Four errors, two heard rightly in train, and six of data/replay, half of which are heard rightly."""
    corpus = Corpus()
    for number in range(4):
        corpus.add(f"error{number}", "the cat sat", "the bat sat")
    for number in range(2):
        corpus.add(f"right{number}", "hello", "hello")
    for number in range(3):
        corpus.add(f"known{number}", f"well known {number}", f"Well known {number}.", domain="replay")
        corpus.add(f"odd{number}", f"not so {number}", "not so", domain="replay")
    corpus.add("dev", "a dog", "a log", split="dev")
    return corpus


def test_own_utterances_are_replayed_before_those_of_the_folder(corpus: Corpus) -> None:
    for ratio, own, folder in ((0.5, 2, 0), (1.0, 2, 2), (5.0, 2, 3)):
        selection = corpus.select(replay_ratio=ratio)
        replayed = ids(selection.train, "replay")
        assert len(replayed & {"right0", "right1"}) == own
        assert len(replayed & {"known0", "known1", "known2"}) == folder == selection.report.replay_from_folder
        assert len(replayed) == own + folder


def test_what_the_base_mishears_of_the_folder_is_no_error_case(corpus: Corpus) -> None:
    selection = corpus.select(replay_ratio=100)
    assert ids(selection.train, "error") == {f"error{number}" for number in range(4)}
    assert not any(example.id.startswith("odd") for example in selection.train)
    assert ids(selection.dev) == {"dev"} and not selection.retention


def test_a_new_recording_moves_no_other_replayed_one(corpus: Corpus) -> None:
    before = ids(corpus.select().train, "replay")
    corpus.add("known-new", "one more", "one more", domain="replay")
    assert len(before - ids(corpus.select().train, "replay")) <= 1


def test_too_little_replay_is_said_with_numbers_and_what_to_do(corpus: Corpus) -> None:
    assert corpus.select(replay_ratio=1.25).report.notes == []
    (note,) = corpus.select(replay_ratio=2).report.notes
    assert "8 utterances are wanted" in note and "5 are there" in note
    assert "2 of the train split" in note and "3 of 6 in data/replay" in note and "Put recordings" in note


def test_replay_stands_in_a_slice_of_its_own(corpus: Corpus) -> None:
    slices = metrics_file(corpus.utterances, corpus.hypotheses, "spoken").slices
    assert slices["replay"].utterances == 6
    assert slices["train"].utterances == slices["train/clean"].utterances == 6
    labels = make_audit(corpus.utterances, corpus.labels, corpus.hypotheses, "spoken").labels
    assert labels == {"target": {"human": 7}, "retention": {}, "replay": {"human": 6}}


def test_the_detector_learns_nothing_from_replay(corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mondegreen.detector.calibration.load_audio", lambda path, **_: None)
    monkeypatch.setattr("mondegreen.detector.calibration.measure", lambda waveform: None)
    monkeypatch.setattr("mondegreen.detector.calibration.ReferencedUtterance", lambda scored, acoustics: scored)
    found = collect(corpus.utterances, corpus.hypotheses, {"train", "dev"}, "spoken")
    assert {pair.utterance.domain for pair in found} == {"target"} and len(found) == 7


def test_replay_is_trained_on_and_judges_nothing() -> None:
    record(
        "clean/a.wav",
        "clean/b.wav",
        "clean/c.wav",
        "clean/d.wav",
        "retention/r.wav",
        "retention/s.wav",
        "replay/x/k.wav",
    )
    references("clean/a.wav,one", "clean/b.wav,two", "clean/c.wav,three", "clean/d.wav,four")
    known("retention", "r.wav,old words,ann", "s.wav,older words,ann")
    known("replay", "x/k.wav,other words,bob")
    manifest = build_manifest(Path("data"), Params())
    rows = {row.path: row for row in manifest.rows}
    assert (rows["data/replay/x/k.wav"].domain, rows["data/replay/x/k.wav"].split) == ("replay", "train")
    without = {path: row.split for path, row in rows.items() if row.domain != "replay"}
    Path("data/replay/x/k.wav").unlink()
    Path("data/replay/references.csv").unlink()
    assert {row.path: row.split for row in build_manifest(Path("data"), Params()).rows} == without
    assert list(manifest.report.domains) == ["replay", "retention", "target"]
    assert manifest.report.domains["replay"]["train"].utterances == 1


@pytest.mark.parametrize("shared", ["content", "text", "speaker", "no_reference"])
@pytest.mark.parametrize("judge", ["retention/r.wav", "clean/a.wav"])
def test_replay_that_shares_something_with_what_judges_is_left_out_and_named(shared: str, judge: str) -> None:
    names = [f"clean/{letter}.wav" for letter in "abcdef"]
    record(*names, "retention/r.wav", "retention/s.wav", "replay/k.wav", "replay/fine.wav")
    lines = [f"{name},some words {name[6]},ann {name[6]}" for name in names]
    Path("data/references.csv").write_text("\n".join(["path,text,speaker", *lines]) + "\n")
    known("retention", "r.wav,old words,cid", "s.wav,older words,cid")
    judging = next(
        row
        for row in build_manifest(Path("data"), Params(prepare={"test_fraction": 0.85})).rows
        if row.split != "train" and row.domain == ("retention" if judge.startswith("ret") else "target")
    )
    text = judging.reference if shared == "text" else "new words"
    speaker = judging.speaker if shared == "speaker" else "dan"
    known("replay", f"k.wav,{'' if shared == 'no_reference' else text},{speaker}", "fine.wav,fine words,dan")
    if shared == "content":
        Path("data/replay/k.wav").write_bytes(Path(judging.path).read_bytes())
    manifest = build_manifest(Path("data"), Params(prepare={"test_fraction": 0.85}))
    assert [row.path for row in manifest.rows if row.domain == "replay"] == ["data/replay/fine.wav"]
    reason = shared if shared == "no_reference" else f"held_out_{shared}"
    assert [problem.reason for problem in manifest.report.problems if "replay/k" in problem.path] == [reason]
    assert manifest.report.left_out == {reason: 1}
    assert judging.path in {row.path for row in manifest.rows}
