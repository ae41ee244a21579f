"""`mondegreen labels`: suggestions for stored cases, the audit, and what is shown of both."""

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jellyfish
import numpy as np
import pytest
import soundfile
import yaml
from sqlalchemy import select
from typer.testing import CliRunner, Result

from mondegreen.cases.records import Case
from mondegreen.cases.store import DataManager
from mondegreen.cli.main import app
from mondegreen.config import ComputeParams
from mondegreen.db import reading
from mondegreen.files import read_jsonl, write_jsonl
from mondegreen.labels.guards import LabelDecision
from mondegreen.loop import case_labels
from mondegreen.records import Hypothesis, Utterance
from mondegreen.speech.channels import content_digest
from mondegreen.stages import label, prepare, transcribe
from mondegreen.tables import SuggestionRow
from tests.support.libraries import printed_and_loaded
from tests.support.ollama_server import hypothesis, ollama, transcript
from tests.support.ports import closed_port

ROOT = Path(__file__).resolve().parents[2]
HELDOUT = ROOT / "starter/heldout"
PARAMS = {"model": {"base": str(ROOT / "starter/model")}, "validate": {"bootstrap_samples": 1000}}
LABEL = {
    "few_shot": 0,
    "acoustic_margin": 0.6,
    "retries": 0,
    "max_word_edits": 1.0,
    "keep_word": 1.0,
    "doubtful_below": 0.0,
}
with (HELDOUT / "references.csv").open(encoding="utf-8") as stream:
    SAID = {row["path"]: row["text"] for row in csv.DictReader(stream)}
