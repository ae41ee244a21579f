"""One candidate is one MLflow run: opened with what made it, and resumed by the later stages."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import mlflow
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, Run
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import (
    MLFLOW_GIT_BRANCH,
    MLFLOW_GIT_COMMIT,
    MLFLOW_SOURCE_NAME,
    MLFLOW_SOURCE_TYPE,
    MLFLOW_USER,
)

from mondegreen.config import Params, load_params
from mondegreen.files import lock, write_text
from mondegreen.git import git_or_nothing, login, revision_tags
from mondegreen.registry.forwarding import require_here
from mondegreen.registry.mlflow_store import (
    answered,
    connect,
    experiment_id,
    experiment_name,
    lock_path,
    tracking_root,
)

KIND_TAG, EXPERIMENT_TAG = "mondegreen.kind", "dvc.experiment"
LINEAGE_TAG, LINEAGE = "lineage", "lineage.json"  # digest of what made a run, and the artifact that says it
RESUMES = "mondegreen.resumes"  # the run of run.json, on a run that stands in for it
MOVED_FROM = "mondegreen.moved_from"  # the IDs that a run had in other homes of the registry, the last one first
# They decide when a round starts, who hears of it and where it is kept, not what comes out of it; and a webhook's
# address is private.
_NOT_OF_A_CANDIDATE = {
    "audit",
    "cases",
    "compute",
    "deploy",
    "detector",
    "gcp",
    "monitor",
    "register_",
    "retention_days",
    "review",
    "serve",
    "trigger",
}


@contextmanager
def start_run(
    params: Params, facts: Mapping[str, str] | None = None, claim: Path | None = None, watched: bool = False
) -> Iterator[str]:
    """Opens the candidate's run, named after the DVC experiment, with its params and lineage; yields its id.

    It ends as FINISHED, or as FAILED on an exception.

    Args:
        facts: more than the lineage that made the run, for its lineage.json.
        claim: names the run while it is open. A killed process leaves it behind, and the next call goes on in that run
            when params and lineage are the same, or else closes it as KILLED.
        watched: MLflow logs the load of processor, memory, disk and accelerator while the run is open.

    Raises:
        RegistryError: the registry cannot be used, or was moved away: nothing of the run would be found.
    """
    made_of = lineage() | dict(facts or {})
    with answered():
        client = connect()
        require_here(params.register_.model_name)
        run_id = _unfinished(client, claim, params, made_of) or _create_run(client, params, made_of)
        client.log_dict(run_id, made_of, LINEAGE)
    if claim:
        write_text(claim, run_id)
    try:
        with answered(), mlflow.start_run(run_id=run_id, log_system_metrics=watched):
            yield run_id
    finally:
        if claim:
            claim.unlink(missing_ok=True)


@contextmanager
def resume_run(run_id: str) -> Iterator[str]:
    """Goes on in the run of run.json; yields the id of the run that is written to (see `own_run`)."""
    own = own_run(run_id)
    with answered(), mlflow.start_run(run_id=own):
        yield own


@answered()
def own_run(run_id: str) -> str:
    """The run that this `dvc repro` or DVC experiment may write to, given the one in run.json.

    Usually the same, or what it became when the registry was moved. Another one when this database has no such run
    (DVC's run cache gave back run.json, for example in a fresh clone) or when it belongs to another DVC experiment
    (this one changed only later stages): both would otherwise crash or overwrite the other's verdict. It is made once
    and found again by its tags.
    """
    client = connect()
    experiment = experiment_name()
    original = active_run(client, run_id) or _moved(client, run_id)
    if original and (not experiment or original.data.tags.get(EXPERIMENT_TAG, "") == experiment):
        return str(original.info.run_id)
    with lock(lock_path("runs")):
        query = f"tags.`{RESUMES}` = '{run_id}' and tags.`{EXPERIMENT_TAG}` = '{experiment}'"
        for run in client.search_runs([experiment_id(client)], query, max_results=1):
            return str(run.info.run_id)
        return _create_run(client, load_params(), lineage(), original, {RESUMES: run_id})


def log_history(run_id: str, history: Sequence[Mapping[str, float | int | None]]) -> None:
    """Logs learning curves as `train/<name>`.

    Args:
        run_id: the run of run.json.
        history: one mapping an epoch; "epoch" is the step.
    """
    for number, row in enumerate(history, 1):
        values = {
            f"train/{name}": float(value)
            for name, value in row.items()
            if name != "epoch" and isinstance(value, int | float)
        }
        log_metrics(run_id, values, int(row.get("epoch") or number))


@answered()
def log_metrics(run_id: str, values: Mapping[str, float], step: int = 0) -> tuple[MlflowClient, str]:
    """Logs into the run that may be written to, whose client and id are returned.

    At the time of now: of two values of one step MLflow shows the later one.
    """
    client, own = connect(), own_run(run_id)
    mlflow.log_metrics(dict(values), step=step, run_id=own)
    return client, own


def _unfinished(client: MlflowClient, claim: Path | None, params: Params, made_of: Mapping[str, str]) -> str | None:
    """The run that a killed process left open, if it is the same candidate."""
    run = active_run(client, claim.read_text(encoding="utf-8").strip()) if claim and claim.is_file() else None
    if run is None or run.info.status != "RUNNING":
        return None
    same = run.data.tags.get(LINEAGE_TAG) == _digest(made_of)
    if same and flatten_params(params).items() <= run.data.params.items():
        return str(run.info.run_id)
    client.set_terminated(run.info.run_id, "KILLED")
    return None


def active_run(client: MlflowClient, run_id: str) -> Run | None:
    """A run that is there and was not deleted."""
    try:
        run = client.get_run(run_id)
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return None
        raise
    return run if run.info.lifecycle_stage == "active" else None


def _moved(client: MlflowClient, run_id: str) -> Run | None:
    """The run that had this ID before the registry was moved."""
    found = client.search_runs([experiment_id(client)], f"tags.`{MOVED_FROM}` LIKE '%{run_id}%'", max_results=1)
    return found[0] if found else None


def _create_run(
    client: MlflowClient,
    params: Params,
    made_of: Mapping[str, str],
    original: Run | None = None,
    tags: Mapping[str, str] | None = None,
) -> str:
    """A new run with tags, params and, when it stands in for another one, that one's last metrics."""
    place = "@".join(filter(None, (made_of["git.branch"], made_of["git.commit"][:7])))
    run = client.create_run(
        experiment_id(client),
        tags={**run_tags("candidate", made_of), **(tags or {})},
        run_name=made_of[EXPERIMENT_TAG] or place or "candidate",
    )
    metrics = original.data.metrics if original else {}
    client.log_batch(
        run.info.run_id,
        metrics=[Metric(name, value, 0, 0) for name, value in metrics.items()],
        params=[Param(name, value) for name, value in flatten_params(params).items()],
    )
    return str(run.info.run_id)


def run_tags(kind: str, made_of: Mapping[str, str]) -> dict[str, str]:
    """The few tags of a new run, and who and what made it where MLflow's pages look for that.

    Args:
        kind: candidate, detector or round.
        made_of: its lineage, of which a digest is a tag; the rest belongs into the artifact lineage.json.
    """
    return {
        KIND_TAG: kind,
        EXPERIMENT_TAG: made_of[EXPERIMENT_TAG],
        LINEAGE_TAG: _digest(made_of),
        MLFLOW_USER: login(),
        MLFLOW_SOURCE_NAME: git_or_nothing(Path(), "remote", "get-url", "origin") or tracking_root().name,
        MLFLOW_SOURCE_TYPE: "PROJECT",
        MLFLOW_GIT_BRANCH: made_of["git.branch"],
        MLFLOW_GIT_COMMIT: made_of["git.commit"],
    }


def _digest(made_of: Mapping[str, str]) -> str:
    return hashlib.sha256(json.dumps(dict(made_of), sort_keys=True).encode()).hexdigest()[:16]


def lineage(project: Path = Path()) -> dict[str, str]:
    """Which code, data and parameters make a run; "" for what is not known.

    Args:
        project: the folder with params.yaml and data.dvc; in a DVC experiment its temporary copy.
    """
    found = revision_tags(project)
    params = project / "params.yaml"
    try:
        installed = version("mondegreen")
    except PackageNotFoundError:
        installed = ""
    return found | {
        EXPERIMENT_TAG: experiment_name(),
        "params.sha256": params_digest(load_params(params)) if params.exists() else "",
        "mondegreen.version": installed,
    }


def params_digest(params: Params) -> str:
    """Digest of a candidate's values: comments and the order of params.yaml do not count."""
    return hashlib.sha256(params.model_dump_json(by_alias=True, exclude=_left_out(params)).encode()).hexdigest()


def flatten_params(params: Params) -> dict[str, str]:
    """`train.epochs`, `validate.alpha`, … to their values as text: the sections that decide what a candidate is."""

    def walk(prefix: str, value: Any) -> dict[str, str]:
        if not isinstance(value, dict):
            return {prefix: ",".join(map(str, value)) if isinstance(value, list) else str(value)}
        found: dict[str, str] = {}
        for key, inner in value.items():
            found |= walk(f"{prefix}.{key}" if prefix else key, inner)
        return found

    return walk("", params.model_dump(mode="json", by_alias=True, exclude=_left_out(params)))


def _left_out(params: Params) -> dict[str, Any]:
    """What to leave out. Of a language model: all when it is off, else where and how patiently it is asked.

    How much is heard at once changes no transcript, and how many recordings a page plays no verdict.
    """
    ways = {"url", "timeout", "retries", "concurrency"}
    label = set(type(params.label).model_fields) - {"llm"} if params.label.llm == "off" else ways
    alike = {"transcribe": {"batch_seconds"}, "validate_": {"report_clips"}}
    return {**dict.fromkeys(_NOT_OF_A_CANDIDATE, True), **alike, "label": label}
