"""The one place that moves stages and aliases of the model registry, always together."""

import logging
import warnings
from pathlib import Path
from typing import Protocol

import mlflow
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion

from mondegreen.errors import RegistryError
from mondegreen.files import lock
from mondegreen.records import Outcome, RegisteredVersion, RegressionResults
from mondegreen.registry.packaging import log_model
from mondegreen.registry.store import connect, lock_path
from mondegreen.registry.tracking import resume_run

CHAMPION, CHALLENGER, PREVIOUS = "champion", "challenger", "previous"
DIGEST_TAG = "digest"
_log = logging.getLogger(__name__)


class Judgement(Protocol):
    """What the registry needs of a verdict."""

    @property
    def outcome(self) -> Outcome: ...


def register(
    model_name: str,
    run_id: str,
    model_folder: Path,
    *,
    digest: str,
    verdict: Judgement,
    results: RegressionResults,
    promote: bool,
    card: str = "",
    tags: dict[str, str] | None = None,
) -> RegisteredVersion:
    """Registers a candidate once and gives it its stage and alias.

    Staging/@challenger, or Production/@champion when `promote` is set, the verdict is `pass` and the regression
    suites passed; nothing else promotes. A rerun finds the version that it made and finishes what was left undone.

    Args:
        run_id: the run of run.json.
        model_folder: the merged model.
        digest: `model_digest(model_folder)`.
        card: Markdown; becomes the version's description.
        tags: more tags of the version: p-value, WER before and after, data hash, commit.

    Raises:
        RegistryError: the regression results are of another model.
    """
    if results.model != digest:
        raise RegistryError(
            f"The regression results are of model {results.model[:12]}, the candidate is {digest[:12]}.",
            "Run `dvc repro` to test the model that was trained last.",
        )
    client = connect()
    with lock(lock_path("registry")), resume_run(run_id) as own_run:
        version = _find_version(client, model_name, own_run, digest)
        if version is None:
            # The version comes with its digest, so that a rerun after a crash finds it.
            source = log_model(model_folder, card, {DIGEST_TAG: digest})
            version = mlflow.register_model(source, model_name, tags={DIGEST_TAG: digest, "run": own_run})
        # Also on a rerun: the verdict on the same weights may be a new one.
        client.update_model_version(model_name, version.version, description=card)
        outcomes = {"outcome": verdict.outcome, "regression": "pass" if results.passed else "fail"}
        for key, value in ((tags or {}) | outcomes).items():
            client.set_model_version_tag(model_name, version.version, key, value)
        if promote and verdict.outcome == "pass" and results.passed:
            stage, alias = _promote(client, model_name, int(version.version))
        else:
            stage, alias = _stage(client, model_name, int(version.version))
        return RegisteredVersion(
            name=model_name,
            version=int(version.version),
            stage=stage,
            alias=alias,
            outcome=verdict.outcome,
            run_id=own_run,
            digest=digest,
            uri=f"models:/{model_name}/{version.version}",
        )


def holder(client: MlflowClient, model_name: str, alias: str) -> int | None:
    """The version that holds an alias, None when nobody does."""
    model = client.get_registered_model(model_name)
    found = {str(name): int(version) for name, version in model.aliases.items()}
    return found.get(alias)


def _find_version(client: MlflowClient, model_name: str, run_id: str, digest: str) -> ModelVersion | None:
    """The version that an earlier try of this run made of the same weights."""
    for version in client.search_model_versions(f"name = '{model_name}' and run_id = '{run_id}'"):
        if version.tags.get(DIGEST_TAG) == digest:
            return version
    return None


def _stage(client: MlflowClient, model_name: str, version: int) -> tuple[str, str]:
    """Staging/@challenger; the challenger before it is archived. The champion stays what it is."""
    if holder(client, model_name, CHAMPION) == version:
        _log.warning("%s version %s is in production already and stays there.", model_name, version)
        return "Production", CHAMPION
    client.set_registered_model_alias(model_name, CHALLENGER, str(version))
    _move(client, model_name, version, "Staging")
    _drop(client, model_name, PREVIOUS, version)
    return "Staging", CHALLENGER


def _promote(client: MlflowClient, model_name: str, version: int) -> tuple[str, str]:
    """Production/@champion; the champion before it becomes Archived/@previous.

    Every step can be repeated, and the switch itself is one write: after a crash between any two of them there is one
    champion, and the same call finishes the rest.
    """
    former = holder(client, model_name, CHAMPION)
    if former not in (None, version):
        client.set_registered_model_alias(model_name, PREVIOUS, str(former))
    client.set_registered_model_alias(model_name, CHAMPION, str(version))
    _move(client, model_name, version, "Production")
    _drop(client, model_name, CHALLENGER, version)
    _drop(client, model_name, PREVIOUS, version)
    return "Production", CHAMPION


def _drop(client: MlflowClient, model_name: str, alias: str, version: int) -> None:
    """Takes an alias from a version that has moved on."""
    if holder(client, model_name, alias) == version:
        client.delete_registered_model_alias(model_name, alias)


def _move(client: MlflowClient, model_name: str, version: int, stage: str) -> None:
    """Moves a version to a stage and archives who was there."""
    with warnings.catch_warnings():
        # Deprecated for aliases, which move beside them; the UI's users still look for stages.
        warnings.simplefilter("ignore", FutureWarning)
        client.transition_model_version_stage(model_name, str(version), stage, archive_existing_versions=True)
