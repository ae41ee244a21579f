"""Runs in another home: MLflow gives a run a new ID there, so it is made with the tag that says which it had."""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

from mlflow import MlflowClient
from mlflow.entities import LoggedModelOutput, Metric, Param, Run, RunTag
from mlflow.utils.mlflow_tags import MLFLOW_USER

from mondegreen.errors import RegistryError
from mondegreen.registry.aliases import fetching, local_folder
from mondegreen.registry.mlflow_store import EXPERIMENT, PRODUCTION, ensured_experiment, registry_file
from mondegreen.registry.runs import MOVED_FROM, RESUMES, active_run

WHOLE = "mondegreen.moved"  # on a run that has everything that the one before had
_METRICS, _PARAMS = 1000, 100  # of one call
_ENDED = ("FINISHED", "FAILED", "KILLED")
_ID = re.compile(r"\b(?:m-)?[0-9a-f]{32}\b|#/experiments/\d+/")

Item = TypeVar("Item")
Names = dict[str, str]  # what runs, logged models and pages of experiments are called in the new home


def renamed(text: str, names: Mapping[str, str]) -> str:
    """A tag or a description with the IDs that the new home gave."""
    return _ID.sub(lambda found: names.get(found[0], found[0]), text)


def page(experiment: str) -> str:
    """How the address of a run's page in MLflow's UI begins, as descriptions have it."""
    return f"#/experiments/{experiment}/"


def runs_of(client: MlflowClient, experiment: str) -> list[Run]:
    """Every run of an experiment that is not deleted, oldest first."""
    found: list[Run] = []
    there, token = client.get_experiment_by_name(experiment), ""
    while there is not None:
        pages = client.search_runs([there.experiment_id], page_token=token or None, max_results=1000)
        found += pages
        if not (token := pages.token or ""):
            break
    return sorted(found, key=lambda run: (run.info.start_time, run.info.run_id))


def runs_to_move(client: MlflowClient, named: Sequence[str]) -> dict[str, list[Run]]:
    """The runs of our experiments, and of `named` those that are in others, which join the first of ours."""
    found = {experiment: runs_of(client, experiment) for experiment in (EXPERIMENT, PRODUCTION)}
    known = {run.info.run_id for runs in found.values() for run in runs}
    for run_id in dict.fromkeys(named):
        if run_id not in known and (run := active_run(client, run_id)):
            found[EXPERIMENT].append(run)
    return {experiment: runs for experiment, runs in found.items() if runs or experiment == EXPERIMENT}


def make_runs(source: MlflowClient, target: MlflowClient, runs: Mapping[str, Sequence[Run]]) -> Names:
    """Makes the runs that are not there yet, empty ones; how runs and experiments are called now."""
    names: Names = {}
    for experiment, ours in runs.items():
        number = ensured_experiment(target, experiment, registry_file())
        if before := source.get_experiment_by_name(experiment):
            names[page(before.experiment_id)] = page(number)
        for run in runs_of(target, experiment):
            if origin := run.data.tags.get(MOVED_FROM, ""):
                names[origin.partition(",")[0]] = run.info.run_id
        for run in ours:
            old = run.info.run_id
            if old not in names:
                origin = ",".join(filter(None, [old, run.data.tags.get(MOVED_FROM, "")]))
                user = {name: value for name, value in run.data.tags.items() if name == MLFLOW_USER}  # else it is ours
                tags = user | {MOVED_FROM: origin}
                made = target.create_run(number, start_time=run.info.start_time, tags=tags, run_name=run.info.run_name)
                names[old] = made.info.run_id
    return names


