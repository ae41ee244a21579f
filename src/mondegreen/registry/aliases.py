"""The one place that moves stages and aliases of the model registry: always together, under a lock, written down.

A move is an entry `intended` in the ledger, the aliases one by one, the stages that follow from the aliases, and an
entry `done`. The switch itself is one write, so that at every moment there is one champion; every step can be
repeated, and after a crash between any two of them `recovery.settle` finishes the move or takes it back.

Which version is champion, challenger and previous, read in milliseconds.

Importing MLflow alone takes seconds, so where the registry is an SQL database the three aliases are read from its table
(`registered_model_aliases`, the same since MLflow 2.3). A tracking server is asked through MLflow's client.
"""

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import Timeout
from pydantic import BaseModel, ConfigDict
from sqlalchemy import create_engine, make_url, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool

from mondegreen.db import Advisory, advisory_lock
from mondegreen.errors import RegistryError
from mondegreen.files import lock
from mondegreen.registry.ledger import ALIASES, CHALLENGER, CHAMPION, LOCK, PREVIOUS, Aliases, Entry, Ledger
from mondegreen.registry.mlflow_store import connect, lock_path, registry_file, tracking_uri

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

_QUERY = text("SELECT alias, version FROM registered_model_aliases WHERE name = :name")
# MLflow keeps the row of a deleted version, so that its number is not given again.
_STAGES = text("SELECT version, current_stage FROM model_versions WHERE name = :name")
_DELETED = "Deleted_Internal"


class Holdings(BaseModel):
    """Who holds which alias and stands in which stage."""

    model_config = ConfigDict(frozen=True)

    aliases: dict[str, int]
    stages: dict[int, str]  # of every version that is not deleted

    def misplaced(self) -> dict[int, str]:
        """Versions that stand in another stage than the aliases say, and the stage where they belong.

        The champion in Production, the challenger in Staging, the one before and whoever stands there besides Archived.
        """
        wanted = {version: "Archived" for version, stage in self.stages.items() if stage in ("Production", "Staging")}
        for alias, stage in (("previous", "Archived"), ("challenger", "Staging"), ("champion", "Production")):
            if alias in self.aliases:
                wanted[self.aliases[alias]] = stage
        return {version: stage for version, stage in wanted.items() if self.stages.get(version, stage) != stage}


def holdings(model_name: str, stages: bool = True) -> Holdings:
    """Aliases and stages of a registered model; nothing where there is no registry yet. Raises RegistryError."""
    uri = tracking_uri()
    try:
        if uri.startswith(("http:", "https:")):
            return _from_server(model_name)
        return _from_database(uri, model_name, stages)
    except (SQLAlchemyError, ValueError) as error:
        problem = str(error).splitlines()[0]
        raise RegistryError(f"The model registry cannot be read: {problem}.", "Check MLFLOW_TRACKING_URI.") from error


def _from_database(uri: str, model_name: str, stages: bool) -> Holdings:
    url = make_url(uri)
    if url.get_backend_name() == "sqlite":
        if not url.database or not Path(url.database).is_file():
            # Connecting would make an empty file, which MLflow then takes for a broken database.
            return Holdings(aliases={}, stages={})
        url = url.set(database=f"file:{Path(url.database).absolute()}", query={"mode": "ro", "uri": "true"})
    engine = create_engine(url, poolclass=NullPool)
    try:
        with engine.connect() as connection:
            held = {alias: int(version) for alias, version in connection.execute(_QUERY, {"name": model_name})}
            found = connection.execute(_STAGES, {"name": model_name}).tuples().all() if stages else ()
            return Holdings(aliases=held, stages={int(v): stage for v, stage in found if stage != _DELETED})
    finally:
        engine.dispose()


def _from_server(model_name: str) -> Holdings:
    from mlflow.exceptions import MlflowException

    try:
        client = connect()
        aliases = client.get_registered_model(model_name).aliases
        versions = client.search_model_versions(f"name = '{model_name}'")
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return Holdings(aliases={}, stages={})
        raise RegistryError(
            f"The model registry cannot be read: {error.message}", "Check MLFLOW_TRACKING_URI."
        ) from error
    held = {str(alias): int(version) for alias, version in aliases.items()}
    return Holdings(aliases=held, stages={int(v.version): v.current_stage for v in versions})


class BusyError(RegistryError):
    """Somebody else is moving models."""


