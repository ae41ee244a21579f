"""What metrics, verdicts, trials, audits of labels and evaluations of the error detector write into MLflow's runs."""

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

import mlflow
from mlflow.entities import Metric, RunTag
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID, MLFLOW_RUN_NOTE

from mondegreen.records import Metrics
from mondegreen.registry.mlflow_store import answered, connect, experiment_id
from mondegreen.registry.runs import LINEAGE, lineage, log_metrics, run_tags
from mondegreen.scoring.verdict import Verdict

REPORT = "validate/report.html"  # among the artifacts of a run that was judged
ROUND_TAG = "mondegreen.round"
TRIAL_REFERENCES_TAG, TRIAL_BASELINE_TAG = "trial.references", "trial.baseline"


def log_metrics_file(run_id: str, prefix: str, metrics: Metrics) -> None:
    """Logs `baseline/test/clean/wer`, … for every slice of a metrics.json, as rates from 0 (not percent)."""
    values: dict[str, float] = {}
    for name, found in metrics.slices.items():
        values[f"{prefix}/{name}/wer"] = found.wer.rate
        values[f"{prefix}/{name}/cer"] = found.cer.rate
    log_metrics(run_id, values)


@answered()
def log_verdict(run_id: str, file: Path, report: Path, verdict: Verdict) -> None:
    """Logs the headline as `wer`, `p_value`, …, all numbers as `verdict/<name>` or `trial/<name>`, and the two files.

    The tag `verdict` says how a candidate was judged. A trial judges nobody: it has the tags `trial.references` and
    `trial.baseline`, which say what its numbers can be compared with.

    Args:
        run_id: the run of run.json.
        file: build/validate/verdict.json.
        report: build/validate/report.html.
        verdict: what the file holds.
    """
    kind = "trial" if verdict.outcome == "trial" else "verdict"
    numbers = verdict.headline() | {f"{kind}/{name}": value for name, value in verdict.numbers().items()}
    client, run_id = log_metrics(run_id, numbers)
    for path in (file, report):
        client.log_artifact(run_id, str(path), "trial" if kind == "trial" else "validate")
    tags: dict[str, str] = {"verdict": verdict.outcome}
    if kind == "trial":
        tags = {TRIAL_REFERENCES_TAG: verdict.reference_digest, TRIAL_BASELINE_TAG: verdict.baseline_model}
    client.log_batch(run_id, tags=[RunTag(name, value) for name, value in tags.items()])


@answered()
def log_label_audit(run_id: str, audit: Path, metrics: Mapping[str, float]) -> None:
    """Logs how true a language model's labels were as `label/<name>`, and the file, which names who wrote them.

    Args:
        run_id: the run of run.json.
        audit: build/label/audit.json.
        metrics: name to number; without any, no language model was asked and nothing is logged.
    """
    if not metrics:
        return
    client, run_id = log_metrics(run_id, {f"label/{name}": value for name, value in metrics.items()})
    client.log_artifact(run_id, str(audit), "label")


@answered()
def log_detector_run(
    model: str, metrics: Mapping[str, float], params: Mapping[str, str], files: Mapping[str, str]
) -> str:
    """Logs one evaluation of the error detector and returns the id of its run, tagged `mondegreen.kind` = "detector".

    Args:
        model: digest of the model whose transcripts were scored.
        metrics: name to number.
        params: name to value.
        files: name of an artifact to its text.
    """
    client = connect()
    made_of = lineage()
    tags = run_tags("detector", made_of) | {"model.digest": model}
    run_id = str(client.create_run(experiment_id(client), tags=tags, run_name=f"detector {model[:12]}").info.run_id)
    with mlflow.start_run(run_id=run_id):
        mlflow.log_metrics(dict(metrics))
        mlflow.log_params(dict(params))
        mlflow.log_dict(made_of, LINEAGE)
        for name, text in files.items():
            mlflow.log_text(text, f"detector/{name}")
    return run_id


@answered()
def log_round(number: int, began: datetime, told: str, completed: bool, candidate: str = "") -> str:
    """Logs a round as a run of its own, above that of its candidate, and returns its id; again, it is the same run.

    Args:
        number: of the round's job.
        began: when the round was asked for: another case store may have a round of the same number.
        told: how it ended.
        completed: False: it failed.
        candidate: id of the candidate's run, whose headline the round's run repeats; "" without one.
    """
    client, start = connect(), round(began.timestamp() * 1000)
    query = f"tags.`{ROUND_TAG}` = '{number}' and attributes.start_time = {start}"
    found = client.search_runs([experiment_id(client)], query, max_results=1)
    made_of = lineage()
    run = found[0] if found else client.create_run(
        experiment_id(client), start, {**run_tags("round", made_of), ROUND_TAG: str(number)}, f"round {number}"
    )  # fmt: skip
    own = str(run.info.run_id)
    client.log_dict(own, made_of, LINEAGE)
    client.set_tag(own, MLFLOW_RUN_NOTE, told)
    if candidate:
        client.set_tag(candidate, MLFLOW_PARENT_RUN_ID, own)
        numbers = client.get_run(candidate).data.metrics
        client.log_batch(own, metrics=[Metric(name, at, 0, 0) for name, at in numbers.items() if "/" not in name])
    client.set_terminated(own, "FINISHED" if completed else "FAILED")
    return own