def fill_run(source: MlflowClient, target: MlflowClient, run: Run, names: Names) -> None:
    """Parameters, tags, metrics with their steps, datasets, models and files of a run; again, what is missing."""
    own = names[run.info.run_id]
    there = target.get_run(own)
    if there.data.tags.get(WHOLE) and not missing_of_run(run, there, names):
        return
    for params in _batches([Param(name, value) for name, value in run.data.params.items()], _PARAMS):
        target.log_batch(own, params=params)
    for tags in _batches([RunTag(name, value) for name, value in _tags(run, names).items()], _PARAMS):
        target.log_batch(own, tags=tags)
    history = [point for name in run.data.metrics for point in source.get_metric_history(run.info.run_id, name)]
    points = [Metric(point.key, point.value, point.timestamp, point.step) for point in history]
    for metrics in _batches(points, _METRICS):
        target.log_batch(own, metrics=metrics)
    if run.inputs and run.inputs.dataset_inputs:
        target.log_inputs(own, datasets=run.inputs.dataset_inputs)
    _add_models(target, run, own, names)
    _send_files(source, target, run, own)
    if run.info.status in _ENDED:
        target.set_terminated(own, run.info.status, run.info.end_time)
    target.set_tag(own, WHOLE, "whole")


def _add_models(target: MlflowClient, run: Run, own: str, names: Names) -> None:
    """The logged models that a run made, of those that came along."""
    known = target.get_run(own).outputs
    there = {one.model_id for one in known.model_outputs} if known else set()
    made = {one.model_id: one.step for one in (run.outputs.model_outputs if run.outputs else [])}
    models = [LoggedModelOutput(names[model], step) for model, step in made.items() if model in names]
    if new := [one for one in models if one.model_id not in there]:  # a server refuses an empty list
        target.log_outputs(own, new)


def missing_of_run(run: Run, other: Run, names: Names) -> list[str]:
    """What a moved run lacks or has otherwise, a phrase each."""
    wrong = [f"parameter {name}" for name, value in run.data.params.items() if other.data.params.get(name) != value]
    wrong += [f"tag {name}" for name, value in _tags(run, names).items() if other.data.tags.get(name) != value]
    numbers = other.data.metrics
    return wrong + [
        f"metric {name}"
        for name, value in run.data.metrics.items()
        if name not in numbers or (numbers[name] != value and value == value)  # NaN is no number, not even itself
    ]


def _tags(run: Run, names: Names) -> dict[str, str]:
    """The tags of a run in its new home. RESUMES stays: it names the run of a file, build/train/run.json."""
    found = run.data.tags
    return {
        name: value if name == RESUMES else renamed(value, names)
        for name, value in found.items()
        if name not in (MOVED_FROM, WHOLE)
    }


def _send_files(source: MlflowClient, target: MlflowClient, run: Run, own: str) -> None:
    what = f"run {run.info.run_name} ({run.info.run_id})"
    with TemporaryDirectory(prefix="mondegreen-") as scratch, fetching(what, run.info.artifact_uri):
        folder = local_folder(run.info.artifact_uri)
        if folder is None and source.list_artifacts(run.info.run_id):
            folder = Path(source.download_artifacts(run.info.run_id, "", scratch))
        if folder is None or not folder.is_dir():
            return
        wanted = {
            path.relative_to(folder).as_posix(): path.stat().st_size for path in folder.rglob("*") if path.is_file()
        }
        if wanted:
            target.log_artifacts(own, str(folder))
        lost = [name for name, size in wanted.items() if dict(listed(target, own)).get(name) != size] if wanted else []
    if lost:
        raise RegistryError(f"{lost[0]} of {what} did not arrive whole.", "Run it again: it goes on from here.")


def listed(client: MlflowClient, run_id: str, folder: str | None = None) -> Iterator[tuple[str, int]]:
    """Every file of a run and its size."""
    for entry in client.list_artifacts(run_id, folder):
        if entry.is_dir:
            yield from listed(client, run_id, entry.path)
        else:
            yield entry.path, entry.file_size or 0


def _batches(items: "Sequence[Item]", most: int) -> "Iterator[Sequence[Item]]":
    return (items[start : start + most] for start in range(0, len(items), most))