@dataclass(frozen=True)
class Registry:
    """One registered model in MLflow, and its ledger.

    Args:
        name: of the registered model.
        folder: of live state; backups lie below it.
    """

    name: str
    folder: Path
    client: "MlflowClient"
    ledger: Ledger

    def aliases(self) -> Aliases:
        """Who holds which of our aliases."""
        return self.holdings(stages=False).aliases

    def versions(self) -> "list[ModelVersion]":
        """Every version that is not deleted, newest first."""
        found: list[ModelVersion] = []
        token: str | None = None
        while True:
            page = self.client.search_model_versions(f"name = '{self.name}'", page_token=token)
            found += page
            if not (token := page.token):
                return sorted(found, key=lambda version: -int(version.version))

    def version(self, number: int) -> "ModelVersion":
        """One version. Raises RegistryError when there is none."""
        found = self.find(number)
        if found is None:
            raise RegistryError(f"{self.name} has no version {number}.", "`mondegreen models list` shows the versions.")
        return found

    def find(self, number: int) -> "ModelVersion | None":
        """One version, None when it is not there or was deleted."""
        from mlflow.exceptions import MlflowException

        try:
            return self.client.get_model_version(self.name, str(number))
        except MlflowException as error:
            if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                return None
            raise

    def tag(self, number: int, tags: Mapping[str, str]) -> None:
        """Sets tags of a version; an empty one is taken away."""
        known = self.version(number).tags
        for key, value in tags.items():
            if value:
                self.client.set_model_version_tag(self.name, str(number), key, value)
            elif key in known:
                self.client.delete_model_version_tag(self.name, str(number), key)

    def holdings(self, stages: bool = True) -> Holdings:
        """Who holds which of our aliases and stands in which stage."""
        found = holdings(self.name, stages)  # by SQL where that is possible: this is asked often
        ours = {alias: version for alias, version in found.aliases.items() if alias in ALIASES}
        return found.model_copy(update={"aliases": ours})


@contextmanager
def opened(name: str, folder: Path) -> Iterator[Registry]:
    """The registered model and its ledger; errors of MLflow as RegistryError.

    Raises:
        CaseError: the database of live state cannot be used.
        RegistryError: MLflow cannot be used.
    """
    from mlflow.exceptions import MlflowException

    ledger = Ledger.open(folder, name)
    try:
        _require_registry(ledger)
        yield Registry(name, folder, connect(), ledger)
    except MlflowException as error:
        raise RegistryError(
            f"The model registry refused: {error.message}",
            "What was done is in the ledger: run it again, and `mondegreen doctor` when it refuses again.",
        ) from error
    finally:
        ledger.engine.dispose()


def _require_registry(ledger: Ledger) -> None:
    """MLflow would make a new, empty database in place of one that is gone."""
    file = registry_file()
    if file and not file.is_file() and ledger.aliases():
        raise RegistryError(
            f"{file} is gone, though the ledger says that {ledger.model_name} has versions there.",
            "Put it back from a backup of mlruns/; the files of deployed models are in var/backups.",
        )


@contextmanager
def alone(registry: Registry, patience: float = 60.0) -> Iterator[None]:
    """Nobody else moves anything meanwhile, on this machine or on another one that shares a PostgreSQL.

    Raises:
        BusyError: somebody else has the lock for longer than `patience` seconds.
    """
    path = lock_path(LOCK)
    try:
        with lock(path, timeout=patience), advisory_lock(registry.ledger.engine, Advisory.REGISTRY) as free:
            if not free:
                raise BusyError("Another machine is moving models.", "Wait until it has done, then look and run again.")
            yield
    except Timeout:
        raise BusyError(
            f"Somebody else is moving models ({path} is locked).", "Wait until they have done, then look and run again."
        ) from None


def move(registry: Registry, action: str, version: int, target: Aliases, **fields: Any) -> Entry:
    """Makes a move: ledger, aliases, stages, ledger.

    Args:
        version: what it is about.
        target: who holds which alias afterwards; an alias that is not in it is held by nobody.
        fields: who, reason, forced, outcome, digest, and more details for the ledger's entry.

    Raises:
        CaseError: the ledger cannot be written. Before the switch nothing was moved; after it `settle` ends the entry.
    """
    before = registry.aliases()
    details = fields.pop("details", {}) | {"before": before, "after": target}
    intent = registry.ledger.intend(action, version, former=before.get(CHAMPION), details=details, **fields)
    set_aliases(registry, target)
    align_stages(registry)
    return registry.ledger.end(intent, "done")


def set_aliases(registry: Registry, target: Aliases) -> None:
    """The former champion is kept first, then the switch, then what follows from it."""
    held = registry.aliases()
    for alias in (PREVIOUS, CHAMPION, CHALLENGER):
        if alias in target and held.get(alias) != target[alias]:
            registry.client.set_registered_model_alias(registry.name, alias, str(target[alias]))
    for alias in ALIASES:
        if alias in held and alias not in target:
            registry.client.delete_registered_model_alias(registry.name, alias)


def align_stages(registry: Registry) -> list[str]:
    """Stages follow from the aliases, see `Holdings.misplaced`; returns what was changed, a phrase each."""
    held = registry.holdings()
    misplaced = held.misplaced()
    # The champion first: production is never empty.
    for version in sorted(misplaced, key=lambda number: number != held.aliases.get(CHAMPION)):
        _transition(registry, version, misplaced[version])
    return [f"version {version} from {held.stages[version]} to {stage}" for version, stage in misplaced.items()]


def _transition(registry: Registry, version: int, stage: str) -> None:
    with warnings.catch_warnings():
        # Deprecated for aliases, which move beside them; the UI's users still look for stages.
        warnings.simplefilter("ignore", FutureWarning)
        registry.client.transition_model_version_stage(
            registry.name, str(version), stage, archive_existing_versions=stage in ("Production", "Staging")
        )
