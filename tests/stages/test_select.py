"""What may teach and what may judge."""

import json
from pathlib import Path

import pytest

from mondegreen.config import Params, PrepareParams, SelectParams
from mondegreen.errors import MondegreenError
from mondegreen.files import read_jsonl, write_jsonl
from mondegreen.labels.selection import Selection, select
from mondegreen.records import Example, Hypothesis, Label, Utterance
from mondegreen.stages import select as stage


class Corpus:
    def __init__(self) -> None:
        self.utterances: list[Utterance] = []
        self.labels: list[Label] = []
        self.hypotheses: list[Hypothesis] = []

    def add(self, name: str, gold: str, heard: str, source: str = "human", split: str = "train", **more: str) -> str:
        domain, sha256, error = more.get("domain", "target"), more.get("sha256", f"sha-{name}"), more.get("error", "")
        self.utterances.append(
            Utterance.model_validate(
                {
                    "id": name,
                    "path": f"data/clean/{name}.wav",
                    "sha256": sha256,
                    "duration": 2.0,
                    "condition": more.get("condition", "clean"),
                    "speaker": "",
                    "recording": name,
                    "reference": gold,
                    "split": split,
                    "domain": domain,
                }
            )
        )
        self.labels.append(Label.model_validate({"id": name, "text": gold, "source": source}))
        self.hypotheses.append(
            Hypothesis(
                id=name,
                path=f"data/clean/{name}.wav",
                text=heard,
                confidence=1.0,
                duration=2.0,
                words=[],
                nbest=[],
                model="m",
                error=error,
            )
        )
        return name

    def select(self, shared_texts: str = "hold_out", **changes: float) -> Selection:
        prepare = PrepareParams.model_validate({"shared_texts": shared_texts})
        params = Params(select=SelectParams.model_validate(changes), prepare=prepare)
        return select(self.utterances, self.labels, self.hypotheses, params)


@pytest.fixture
def corpus() -> Corpus:
    corpus = Corpus()
    for number in range(4):
        corpus.add(f"error{number}", "the cat sat", "the bat sat")
    for number in range(10):
        corpus.add(f"right{number}", "Hello, world!", "HELLO WORLD")
    corpus.add("dev-wrong", "a dog", "a log", split="dev")
    corpus.add("dev-right", "a dog", "a dog", split="dev")
    corpus.add("dev-llm", "a dog", "a log", source="llm", split="dev")
    corpus.add("test", "a dog", "a log", split="test")
    corpus.add("kept", "old words", "old words", split="dev", domain="retention")
    corpus.add("kept-train", "old words", "odd words", split="train", domain="retention")
    corpus.add("kept-test", "old words", "odd words", split="test", domain="retention")
    return corpus


def ids(examples: list[Example], kind: str = "") -> set[str]:
    return {example.id for example in examples if kind in ("", example.kind)}


def test_a_machine_does_not_teach_a_text_that_judges_unless_texts_may_repeat(corpus: Corpus) -> None:
    corpus.add("llm", "A dog!", "a frog", source="llm")
    corpus.add("llm-new", "a bird", "a word", source="llm")
    held = corpus.select()
    assert held.report.left_out["judged_text"] == 1
    assert ids(held.train, "error") == {*(f"error{number}" for number in range(4)), "llm-new"}
    assert "llm" in ids(corpus.select(shared_texts="allow").train, "error")


def test_errors_are_all_taken_and_as_many_replayed(corpus: Corpus) -> None:
    selection = corpus.select()
    assert ids(selection.train, "error") == {"error0", "error1", "error2", "error3"}
    assert len(ids(selection.train, "replay")) == 4
    assert ids(selection.train, "replay") <= {f"right{number}" for number in range(10)}
    assert selection.train[0].hypothesis == "the bat sat"


def test_case_and_punctuation_are_no_error(corpus: Corpus) -> None:
    assert not any(example.id.startswith("right") for example in corpus.select(replay_ratio=0).train)


@pytest.mark.parametrize(("ratio", "count"), [(0, 0), (0.5, 2), (2, 8), (100, 10)])
def test_replay_follows_the_ratio_as_far_as_there_is_any(corpus: Corpus, ratio: float, count: int) -> None:
    assert len(ids(corpus.select(replay_ratio=ratio).train, "replay")) == count


def test_only_humans_judge_and_nothing_held_out_teaches(corpus: Corpus) -> None:
    selection = corpus.select(replay_ratio=100)
    assert ids(selection.dev) == {"dev-wrong", "dev-right"}
    assert ids(selection.retention) == {"kept"}
    assert not ids(selection.train) & {"dev-wrong", "dev-llm", "test", "kept", "kept-train", "kept-test"}


def test_what_cannot_teach_is_counted(corpus: Corpus) -> None:
    corpus.add("none", "", "something", source="none")
    corpus.add("empty", "…", "something")
    corpus.add("broken", "the cat", "", error="could not be read")
    corpus.add("copy", "a dog", "a log", sha256="sha-test")
    selection = corpus.select()
    assert not ids(selection.train) & {"none", "empty", "broken", "copy"}
    assert selection.report.left_out == {
        "empty_label": 1,
        "held_out_elsewhere": 1,
        "no_label": 1,
        "not_transcribed": 1,
    }


def test_labels_of_an_llm_may_teach(corpus: Corpus) -> None:
    corpus.add("guessed", "the cat sat", "the mat sat", source="llm")
    selection = corpus.select()
    assert "guessed" in ids(selection.train, "error")
    assert selection.report.groups["error"].sources == {"human": 4, "llm": 1}


def test_a_new_recording_moves_no_other_replayed_one(corpus: Corpus) -> None:
    before = ids(corpus.select(replay_ratio=1).train, "replay")
    corpus.add("right-new", "Hello, world!", "HELLO WORLD")
    after = ids(corpus.select(replay_ratio=1).train, "replay")
    assert len(before - after) <= 1


def test_no_error_case_is_an_error_with_a_next_step() -> None:
    corpus = Corpus()
    corpus.add("right", "hello", "hello")
    with pytest.raises(MondegreenError, match=r"nothing to train on[\s\S]*What now"):
        corpus.select()


def test_the_stage_writes_the_same_bytes_again(corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text("seed: 3\n")
    write_jsonl(Path("build/prepare/manifest.jsonl"), corpus.utterances)
    write_jsonl(Path("build/label/labels.jsonl"), corpus.labels)
    write_jsonl(Path("build/transcribe/hypotheses.jsonl"), corpus.hypotheses)
    stage.main()
    first = {path.name: path.read_bytes() for path in Path("build/select").iterdir()}
    stage.main()
    assert first == {path.name: path.read_bytes() for path in Path("build/select").iterdir()}
    assert set(first) == {"train.jsonl", "dev.jsonl", "retention.jsonl", "report.json"}
    assert len(read_jsonl(Path("build/select/train.jsonl"), Example)) == 8
    assert json.loads(first["report.json"])["replay_share"] == 0.5
