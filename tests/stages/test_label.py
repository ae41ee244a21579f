"""The label stage over real recordings and a real recogniser, with a server that speaks Ollama's API."""

import csv
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from mondegreen.errors import MondegreenError
from mondegreen.files import read_json, read_jsonl, write_jsonl
from mondegreen.labels.gold import Audit
from mondegreen.labels.guards import LabelDecision
from mondegreen.records import Example, Hypothesis, Label, Utterance
from mondegreen.stages import label, prepare, select, transcribe
from tests.support.libraries import printed_and_loaded
from tests.support.ollama_server import FakeOllama, hypothesis, ollama, transcript

pytestmark = pytest.mark.xdist_group("label")  # what the tests share is made once

ROOT = Path(__file__).resolve().parents[2]
OUT = Path("build/label")
PARAMS = {
    "model": {"base": str(ROOT / "starter/model")},
    "prepare": {"dev_fraction": 0.2, "test_fraction": 0.2},
    "validate": {"bootstrap_samples": 1000},
}
LABEL = {"llm": "ollama", "few_shot": 2, "retries": 0, "max_word_edits": 1.0, "keep_word": 1.0, "doubtful_below": 0.0}


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """36 recordings of synthetic voices, every sixth one without a reference, as prepare and transcribe leave them."""
    folder = tmp_path_factory.mktemp("label")
    with (ROOT / "starter/heldout/references.csv").open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))[:36]
    (folder / "data/clean").mkdir(parents=True)
    lines = []
    for number, row in enumerate(rows):
        shutil.copy(ROOT / "starter/heldout" / row["path"], folder / "data/clean")
        if number % 6:
            lines.append(f'clean/{row["path"]},"{row["text"]}"\n')
    (folder / "data/references.csv").write_text("path,text\n" + "".join(lines))
    (folder / "said.json").write_text(json.dumps({row["path"]: row["text"] for row in rows}))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        Path("params.yaml").write_text(yaml.safe_dump(PARAMS))
        prepare.main()
        transcribe.main()
    return folder


@pytest.fixture
def project(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(template, tmp_path / "project")
    monkeypatch.chdir(tmp_path / "project")
    monkeypatch.delenv("OLLAMA_HOST", raising=False)
    return tmp_path / "project"


def manifest() -> dict[str, Utterance]:
    return {row.id: row for row in read_jsonl(Path("build/prepare/manifest.jsonl"), Utterance)}


def labels() -> dict[str, Label]:
    return {row.id: row for row in read_jsonl(OUT / "labels.jsonl", Label)}


def judged(name: str = "guards") -> dict[str, LabelDecision]:
    return {row.id: row for row in read_jsonl(OUT / f"{name}.jsonl", LabelDecision)}


def configure(url: str, **changes: Any) -> None:
    section = {**LABEL, "url": url, **changes}
    Path("params.yaml").write_text(yaml.safe_dump({**PARAMS, "label": section}))


def truth() -> Callable[[str], str]:
    """From what was heard to what was said."""
    said = json.loads(Path("said.json").read_text())
    heard = read_jsonl(Path("build/transcribe/hypotheses.jsonl"), Hypothesis)
    known = {item.text.lower(): str(said[Path(item.path).name]) for item in heard}
    return lambda text: known[text.lower()]


@contextmanager
def answering(answer: Callable[[str], str], **changes: Any) -> Iterator[FakeOllama]:
    with ollama(lambda request, number: transcript(answer(hypothesis(request)))) as fake:
        configure(fake.url, **changes)
        yield fake


def outputs() -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in OUT.iterdir()}


def bare() -> set[str]:
    """Utterances of train that nobody wrote down."""
    return {row.id for row in manifest().values() if row.split == "train" and not row.reference}


def test_without_an_llm_people_label_and_neither_torch_nor_a_model_is_loaded(project: Path) -> None:
    shutil.rmtree(project / "data")
    code = "from mondegreen.stages import label\nlabel.main()"
    assert printed_and_loaded(code, "torch", "transformers", "ollama", "httpx") == "[]"
    found = labels()
    assert {label.source for label in found.values()} == {"human", "none"}
    assert {key for key, label in found.items() if label.source == "none"} == bare()
    assert judged() == judged("review") == {} and read_json(OUT / "audit.json", Audit).llm is None


