"""A small verdict on made-up recordings: the candidate hears more, loses one word, and one transcript is markup."""

from pathlib import Path
from types import SimpleNamespace
from typing import Literal

import numpy as np
import pytest
import soundfile

from mondegreen.config import Params
from mondegreen.files import sha256_file, write_json, write_jsonl
from mondegreen.labels.gold import gold_labels, make_audit
from mondegreen.records import (
    Domain,
    Epoch,
    Hypothesis,
    Problem,
    RegressionResults,
    RunInfo,
    SuiteResult,
    SweepRow,
    TrainingHistory,
    Utterance,
)
from mondegreen.reports.outputs import StageOutputs
from mondegreen.scoring.decision import decide
from mondegreen.scoring.paired_sets import pair_test_sets
from mondegreen.speech.manifest import Report

MARKUP = "<script>document.title='pwned'</script> & <img src=x onerror=alert(1)>"
RUN = RunInfo(
    run_id="r1", base="starter/<i>model</i>", base_digest="old", model_digest="new", method="lora", merge_weight=0.5,
    best_epoch=2, dev_wer=0.2, data={"git.branch": "round/1", "git.commit": "abc123", "data.dvc": "abc.dir"},
)  # fmt: skip
HISTORY = TrainingHistory(
    epochs=[
        Epoch(epoch=1, loss=2.0, dev_wer=0.5, dev_cer=0.2, dev_heard=10, learning_rate=1e-3),
        Epoch(epoch=2, loss=1.0, dev_wer=0.4, dev_cer=0.1, dev_heard=10, learning_rate=1e-3),
    ],
    sweep=[
        SweepRow(weight=w, dev_wer=0.5 - w / 5, dev_cer=0.2, retention_wer=0.1 + w / 50,
                 retention_loss=w / 50, retention_loss_bound=w / 40, within_budget=True)
        for w in (0.0, 0.5, 1.0)
    ],
    left_out=[Problem(path="data/short.wav", reason="too_short", message="too short for its label")],
    notes=["one clip was left out"],
)  # fmt: skip
PROBLEMS = (Problem(path="data/broken.wav", reason="empty", message="<img src=x>"),)
SUITES = RegressionResults(
    passed=False, reason="not passed: digits", model="new",
    suites=[SuiteResult(name="digits", kind="critical", outcome="fail", reason="WER rose by 3.00 points.")],
)  # fmt: skip


def utterance(number: int, domain: Domain = "target") -> Utterance:
    return Utterance(
        id=f"{domain}{number:02}", path=f"data/{domain}/<b>{number}<b>.wav", sha256="0" * 64, duration=1.0 + number % 7,
        condition=("clean", "noisy")[number % 2], speaker=f"s{number}", recording=f"r{number}",
        reference="the quick brown fox jumps over it", split="test", domain=domain,
    )  # fmt: skip


def heard(spoken: Utterance, text: str, model: Literal["old", "new"]) -> Hypothesis:
    return Hypothesis(
        id=spoken.id, path=spoken.path, text=text, confidence=0.9, duration=1.0, words=[], nbest=[], model=model
    )


def write_tone(path: Path, seconds: float = 0.5) -> str:
    """A recording; its digest."""
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, 0.3 * np.sin(np.arange(int(16_000 * seconds)) / 20), 16_000)
    return sha256_file(path)


@pytest.fixture(scope="session")
def case(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """Two models and the verdict on them, with recordings of four utterances; one of them was changed since."""
    project = tmp_path_factory.mktemp("project")
    utterances = [utterance(n) for n in range(30)] + [utterance(n, "retention") for n in range(15)]
    for number in (0, 1, 10, 11):
        digest = write_tone(project / utterances[number].path)
        utterances[number] = utterances[number].model_copy(update={"sha256": digest if number < 11 else "f" * 64})
    old, new = [], []
    for spoken in utterances:
        bad = spoken.domain == "target" and int(spoken.id[-2:]) % 3 != 0
        old.append(heard(spoken, "the quick crown fox jumps" if bad else spoken.reference, "old"))
        new.append(heard(spoken, spoken.reference, "new"))
    new[0] = heard(utterances[0], "the quick brown fox jumps over", "new")
    new[1] = heard(utterances[1], f"{MARKUP} quick brown fox", "new")
    params = Params()
    sets = pair_test_sets(utterances, old, new, params)
    return SimpleNamespace(
        verdict=decide(sets, params), sets=sets, utterances=utterances, baseline=old, candidate=new, params=params,
        project=project,
    )  # fmt: skip


@pytest.fixture(scope="session")
def outputs(case: SimpleNamespace) -> StageOutputs:
    """What the stages wrote."""
    labels = gold_labels(case.utterances)
    return StageOutputs(
        verdict=case.verdict, sets=case.sets, params=case.params, run=RUN, history=HISTORY,
        audit=make_audit(case.utterances, labels, case.baseline, "spoken").model_dump(mode="json"), problems=PROBLEMS,
        regression=SUITES, project=case.project,
    )  # fmt: skip


@pytest.fixture
def build(case: SimpleNamespace, tmp_path: Path) -> Path:
    """The same in a build folder, as `dvc repro` leaves it."""
    folder = tmp_path / "build"
    write_jsonl(folder / "prepare/manifest.jsonl", case.utterances)
    write_jsonl(folder / "transcribe/hypotheses.jsonl", case.baseline)
    write_jsonl(folder / "evaluate/hypotheses.jsonl", case.candidate)
    report = Report(files=46, usable=45, unit="speaker", domains={}, left_out={}, problems=list(PROBLEMS))
    write_json(folder / "prepare/report.json", report)
    labels = gold_labels(case.utterances)
    write_json(folder / "label/audit.json", make_audit(case.utterances, labels, case.baseline, "spoken"))
    write_json(folder / "train/run.json", RUN)
    write_json(folder / "train/history.json", HISTORY)
    write_json(folder / "validate/verdict.json", case.verdict)
    write_json(folder / "regress/results.json", SUITES)
    return folder
