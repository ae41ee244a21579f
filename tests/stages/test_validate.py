"""The validate stage on hypotheses that stand for two models."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from mondegreen.errors import RegistryError, UsageError
from mondegreen.files import read_json, read_jsonl, write_json, write_jsonl
from mondegreen.labels.gold import Audit
from mondegreen.loop.alpha_ledger import open_ledger
from mondegreen.records import Hypothesis, RunInfo, TrainingHistory, Trial, Utterance
from mondegreen.scoring.planning import share
from mondegreen.scoring.verdict import Verdict
from mondegreen.speech.manifest import Report
from mondegreen.stages import validate

WORDS = "one two three four five six seven eight nine ten"


@pytest.fixture(autouse=True)
def logged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    monkeypatch.delenv("MONDEGREEN_DATABASE_URL", raising=False)
    Path("params.yaml").write_text("validate: {bootstrap_samples: 1000, permutations: 1000}\n")
    calls: list[Any] = []
    monkeypatch.setattr("mondegreen.registry.run_logs.log_verdict", lambda *arguments: calls.append(arguments))
    monkeypatch.setattr("mondegreen.registry.run_page.log_run_page", lambda *arguments: None)
    return calls


def build(reference: str = WORDS) -> None:
    rows = [
        Utterance(
            id=f"u{number:03}", path=f"data/u{number:03}.wav", sha256="0" * 64, duration=3.0, condition="clean",
            speaker="", recording=f"u{number:03}", reference=reference, split="test",
            domain="retention" if number >= 30 else "target",
        )
        for number in range(50)
    ]  # fmt: skip
    write_jsonl(Path("build/prepare/manifest.jsonl"), rows)
    for stage, model, target in (("transcribe", "base", "one two too"), ("evaluate", "tuned", WORDS)):
        heard = [
            Hypothesis(
                id=row.id, path=row.path, text=target if row.domain == "target" else WORDS, confidence=0.9,
                duration=3.0, words=[], nbest=[], model=model,
            )
            for row in rows
        ]  # fmt: skip
        write_jsonl(Path(f"build/{stage}/hypotheses.jsonl"), heard)
    run = RunInfo(
        run_id="abc", base="starter/model", base_digest="base", model_digest="tuned", method="lora", merge_weight=1.0,
        best_epoch=1, dev_wer=0.1, data={"branch": "main"},
    )  # fmt: skip
    write_json(Path("build/train/run.json"), run)
    history = TrainingHistory(epochs=[], sweep=[], left_out=[], notes=[])
    write_json(Path("build/train/history.json"), history)
    write_json(Path("build/label/audit.json"), Audit(labels={}, hypotheses_against_references={}))
    report = Report(files=50, usable=50, unit="recording", domains={}, left_out={}, problems=[])
    write_json(Path("build/prepare/report.json"), report)
    write_json(Path("build/trial/trial.json"), Trial(trial=False))


def test_it_writes_verdict_report_and_plots_and_logs_them(logged: list[Any]) -> None:
    build()
    validate.main()
    verdict = read_json(Path("build/validate/verdict.json"), Verdict)
    assert verdict.passed and verdict.unit == "recording"
    headline = json.loads(Path("build/validate/metrics.json").read_text())
    assert headline == {"outcome": "pass", **verdict.headline()} and (headline["wer"], headline["wer_before"]) == (
        0,
        0.8,
    )
    plot = Path("build/validate/plots/wer_by_slice.csv").read_text().splitlines()
    assert plot[0] == "slice,model,wer,bar"
    assert plot[1:3] == ['test,baseline,0.8,"all, baseline"', 'test,candidate,0.0,"all, candidate"']
    bins = [line.split(",") for line in Path("build/validate/plots/bootstrap.csv").read_text().splitlines()[1:]]
    assert sum(int(count) for _, count in bins) == 1000
    assert "0.8" in Path("build/validate/verdict.json").read_text()
    assert Path("build/validate/report.html").stat().st_size > 1000
    ((run_id, verdict_path, report_path, told),) = logged
    assert run_id == "abc" and told == verdict
    assert verdict_path.exists() and report_path.exists()


def test_the_same_inputs_give_the_same_bytes() -> None:
    build()
    written = []
    for _ in range(2):
        validate.main()
        files = sorted(path for path in Path("build/validate").rglob("*") if path.is_file())
        written.append([(path, path.read_bytes()) for path in files])
    assert written[0] == written[1]


def test_a_trial_compares_on_dev_and_spends_no_look() -> None:
    build()
    manifest, heard = Path("build/prepare/manifest.jsonl"), Path("build/evaluate/hypotheses.jsonl")
    rows = read_jsonl(manifest, Utterance)
    held_out = {row.id for row in rows[:10] + rows[40:]}  # of the target and of the retention set
    write_jsonl(manifest, [row.model_copy(update={"split": "dev"}) if row.id in held_out else row for row in rows])
    write_jsonl(heard, [row for row in read_jsonl(heard, Hypothesis) if row.id in held_out])
    write_json(Path("build/trial/trial.json"), Trial(trial=True))
    validate.main()
    verdict = Verdict.read(Path("build/validate/verdict.json"))
    assert (verdict.outcome, verdict.passed, verdict.look) == ("trial", False, None)
    assert verdict.utterances == 10 and set(verdict.slices) == {"dev", "dev/clean", "retention/dev"}
    assert verdict.interval and verdict.p_value and "On dev corpus WER 80.0 % -> 0.0 %" in verdict.reason
    assert "Trial: compared on the dev set" in Path("build/validate/report.html").read_text()
    assert not Path("var").exists()


def test_without_references_it_is_inconclusive_and_still_writes_everything() -> None:
    build(reference="")
    validate.main()
    verdict = read_json(Path("build/validate/verdict.json"), Verdict)
    assert verdict.outcome == "inconclusive" and "nothing can be judged" in verdict.reason
    assert Path("build/validate/plots/bootstrap.csv").read_text() == "improvement,samples\n"
    assert Path("build/validate/report.html").exists()


def test_a_missing_hypothesis_stops_it(logged: list[Any]) -> None:
    build()
    path = Path("build/evaluate/hypotheses.jsonl")
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    with pytest.raises(UsageError, match="no hypothesis: u049"):
        validate.main()
    assert not logged and not Path("build/validate/verdict.json").exists()


def test_hypotheses_of_another_model_are_refused() -> None:
    build()
    run = read_json(Path("build/train/run.json"), RunInfo)
    write_json(Path("build/train/run.json"), run.model_copy(update={"base_digest": "other"}))
    with pytest.raises(UsageError, match="--force transcribe"):
        validate.main()


def tune(model: str) -> None:
    """Another candidate, which hears the same."""
    for name, field in (("evaluate/hypotheses.jsonl", "model"), ("train/run.json", "model_digest")):
        path = Path("build") / name
        path.write_text(re.sub(rf'"{field}":\s*"[^"]*"', f'"{field}":"{model}"', path.read_text()))


def test_each_candidate_is_a_look_that_is_logged_and_a_rerun_is_not(logged: list[Any]) -> None:
    build()
    looks = []
    for model in ("tuned", "second", "tuned"):
        tune(model)
        validate.main()
        looks.append(read_json(Path("build/validate/verdict.json"), Verdict).look)
    assert [look and (look.number, look.before) for look in looks] == [(1, 0), (2, 1), (1, 0)]
    numbers = [verdict.numbers() for _, _, _, verdict in logged]
    assert [found["look"] for found in numbers] == [1, 2, 1]
    assert numbers[1]["look_alpha"] == share(0.05, 2) and Path("var/mondegreen.db").is_file()


def test_six_trials_between_two_looks_leave_the_ledger_as_it_was() -> None:
    build()
    validate.main()
    with open_ledger() as ledger:
        before = ledger.history()
    manifest, heard = Path("build/prepare/manifest.jsonl"), Path("build/evaluate/hypotheses.jsonl")
    test = read_jsonl(manifest, Utterance)
    write_jsonl(manifest, [row.model_copy(update={"split": "dev"}) for row in test])
    write_json(Path("build/trial/trial.json"), Trial(trial=True))
    for number in range(6):
        tune(f"try{number}")
        validate.main()
        assert Verdict.read(Path("build/validate/verdict.json")).look is None
    with open_ledger() as ledger:
        assert ledger.history() == before and len(before) == 1
    write_jsonl(manifest, test)
    write_json(Path("build/trial/trial.json"), Trial(trial=False))
    validate.main()
    look = Verdict.read(Path("build/validate/verdict.json")).look
    assert look and look.number == 2 and read_jsonl(heard, Hypothesis)[0].model == "try5"


def test_what_is_refused_is_no_look() -> None:
    build()
    tune("second")
    run = read_json(Path("build/train/run.json"), RunInfo)
    write_json(Path("build/train/run.json"), run.model_copy(update={"model_digest": "third"}))
    with pytest.raises(UsageError, match="--force evaluate"):
        validate.main()
    assert not Path("var").exists()


def test_the_written_verdict_verifies_and_an_edited_one_does_not() -> None:
    build()
    validate.main()
    path = Path("build/validate/verdict.json")
    assert read_json(path, Verdict).verify()
    path.write_text(re.sub(r'"clusters": \d+', '"clusters": 31', path.read_text(), count=1))
    with pytest.raises(RegistryError, match="dvc repro --force validate"):
        read_json(path, Verdict).verify()


def test_references_of_a_machine_stop_it() -> None:
    build()
    path = Path("build/prepare/manifest.jsonl")
    path.write_text(path.read_text().replace('"reference_source":"human"', '"reference_source":"llm"', 2))
    with pytest.raises(UsageError, match="2 of 50 references that would judge were written by a machine"):
        validate.main()
    Path("params.yaml").write_text("validate: {bootstrap_samples: 1000, allow_llm_references: true}\n")
    validate.main()
    assert "JUDGED BY 2 REFERENCE(S)" in read_json(Path("build/validate/verdict.json"), Verdict).reason