CASES, CORPUS = list(SAID)[:6], list(SAID)[6:16]


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six uncorrected cases in the store, and a pipeline that has transcribed ten other recordings."""
    folder = tmp_path_factory.mktemp("labels") / "project"
    (folder / "data/clean").mkdir(parents=True)
    for name in CORPUS:
        shutil.copy(HELDOUT / name, folder / "data/clean")
    lines = [f'clean/{name},"{SAID[name]}"\n' for name in CORPUS]
    (folder / "data/references.csv").write_text("path,text\n" + "".join(lines))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.delenv("MONDEGREEN_DATABASE_URL", raising=False)
        Path("params.yaml").write_text(yaml.safe_dump(PARAMS))
        prepare.main()
        transcribe.main()
        manager = DataManager("var")
        for name in CASES:
            manager.store_failed_case(HELDOUT / name, "what some model heard", model_version="m")
        manager.close()
    return folder


@pytest.fixture
def project(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(template, tmp_path / "project")
    monkeypatch.chdir(tmp_path / "project")
    for name in ("OLLAMA_HOST", "MONDEGREEN_DATABASE_URL"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "project"


def labels(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["labels", *arguments], catch_exceptions=False)


def configure(url: str, **changes: Any) -> None:
    Path("params.yaml").write_text(yaml.safe_dump({**PARAMS, "label": {**LABEL, "url": url, **changes}}))


def truth(heard: str) -> str:
    """The reference that is spelt most like what was heard."""
    return min(SAID.values(), key=lambda text: jellyfish.levenshtein_distance(text.lower(), heard))


def wrong(heard: str) -> str:
    """Nearly: the last word is one that nobody said."""
    return " ".join([*truth(heard).split()[:-1], "hippopotamus"])


def half_true(heard: str) -> str:
    """Wrong for every second recording."""
    return truth(heard) if list(SAID.values()).index(truth(heard)) % 2 else wrong(heard)


def server(answer: Callable[[str], str]) -> Any:
    return ollama(lambda request, number: transcript(answer(hypothesis(request))))


def store() -> tuple[dict[str, Case], list[SuggestionRow]]:
    """Cases by the name of their audio, and all suggestions."""
    manager = DataManager("var")
    with reading(manager.engine) as session:
        rows = list(session.scalars(select(SuggestionRow).order_by(SuggestionRow.id)))
    cases = {case.audio_name: case for case in manager.each_case()}
    manager.close()
    return cases, rows


def test_what_the_guards_accept_corrects_a_case_and_the_rest_waits_with_its_suggestion(project: Path) -> None:
    with server(half_true) as fake:
        configure(fake.url)
        done = labels("run", "--json")
    assert done.exit_code == 0, done.output
    shown = {row.id: row for row in map(LabelDecision.model_validate_json, done.stdout.splitlines())}
    cases, rows = store()
    assert len(shown) == len(rows) == 6 and {row.case_id for row in rows} == {case.id for case in cases.values()}
    for number, name in enumerate(CASES):
        case, row = cases[name], next(row for row in rows if row.case_id == cases[name].id)
        assert (row.model, len(row.digest), row.text) == ("llama3.2:3b", 64, half_true(shown[case.id].heard.lower()))
        assert row.accepted == (case.label_method == "llm") == shown[case.id].is_accepted
        if number % 2 == 0:
            assert not row.accepted and row.guard and row.reason
    manager = DataManager("var")
    accepted = [case for case in cases.values() if case.is_corrected]
    assert accepted
    for case in accepted:
        (correction,) = manager.corrections(case.id)
        assert (correction.method, correction.author, correction.transcript) == (
            "llm",
            "llama3.2:3b",
            truth(case.corrected_transcript.lower()),
        )
        assert (
            correction.metadata["prompt_version"]
            and correction.metadata["digest"]
            and "acoustic" in correction.metadata["guards"]
        )
    manager.close()
    waiting = 6 - len(accepted)
    assert f"{waiting} wait for a person" in done.stderr


def test_cases_that_have_a_suggestion_are_asked_about_again_only_when_told(project: Path) -> None:
    with server(wrong) as fake:
        configure(fake.url)
        labels("run", "--limit", "2")
        assert len(fake.asked) == 2
        done = labels("run")
        assert len(fake.asked) == 6 and done.stdout.count("rejected: ") == 4
        assert "No case waits" in labels("run").stdout and len(fake.asked) == 6
        labels("run", "--again")
        assert len(fake.asked) == 6, "answers are kept"
    assert len(store()[1]) == 12


def test_a_killed_run_goes_on_with_the_next_batch(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(case_labels, "BATCH", 2)
    asked: list[str] = []

    def dies(heard: str) -> str:
        asked.append(heard)
        return truth(heard)

    with server(dies) as fake:
        configure(fake.url, concurrency=1)
        real, calls = DataManager.store_suggestions, []

        def killed(*arguments: Any) -> None:
            calls.append(1)
            if len(calls) == 2:
                raise KeyboardInterrupt
            real(*arguments)

        with monkeypatch.context() as patch:
            patch.setattr(DataManager, "store_suggestions", killed)
            CliRunner().invoke(app, ["labels", "run"])
        assert len(store()[1]) == 2
        assert labels("run").exit_code == 0
    assert len(store()[1]) == 6 and len(asked) == 6


def test_without_a_server_cases_stay_uncorrected_and_the_exit_code_says_so(project: Path) -> None:
    configure("http://127.0.0.1:9")
    done = labels("run")
    assert done.exit_code == 1 and done.stdout.count(" unavailable: ") == 6
    cases, rows = store()
    assert rows == [] and not any(case.is_corrected for case in cases.values())


def test_a_person_who_was_quicker_is_believed(project: Path) -> None:
    manager = DataManager("var")
    case = next(manager.each_case())
    with server(truth) as fake:
        configure(fake.url)
        labeller = case_labels.CaseLabeller.open(_params())
        waiting = list(case_labels.waiting_cases(manager))
        manager.store_correction(case.id, "what a person says")
        list(labeller.label(manager, waiting))
    assert manager.get_case(case.id).corrected_transcript == "what a person says"
    manager.close()


def test_on_a_cluster_a_batch_has_questions_for_many_machines(project: Path) -> None:
    from mondegreen.labels.cluster import SHARD

    configure("http://127.0.0.1:9")
    ray = _params().model_copy(update={"compute": ComputeParams(engine="ray")})
    assert case_labels.CaseLabeller.open(ray).batch >= 16 * SHARD > case_labels.CaseLabeller.open(_params()).batch


def _params() -> Any:
    from mondegreen.config import load_params

    return load_params()


def test_a_case_whose_audio_is_lost_is_named_and_the_rest_go_on(project: Path) -> None:
    lost = store()[0][CASES[0]]
    next(Path("var/blobs").rglob(f"{lost.audio_sha256}*")).unlink()
    with server(truth) as fake:
        configure(fake.url)
        done = labels("run")
    assert done.exit_code == 0 and f"{lost.id}  unanswered" in done.stdout and len(store()[1]) == 5


def test_the_audit_measures_and_its_exit_code_is_that_of_the_gate(project: Path) -> None:
    with server(truth) as fake:
        configure(fake.url)
        done = labels("audit", "--json")
        found = json.loads(done.stdout)
        assert done.exit_code == 0 and found["result"]["labels"]["rate"] < found["heard"]["rate"]
        assert set(found["by_guard"]) == {
            "none",
            "confident",
            "edits",
            "vocabulary",
            "sound",
            "acoustic",
            "agreement",
            "all",
        }
        asked = len(fake.asked)
        text = labels("audit")
        assert len(fake.asked) == asked and "label.max_label_wer is 30.0 %: the round would go on" in text.stdout
    with server(wrong) as fake:
        configure(fake.url, domain_words=["boats"])
        none = labels("audit")
    assert none.exit_code == 1 and "No suggestion was accepted" in none.stdout
    configure(f"http://127.0.0.1:{closed_port()}", domain_words=["chairs"])
    away = labels("audit")
    assert away.exit_code == 1 and "Nothing was answered" in away.stderr and "llm check" in away.stderr
    assert not away.stdout and not Path("build/label").exists()


def test_show_explains_a_case_of_the_store_and_an_utterance_of_the_stage(project: Path) -> None:
    with server(half_true) as fake:
        configure(fake.url, llm="ollama", max_label_wer=None)
        labels("run")
        label.main()
    key = store()[0][CASES[0]].id
    text = labels("show", key).stdout
    assert "hippopotamus" in text and "rejected (" in text and "llama3.2:3b" in text
    assert json.loads(labels("show", key, "--json").stdout)["suggestion"]["accepted"] is False
    row = read_jsonl(Path("build/label/guards.jsonl"), LabelDecision)[0]
    assert "acoustic: " in labels("show", row.id).stdout and row.heard in labels("show", row.id[:8]).stdout
    summary = labels("show").stdout
    assert "human" in summary and "Audit: WER" in summary
    assert labels("show", "abcdef0123").exit_code == 1


def test_what_the_stage_left_to_people_is_queued_once_with_its_suggestion(project: Path) -> None:
    table = Path("data/references.csv")
    table.write_text("\n".join(table.read_text().splitlines()[:-3]) + "\n")
    prepare.main()
    transcribe.main()
    with server(wrong) as fake:
        configure(fake.url, llm="ollama", max_label_wer=None)
        label.main()
    waiting = read_jsonl(Path("build/label/review.jsonl"), LabelDecision)
    assert waiting and all(row.writer for row in waiting)
    assert json.loads(labels("queue", "--json").stdout) == {"new": len(waiting), "known": 0}
    assert json.loads(labels("queue", "--json").stdout) == {"new": 0, "known": len(waiting)}
    cases, rows = store()
    for row in waiting:
        case = cases[Path(row.path).name]
        (suggested,) = [item for item in rows if item.case_id == case.id]
        assert (suggested.text, suggested.accepted, suggested.guard) == (row.suggested, False, row.guard)
        assert case.original_transcript == row.heard and not case.is_corrected and case.metadata["words"]


def test_a_channel_of_a_call_is_queued_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MONDEGREEN_DATABASE_URL", raising=False)
    soundfile.write("call.wav", np.random.default_rng(0).uniform(-0.1, 0.1, (16_000, 2)), 8_000)
    rows, heard, waiting = list[Utterance](), list[Hypothesis](), list[LabelDecision]()
    for side in (1, 2):
        path = f"call.wav#{side}"
        row = Utterance(
            id=f"u{side}", path=path, sha256=content_digest(path), duration=2.0, condition="all", speaker="",
            recording="call", reference="", split="train", domain="target",
        )  # fmt: skip
        rows.append(row)
        said = {"text": "HELLO", "duration": 2.0, "confidence": 0.5, "words": [], "nbest": []}
        heard.append(Hypothesis(id=row.id, path=path, model="m" * 16, **said))  # type: ignore[arg-type]
        waiting.append(LabelDecision(id=row.id, path=path, heard="HELLO", outcome="rejected", reason="x"))
    write_jsonl(Path("build/prepare/manifest.jsonl"), rows)
    write_jsonl(Path("build/transcribe/hypotheses.jsonl"), heard)
    write_jsonl(Path("build/label/review.jsonl"), waiting)
    manager = DataManager("var")
    assert [case_labels.queue_for_review(manager, Path("build")) for _ in range(2)] == [(2, 0), (0, 2)]
    assert [case.times_seen for case in manager.each_case()] == [1, 1]
    manager.close()


def test_what_shows_and_queues_labels_loads_no_model_library() -> None:
    code = "import mondegreen.labels.gold, mondegreen.labels.guards, mondegreen.loop.case_labels"
    assert printed_and_loaded(code, "torch", "transformers", "scipy", "ollama", "httpx") == "[]"
