"""Versions in another home: a package is sent first, then the version is made, with its number and all its tags."""

import json
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import LoggedModel, Metric
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import MLFLOW_MODEL_VERSIONS

from mondegreen.errors import RegistryError
from mondegreen.registry.aliases import Registry, fetching
from mondegreen.registry.mlflow_store import experiment_id
from mondegreen.registry.moving_runs import Names, renamed
from mondegreen.registry.package import FILES_TAG, PRUNED_TAG, Checksums, checksums, differences, from_tag
from mondegreen.registry.record import PROBLEM, facts
from mondegreen.registry.runs import MOVED_FROM
from mondegreen.registry.versions import NUMBER_TAG, REGISTERED_TAG

USED_UP = "mondegreen.move.numbers"  # on the registered model: the last number that was given away
_LOGGED = re.compile(r"models:/(m-[0-9a-f]{32})")


def make_models(source: Registry, target: MlflowClient, key: str, names: Names) -> dict[int, str]:
    """A logged model for each version, empty until `send_package`: version to its ID. `names` learns them.

    Args:
        key: of the move.
    """
    experiment, found = experiment_id(target), {}
    for version in source.versions()[::-1]:
        number, before = int(version.version), logged_model(source.client, version)
        there = target.search_logged_models([experiment], f"tags.`{MOVED_FROM}` = '{key}/{number}'")
        model = there[0] if there else _make_model(target, experiment, version, before, f"{key}/{number}", names)
        found[number] = model.model_id
        if before:
            names[before.model_id] = model.model_id
    return found


def logged_model(client: MlflowClient, version: ModelVersion) -> LoggedModel | None:
    """The logged model that a version was made of; older versions have none."""
    given = _LOGGED.match(version.source or "")
    try:
        return client.get_logged_model(given[1]) if given else None
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return None
        raise


def _make_model(
    target: MlflowClient, experiment: str, version: ModelVersion, before: LoggedModel | None, origin: str, names: Names
) -> LoggedModel:
    run = names.get(version.run_id or "")
    if before is None:
        return target.create_logged_model(experiment, "model", source_run_id=run, tags={MOVED_FROM: origin})
    tags = {name: renamed(str(value), names) for name, value in before.tags.items() if name != MLFLOW_MODEL_VERSIONS}
    return target.create_logged_model(
        experiment, before.name, run, tags | {MOVED_FROM: origin}, dict(before.params), before.model_type
    )


def send_package(source: Registry, target: MlflowClient, version: ModelVersion, model: str, names: Names) -> None:
    """The files of a version, which must be whole, and the metrics of its model.

    Raises:
        RegistryError: they are damaged, and so is their backup; or they cannot be sent.
    """
    number, what = int(version.version), f"{source.name} version {version.version}"
    if not version.tags.get(PRUNED_TAG):
        with whole_package(source, version) as package, fetching(what, model):
            target.log_model_artifacts(model, str(package))
    before = logged_model(source.client, version)
    run = names.get(version.run_id or "")
    known = {(one.key, one.step, one.dataset_name) for one in target.get_logged_model(model).metrics or []}
    points = [
        Metric(one.key, one.value, one.timestamp, one.step, model, one.dataset_name, one.dataset_digest)
        for one in (before.metrics if before else None) or []
        if (one.key, one.step, one.dataset_name) not in known
    ]
    if run and points:
        target.log_batch(run, metrics=points)
    target.finalize_logged_model(model, "READY")
    forget(source, number)


@contextmanager
def whole_package(source: Registry, version: ModelVersion) -> Iterator[Path]:
    """The folder of a version's files as they were registered: its backup, where they are damaged."""
    number, recorded = int(version.version), from_tag(version.tags.get(FILES_TAG, ""))
    package = source.fetch(number)
    wrong = differences(package, recorded) if recorded else [] if package.is_dir() else ["they are missing"]
    if not wrong:
        yield package
    elif recorded and source.backups.holds(number, recorded):
        yield source.backups.package(number)
    else:
        raise RegistryError(
            f"The files of {source.name} version {number} are not those that were registered: {'; '.join(wrong)}.",
            f"Put them back, or `mondegreen models delete {number}`; then run the move again, which goes on from here.",
        )


