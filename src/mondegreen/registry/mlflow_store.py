"""Where MLflow keeps runs and models, and the one way to connect to it.

One candidate is one MLflow run: opening it, resuming it, and what the stages write into it.

An evaluation of the error detector is an MLflow run of its own kind.
"""

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import mlflow
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, Run, RunTag
from mlflow.exceptions import MlflowException

from mondegreen.config import Params, load_params
from mondegreen.files import lock, write_text
from mondegreen.git import EXPERIMENT_TAG, experiment_name, flatten_params, lineage_tags, run_name
from mondegreen.records import Metrics

# Set before mlflow is imported: tracking experiments on this machine must not report to another one.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")


from mondegreen.errors import RegistryError
from mondegreen.registry.location import lock_path, registry_file, tracking_root, tracking_uri

__all__ = ["EXPERIMENT", "connect", "experiment_id", "lock_path", "tracking_root", "tracking_uri"]
EXPERIMENT = "mondegreen"


class RegistryAwayError(RegistryError):
    """MLflow cannot be used just now, or not at all: its database is locked, damaged or gone."""


def connect() -> MlflowClient:
    """A client of `tracking_uri()`, whose database and experiment exist; also makes it the process's default."""
    uri = tracking_uri()
    mlflow.set_tracking_uri(uri)
    _initialise(uri)
    return MlflowClient(uri)


def experiment_id(client: MlflowClient) -> str:
    """The id of the experiment that `connect` made."""
    experiment = client.get_experiment_by_name(EXPERIMENT)
    if experiment is None:
        raise RegistryError(
            f"MLflow has no experiment {EXPERIMENT}.", "Restore it in the MLflow UI, or rename it back."
        )
    return str(experiment.experiment_id)


@cache
def _initialise(uri: str) -> None:
    """Creates what is missing. Under a lock: two processes that create the tables at once both crash."""
    database = registry_file()
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.WARNING)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    try:
        with lock(lock_path("initialise")):
            client = MlflowClient(uri)
            if client.get_experiment_by_name(EXPERIMENT) is None:
                artifacts = str(database.parent / "artifacts") if database else None
                client.create_experiment(EXPERIMENT, artifact_location=artifacts)
    except MlflowException as error:
        raise RegistryAwayError(
            f"MLflow at {uri} cannot be used: {error.message}",
            "Check MLFLOW_TRACKING_URI; for a database of an older MLflow run `mlflow db upgrade URI`.",
        ) from error


__all__ = [
    "connect",
    "lineage_tags",
    "log_history",
    "log_label_audit",
    "log_metrics_file",
    "log_verdict",
    "own_run",
    "resume_run",
    "start_run",
    "tracking_uri",
]
_RESUMES = "mondegreen.resumes"  # the run of run.json, on a run that stands in for it
_BATCH = 1000  # MLflow takes so many metrics in one call


@contextmanager
def start_run(params: Params, tags: Mapping[str, str] | None = None, claim: Path | None = None) -> Iterator[str]:
    """Opens the candidate's run, named after the DVC experiment, with its params and lineage; yields its id.

    Args:
        tags: more tags.
        claim: names the run while it is open. A killed process leaves it behind, and the next call goes on in that run
            when params and tags are the same, or else closes it as KILLED.
    """
    client = connect()
    wanted = lineage_tags() | dict(tags or {})
    run_id = _unfinished(client, claim, params, wanted) or _create_run(client, params, wanted).info.run_id
    if claim:
        write_text(claim, run_id)
    try:
        with _active(run_id):
            yield run_id
    finally:
        if claim:
            claim.unlink(missing_ok=True)


@contextmanager
def resume_run(run_id: str) -> Iterator[str]:
    """Goes on in the run of run.json; yields the id of the run that is written to (see `own_run`)."""
    own = own_run(run_id)
    with _active(own):
        yield own


def own_run(run_id: str) -> str:
    """The run that this `dvc repro` or DVC experiment may write to, given the one in run.json.

    Usually the same. Another one when this database has no such run (DVC's run cache gave back run.json, for example
    in a fresh clone) or when it belongs to another DVC experiment (this one changed only later stages): both would
    otherwise crash or overwrite the other's verdict. It is made once and found again by its tags.
    """
    client = connect()
    experiment = experiment_name()
    original = _find(client, run_id)
    if original and (not experiment or original.data.tags.get(EXPERIMENT_TAG, "") == experiment):
        return run_id
    with lock(lock_path("runs")):
        query = f"tags.`{_RESUMES}` = '{run_id}' and tags.`{EXPERIMENT_TAG}` = '{experiment}'"
        for run in client.search_runs([experiment_id(client)], query, max_results=1):
            return str(run.info.run_id)
        tags = lineage_tags() | {_RESUMES: run_id}
        return str(_create_run(client, load_params(), tags, original).info.run_id)


def log_metrics_file(run_id: str, prefix: str, metrics: Metrics) -> None:
    """Logs `baseline/test/clean/wer`, … for every slice of a metrics.json, as rates from 0 (not percent)."""
    values: dict[str, float] = {}
    for name, found in metrics.slices.items():
        values[f"{prefix}/{name}/wer"] = found.wer.rate
        values[f"{prefix}/{name}/cer"] = found.cer.rate
    _log_metrics(run_id, values)


