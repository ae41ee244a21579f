"""Is the candidate better, and has it forgotten nothing? The verdict, its report and its plots; in a trial, dev's."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

from mondegreen.config import load_params
from mondegreen.errors import UsageError
from mondegreen.files import read_json, read_jsonl, write_json, write_text
from mondegreen.labels.gold import Audit
from mondegreen.loop.alpha_ledger import judge, open_ledger
from mondegreen.progress import run_stage
from mondegreen.records import Hypothesis, RunInfo, TrainingHistory, Trial, Utterance
from mondegreen.scoring.decision import try_out
from mondegreen.scoring.paired_sets import PairedTestSets, pair_test_sets
from mondegreen.speech.manifest import Report

if TYPE_CHECKING:
    from mondegreen.reports.outputs import StageOutputs

OUTPUT, AUDIT = Path("build/validate"), Path("build/label/audit.json")


def main() -> None:
    from mondegreen.registry.run_logs import log_label_audit, log_verdict
    from mondegreen.registry.run_page import log_run_page
    from mondegreen.reports.outputs import StageOutputs

    params = load_params()
    utterances = read_jsonl(Path("build/prepare/manifest.jsonl"), Utterance)
    baseline = read_jsonl(Path("build/transcribe/hypotheses.jsonl"), Hypothesis)
    candidate = read_jsonl(Path("build/evaluate/hypotheses.jsonl"), Hypothesis)
    candidate_run = read_json(Path("build/train/run.json"), RunInfo)
    trial = read_json(Path("build/trial/trial.json"), Trial).trial
    sets = pair_test_sets(utterances, baseline, candidate, params, trial)
    _check_models(sets, candidate_run)
    if trial:
        verdict = try_out(sets, params)
    else:
        with open_ledger() as ledger:
            verdict = judge(sets, params, ledger)
    label_audit = read_json(AUDIT, Audit)
    write_json(OUTPUT / "verdict.json", verdict)
    headline = {"outcome": verdict.outcome, **verdict.headline()}
    write_text(OUTPUT / "metrics.json", json.dumps(headline, indent=2) + "\n")
    outputs = StageOutputs(
        verdict=verdict,
        sets=sets,
        params=params,
        run=candidate_run,
        history=read_json(Path("build/train/history.json"), TrainingHistory),
        audit=label_audit.model_dump(mode="json"),
        problems=tuple(read_json(Path("build/prepare/report.json"), Report).problems),
    )
    report_path = _write_report(outputs)
    log_verdict(candidate_run.run_id, OUTPUT / "verdict.json", report_path, verdict)
    log_run_page(candidate_run.run_id, verdict, sets, utterances)
    if llm := label_audit.llm:
        log_label_audit(candidate_run.run_id, AUDIT, llm.numbers())


def _write_report(outputs: "StageOutputs") -> Path:
    """The page, the same in Markdown, and the plots; where the page is."""
    from mondegreen.reports.validation import find, render_markdown, write_page, write_plots

    page, found = OUTPUT / "report.html", find(outputs)
    write_page(page, found)
    write_text(OUTPUT / "report.md", render_markdown(found))
    write_plots(OUTPUT / "plots", found)
    return page


def _check_models(sets: PairedTestSets, candidate_run: RunInfo) -> None:
    """The hypotheses must be of the models that the run names: a folder's weights may change under its name."""
    pairs = (
        ("transcribe", sets.baseline_model, candidate_run.base_digest),
        ("evaluate", sets.candidate_model, candidate_run.model_digest),
    )
    for stage, transcribing, named in pairs:
        if transcribing != named:
            raise UsageError(
                f"build/{stage}/hypotheses.jsonl is of model {transcribing[:12]}, the run is about {named[:12]}.",
                f"The weights changed since then: run `dvc repro --force {stage}`, then `dvc repro`.",
            )


if __name__ == "__main__":
    run_stage(main)