def test_an_llm_labels_what_nobody_wrote_down_and_says_who_it_was(project: Path) -> None:
    with answering(truth(), acoustic_margin=0.5):
        label.main()
    found, rows = labels(), manifest()
    machine = {key: row for key, row in found.items() if row.source == "llm"}
    assert machine and set(machine) <= bare()
    for row in machine.values():
        assert row.writer is not None and row.writer.model == "llama3.2:3b"
        assert len(row.writer.digest) == 64 and len(row.writer.prompt_version) == 12
    assert all(
        found[key].source == "human" and found[key].text == row.reference for key, row in rows.items() if row.reference
    )
    assert set(judged("review")) == {key for key in bare() if found[key].source == "none"}
    audit = read_json(OUT / "audit.json", Audit)
    assert audit.llm is not None and audit.llm.result.labels is not None and audit.llm.heard is not None
    assert audit.llm.result.labels.rate < audit.llm.heard.rate
    assert audit.llm.margin == 0.5
    assert audit.labels["target"]["llm"] == len(machine)


def test_nothing_of_the_test_set_is_shown_to_the_llm(project: Path) -> None:
    with answering(truth()) as fake:
        label.main()
    heard = {row.id: row.text.lower() for row in read_jsonl(Path("build/transcribe/hypotheses.jsonl"), Hypothesis)}
    asked = json.dumps(fake.asked).lower()
    assert all(heard[row.id] in asked for row in judged().values())
    test = [row for row in manifest().values() if row.split == "test"]
    assert test and not any(heard[row.id] in asked or row.reference.lower().rstrip(".") in asked for row in test)
    assert {row.id for row in judged().values()}.isdisjoint(row.id for row in test)


def test_a_second_run_asks_nothing_and_writes_the_same_bytes_even_without_a_server(project: Path) -> None:
    with answering(truth()) as fake:
        label.main()
        first, asked = outputs(), len(fake.asked)
        assert asked == len(judged())
        shutil.rmtree(OUT)
        label.main()
        assert len(fake.asked) == asked and outputs() == first
    shutil.rmtree(OUT)
    label.main()
    assert outputs() == first


def test_another_sentence_is_heard_to_be_wrong(project: Path) -> None:
    """The acoustic check alone, with the margin of the references, against fluent nonsense of the same length."""
    with answering(lambda heard: " ".join(["seven", "yellow", "boats"] * 9)[: len(heard)], guards=["acoustic"]):
        label.main()
    assert {row.outcome for row in judged().values()} <= {"rejected", "unanswered"}
    assert not any(row.source == "llm" for row in labels().values())
    assert all(row.suggested for row in judged("review").values() if row.outcome == "rejected")


def test_a_server_that_is_away_leaves_utterances_unlabelled(project: Path) -> None:
    configure("http://127.0.0.1:9")
    label.main()
    found = labels()
    assert all(found[key].source == "none" and "LLM unavailable" in found[key].note for key in bare())
    assert set(judged("review")) == bare()


def test_a_server_that_is_away_stops_the_stage_when_that_is_wanted(project: Path) -> None:
    configure("http://127.0.0.1:9", on_unavailable="fail")
    with pytest.raises(MondegreenError, match=r"on_unavailable|There is no label"):
        label.main()


def test_a_hypothesis_in_the_place_of_a_label_teaches_nothing(project: Path) -> None:
    configure("http://127.0.0.1:9", on_unavailable="use_hypothesis")
    label.main()
    assert {labels()[key].source for key in bare()} == {"hypothesis"}
    select.main()
    trained = {row.id for row in read_jsonl(Path("build/select/train.jsonl"), Example)}
    assert trained and trained.isdisjoint(bare())
    report = json.loads(Path("build/select/report.json").read_text())
    assert report["left_out"] == {"hypothesis_as_label": len(bare())}


def test_wrong_labels_stop_the_round_and_leave_the_audit(project: Path) -> None:
    with (
        answering(
            lambda heard: " ".join(heard.lower().split()[:-1]) or heard, guards=["vocabulary"], max_label_wer=0.1
        ),
        pytest.raises(MondegreenError, match=r"label\.max_label_wer allows 10\.0 %"),
    ):
        label.main()
    audit = read_json(OUT / "audit.json", Audit)
    assert audit.llm is not None and audit.llm.result.labels is not None and audit.llm.result.labels.rate > 0.1


def test_an_llms_labels_teach_and_never_steer(project: Path) -> None:
    """Not even where a defect gave every utterance a machine's label."""
    label.main()
    rows = [row.model_copy(update={"source": "llm", "text": "some words"}) for row in labels().values()]
    write_jsonl(OUT / "labels.jsonl", rows)
    select.main()
    train, dev = (read_jsonl(Path(f"build/select/{name}.jsonl"), Example) for name in ("train", "dev"))
    assert dev == [] and {row.source for row in train} == {"llm"}
    assert {row.id for row in train} == {key for key, row in manifest().items() if row.split == "train"}