def log_history(run_id: str, history: Sequence[Mapping[str, float | int | None]]) -> None:
    """Logs learning curves as `train/<name>`.

    Args:
        run_id: the run of run.json.
        history: one mapping an epoch; "epoch" is the step.
    """
    client, run_id = connect(), own_run(run_id)
    points = [
        Metric(f"train/{name}", float(value), 0, int(row.get("epoch") or number))
        for number, row in enumerate(history, 1)
        for name, value in row.items()
        if name != "epoch" and isinstance(value, int | float)
    ]
    for start in range(0, len(points), _BATCH):
        client.log_batch(run_id, metrics=points[start : start + _BATCH])


def log_verdict(run_id: str, verdict: Path, report: Path, metrics: Mapping[str, float], outcome: str = "") -> None:
    """Logs the p-value, the interval and the like as `verdict/<name>`, and the two files.

    Args:
        run_id: the run of run.json.
        verdict: build/validate/verdict.json.
        report: build/validate/report.html.
        metrics: name to number.
        outcome: pass, fail or inconclusive; becomes the tag `verdict`.
    """
    client, run_id = connect(), own_run(run_id)
    _log_metrics(run_id, {f"verdict/{name}": value for name, value in metrics.items()})
    for path in (verdict, report):
        client.log_artifact(run_id, str(path), "validate")
    if outcome:
        client.set_tag(run_id, "verdict", outcome)


def log_label_audit(run_id: str, audit: Path, metrics: Mapping[str, float], tags: Mapping[str, str]) -> None:
    """Logs how true a language model's labels were as `label/<name>`, which model wrote them, and the file.

    Args:
        run_id: the run of run.json.
        audit: build/label/audit.json.
        metrics: name to number; without any, no language model was asked and nothing is logged.
        tags: llm.model, llm.digest, llm.prompt_version.
    """
    if not metrics:
        return
    client, run_id = connect(), own_run(run_id)
    _log_metrics(run_id, {f"label/{name}": value for name, value in metrics.items()})
    client.log_batch(run_id, tags=[RunTag(name, value) for name, value in tags.items()])
    client.log_artifact(run_id, str(audit), "label")


def _log_metrics(run_id: str, values: Mapping[str, float]) -> None:
    client, run_id = connect(), own_run(run_id)
    client.log_batch(run_id, metrics=[Metric(name, value, 0, 0) for name, value in values.items()])


@contextmanager
def _active(run_id: str) -> Iterator[None]:
    """The run is MLflow's active one; it ends as FINISHED, or as FAILED on an exception."""
    with mlflow.start_run(run_id=run_id):
        yield


def _unfinished(client: MlflowClient, claim: Path | None, params: Params, tags: Mapping[str, str]) -> str | None:
    """The run that a killed process left open, if it is the same candidate."""
    run = _find(client, claim.read_text(encoding="utf-8").strip()) if claim and claim.is_file() else None
    if run is None or run.info.status != "RUNNING":
        return None
    same = all(run.data.params.get(name) == value for name, value in flatten_params(params).items())
    if same and all(run.data.tags.get(name) == value for name, value in tags.items()):
        return str(run.info.run_id)
    client.set_terminated(run.info.run_id, "KILLED")
    return None


def _find(client: MlflowClient, run_id: str) -> Run | None:
    try:
        run = client.get_run(run_id)
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return None
        raise
    return run if run.info.lifecycle_stage == "active" else None


def _create_run(client: MlflowClient, params: Params, tags: dict[str, str], original: Run | None = None) -> Run:
    """A new run with tags, params and, when it stands in for another one, that one's last metrics."""
    run = client.create_run(experiment_id(client), tags=tags, run_name=run_name(tags))
    metrics = original.data.metrics if original else {}
    client.log_batch(
        run.info.run_id,
        metrics=[Metric(name, value, 0, 0) for name, value in metrics.items()],
        params=[Param(name, value) for name, value in flatten_params(params).items()],
        tags=[RunTag("mondegreen.kind", "candidate")],
    )
    return run


KIND = "detector"


def log_detector_run(
    model: str, metrics: Mapping[str, float], params: Mapping[str, str], files: Mapping[str, str]
) -> str:
    """Logs one evaluation and returns the id of its run, tagged `mondegreen.kind` = "detector".

    Args:
        model: digest of the model whose transcripts were scored.
        metrics: name to number.
        params: name to value.
        files: name of an artifact to its text.
    """
    client = connect()
    tags = lineage_tags() | {"model.digest": model}
    run = client.create_run(experiment_id(client), tags=tags, run_name=f"detector {model[:12]}")
    run_id = str(run.info.run_id)
    try:
        client.log_batch(
            run_id,
            metrics=[Metric(name, value, 0, 0) for name, value in metrics.items()],
            params=[Param(name, value) for name, value in params.items()],
            tags=[RunTag("mondegreen.kind", KIND)],
        )
        for name, text in files.items():
            client.log_text(run_id, text, f"detector/{name}")
    except BaseException:
        client.set_terminated(run_id, "FAILED")
        raise
    client.set_terminated(run_id, "FINISHED")
    return run_id
