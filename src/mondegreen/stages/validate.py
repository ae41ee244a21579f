"""Is the candidate better, and has it forgotten nothing? The verdict, its report and its plots."""

from pathlib import Path

from mondegreen.config import Params, load_params
from mondegreen.errors import UsageError
from mondegreen.files import read_json, read_jsonl, write_json, write_text
from mondegreen.labels.gold import Audit
from mondegreen.loop.spending import judge, open_ledger
from mondegreen.loop.verdict import Confrontation, Verdict, confront
from mondegreen.records import Hypothesis, RunInfo, TrainingHistory, Utterance
from mondegreen.scoring.evidence import resample
from mondegreen.speech.manifest import Report
from mondegreen.stages import run

OUTPUT = Path("build/validate")


def main() -> None:
    from mondegreen.registry.tracking import log_verdict
    from mondegreen.reports.html import write_report

    params = load_params()
    utterances = read_jsonl(Path("build/prepare/manifest.jsonl"), Utterance)
    baseline = read_jsonl(Path("build/transcribe/hypotheses.jsonl"), Hypothesis)
    candidate = read_jsonl(Path("build/evaluate/hypotheses.jsonl"), Hypothesis)
    candidate_run = read_json(Path("build/train/run.json"), RunInfo)
    case = confront(utterances, baseline, candidate, params)
    _check_models(case, candidate_run)
    with open_ledger() as ledger:
        verdict = judge(case, params, ledger)
    verdict_path, report_path = OUTPUT / "verdict.json", OUTPUT / "report.html"
    write_json(verdict_path, verdict)
    write_text(OUTPUT / "plots/wer_by_slice.csv", _wer_by_slice(verdict))
    write_text(OUTPUT / "plots/bootstrap.csv", _bootstrap(case, params))
    write_report(
        report_path,
        verdict,
        utterances,
        baseline,
        candidate,
        params=params,
        history=[epoch.model_dump() for epoch in read_json(Path("build/train/history.json"), TrainingHistory).epochs],
        label_audit=read_json(Path("build/label/audit.json"), Audit),
        problems=read_json(Path("build/prepare/report.json"), Report).problems,
        lineage=candidate_run.data,
    )
    log_verdict(candidate_run.run_id, verdict_path, report_path, verdict.numbers(), verdict.outcome)


def _check_models(case: Confrontation, candidate_run: RunInfo) -> None:
    """The hypotheses must be of the models that the run names: a folder's weights may change under its name."""
    pairs = (
        ("transcribe", case.baseline_model, candidate_run.base_digest),
        ("evaluate", case.candidate_model, candidate_run.model_digest),
    )
    for stage, heard, named in pairs:
        if heard != named:
            raise UsageError(
                f"build/{stage}/hypotheses.jsonl is of model {heard[:12]}, the run is about {named[:12]}.",
                f"The weights changed since then: run `dvc repro --force {stage}`, then `dvc repro`.",
            )


def _wer_by_slice(verdict: Verdict) -> str:
    """CSV of slice, model and WER, for `dvc plots`."""
    rows = ["slice,model,wer"]
    for name, both in verdict.slices.items():
        rows += [f"{name},baseline,{both.baseline.wer.rate}", f"{name},candidate,{both.candidate.wer.rate}"]
    return "\n".join(rows) + "\n"


def _bootstrap(case: Confrontation, params: Params) -> str:
    """CSV of the histogram of resampled WER improvements; only its header when nothing has a reference."""
    bins = resample(case.test, params).histogram() if case.test.clusters else []
    return "".join(["improvement,samples\n", *(f"{middle},{count}\n" for middle, count in bins)])


if __name__ == "__main__":
    run(main)