def make_version(source: Registry, target: MlflowClient, version: ModelVersion, model: str, names: Names) -> None:
    """The version itself, in one call, so that it is there with its number and its tags or not at all.

    Numbers that the other home would give before it, those of deleted versions, are used up on the way.

    Raises:
        RegistryError: the number was given already.
    """
    number, name = int(version.version), source.name
    known = {key: renamed(value, names) for key, value in _tags(source, version, names).items()}
    registered = datetime.fromtimestamp(version.creation_timestamp / 1000, UTC).isoformat()
    tags = {REGISTERED_TAG: registered} | known | {NUMBER_TAG: str(number)}
    run, text = names.get(version.run_id or ""), renamed(version.description or "", names)
    made, skipped = 0, False
    while made < number:
        skipped = made > 0
        found = target.create_model_version(name, f"models:/{model}", run, tags, description=text, model_id=model)
        made = int(found.version)
        if made != number:
            target.delete_model_version(name, found.version)
    if made > number:
        raise RegistryError(
            f"The other home gives number {made} next, so {name} cannot have its version {number} there.",
            "Somebody else registers there: end that, delete the model there and move again.",
        )
    if skipped:
        said = [{"name": name, "version": str(number)}]
        target.set_logged_model_tags(model, {MLFLOW_MODEL_VERSIONS: json.dumps(said)})


def _tags(source: Registry, version: ModelVersion, names: Names) -> dict[str, str]:
    """The tags of a version; all that is known of it where its run, and so its record, stays behind."""
    known = facts(source, version)
    return dict(version.tags) if version.run_id in names or PROBLEM in known else known


def use_numbers_up(source: Registry, target: MlflowClient, model: str, there: list[ModelVersion]) -> None:
    """Gives away the numbers of deleted versions that came after the last one: the ledger names them."""
    name, made = source.name, max(int(version.version) for version in there)
    last = max((entry.version or 0 for entry in source.ledger.everything()), default=0)
    if made >= last or USED_UP in target.get_registered_model(name).tags:
        return
    while made < last:
        found = target.create_model_version(name, f"models:/{model}", tags={NUMBER_TAG: "0"}, model_id=model)
        made = int(found.version)
        target.delete_model_version(name, found.version)
    said = [{"name": name, "version": str(max(int(version.version) for version in there))}]
    target.set_logged_model_tags(model, {MLFLOW_MODEL_VERSIONS: json.dumps(said)})
    target.set_registered_model_tag(name, USED_UP, str(last))


def used_up(target: MlflowClient, name: str, versions: list[ModelVersion]) -> set[int]:
    """The versions that are there; deletes what a killed move made only to use a number up.

    Raises:
        RegistryError: somebody else has registered a version there meanwhile.
    """
    found = set()
    for version in versions:
        if (wanted := version.tags.get(NUMBER_TAG)) is None:
            raise RegistryError(
                f"Somebody registered {name} version {version.version} there before the move was over.",
                "Delete that version there, then run the move again.",
            )
        if wanted == str(version.version):
            found.add(int(version.version))
        else:
            target.delete_model_version(name, version.version)
    return found


def recorded_files(source: Registry, version: ModelVersion) -> Checksums:
    """The checksums that were recorded of a version, or what it has now where none were."""
    if recorded := from_tag(version.tags.get(FILES_TAG, "")):
        return recorded
    return checksums(source.fetch(int(version.version)))


def forget(registry: Registry, number: int) -> None:
    """Removes what was downloaded of a version: a registry of many does not fit a scratch folder."""
    if number in registry.fetched:
        registry.fetched.pop(number)
        shutil.rmtree(registry.scratch / str(number), ignore_errors=True)
