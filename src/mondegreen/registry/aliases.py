"""Aliases and stages: who holds them, read in milliseconds, and the one place that moves them.

They are moved always together, under a lock, and written down: an entry `intended` in the ledger, the aliases one by
one, the stages that follow from the aliases, and an entry `done`. The switch itself is one write, so that at every
moment there is one champion; every step can be repeated, and after a crash between any two of them `recovery.recover`
finishes the move or takes it back.

Importing MLflow alone takes seconds, so where the registry is an SQL database aliases and stages are read from its
tables (`registered_model_aliases`, the same since MLflow 2.3). A tracking server is asked through MLflow's client.
"""

import shutil
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from filelock import Timeout
from pydantic import BaseModel, ConfigDict
from sqlalchemy import Connection, Engine, create_engine, make_url, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool

from mondegreen.db import Advisory, advisory_lock
from mondegreen.errors import RegistryError
from mondegreen.files import lock
from mondegreen.registry.ledger import ALIASES, CHALLENGER, CHAMPION, PREVIOUS, Aliases, Ledger, LedgerEntry
from mondegreen.registry.mlflow_store import (
    connect,
    denied,
    is_server,
    lock_path,
    refused,
    registry_file,
    tracking_uri,
)
from mondegreen.registry.package import (
    DIGEST_TAG,
    FILES_TAG,
    PRUNED_TAG,
    Backups,
    differences,
    from_tag,
    packaged_model,
    unloadable,
)
from mondegreen.storage import of_a_client

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

LOCK = "registry"  # of `lock_path`: held by whoever moves anything
OUTCOME_TAG = "outcome"
_ALIASES = text("SELECT alias, version FROM registered_model_aliases WHERE name = :name")
# MLflow keeps the row of a deleted version, so that its number is not given again.
_STAGES = text("SELECT version, current_stage FROM model_versions WHERE name = :name")
_DELETED = "Deleted_Internal"
_TAG = text(
    "SELECT COALESCE(tag.value, '') FROM model_versions AS version LEFT JOIN model_version_tags AS tag "
    "ON tag.name = version.name AND tag.version = version.version AND tag.key = :key "
    "WHERE version.name = :name AND version.version = :version AND version.current_stage != :deleted"
)


class BusyError(RegistryError):
    """Somebody else is moving models."""


class Holdings(BaseModel):
    """Who holds which alias and stands in which stage."""

    model_config = ConfigDict(frozen=True)

    aliases: Aliases  # also such as somebody else gave
    stages: dict[int, str]  # of every version that is not deleted

    @property
    def ours(self) -> Aliases:
        """Who holds champion, challenger and previous."""
        return {alias: version for alias, version in self.aliases.items() if alias in ALIASES}

    def misplaced(self) -> dict[int, str]:
        """Versions that stand in another stage than the aliases say, and the stage where they belong.

        The champion in Production, the challenger in Staging, the one before and whoever stands there besides Archived.
        """
        wanted = {version: "Archived" for version, stage in self.stages.items() if stage in ("Production", "Staging")}
        for alias, stage in ((PREVIOUS, "Archived"), (CHALLENGER, "Staging"), (CHAMPION, "Production")):
            if alias in self.aliases:
                wanted[self.aliases[alias]] = stage
        return {version: stage for version, stage in wanted.items() if self.stages.get(version, stage) != stage}


def holdings(model_name: str, stages: bool = True) -> Holdings:
    """Aliases and stages of a registered model; nothing where there is no registry yet.

    Raises:
        RegistryError: the registry cannot be read.
    """
    if is_server(uri := tracking_uri()):
        return _from_server(model_name, stages)
    with registry_database(uri) as connection:
        if connection is None:
            return Holdings(aliases={}, stages={})
        held = {alias: int(version) for alias, version in connection.execute(_ALIASES, {"name": model_name})}
        found = connection.execute(_STAGES, {"name": model_name}).tuples().all() if stages else ()
        return Holdings(aliases=held, stages={int(v): stage for v, stage in found if stage != _DELETED})


def tag_of(model_name: str, number: int, key: str) -> str | None:
    """A tag of a version, "" where it has none such; None when this registry has no such version.

    Raises:
        RegistryError: the registry cannot be read.
    """
    if is_server(uri := tracking_uri()):
        return _tag_from_server(model_name, number, key)
    wanted = {"name": model_name, "version": number, "key": key, "deleted": _DELETED}
    with registry_database(uri) as connection:
        return None if connection is None else connection.execute(_TAG, wanted).scalar()


@contextmanager
def registry_database(uri: str) -> Iterator[Connection | None]:
    """The registry's database, to be read; None where there is none yet."""
    try:
        url = make_url(uri)
        if url.get_backend_name() == "sqlite":
            if not url.database or not Path(url.database).is_file():
                # Connecting would make an empty file, which MLflow then takes for a broken database.
                yield None
                return
            url = url.set(database=Path(url.database).absolute().as_uri(), query={"mode": "ro", "uri": "true"})
        engine = create_engine(url, poolclass=NullPool)
        try:
            with engine.connect() as connection:
                yield connection
        finally:
            engine.dispose()
    except (SQLAlchemyError, ValueError) as error:
        problem = str(error).splitlines()[0]
        raise RegistryError(f"The model registry cannot be read: {problem}.", "Check MLFLOW_TRACKING_URI.") from error


def _tag_from_server(model_name: str, number: int, key: str) -> str | None:
    from mlflow.exceptions import MlflowException

    try:
        return str(connect().get_model_version(model_name, str(number)).tags.get(key, ""))
    except MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return None
        raise refused(error, "The model registry cannot be read", "Check MLFLOW_TRACKING_URI.") from error


def _from_server(model_name: str, stages: bool) -> Holdings:
    from mlflow.exceptions import MlflowException

    try:
        client = connect()
        aliases = client.get_registered_model(model_name).aliases
        versions = client.search_model_versions(f"name = '{model_name}'") if stages else []
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return Holdings(aliases={}, stages={})
        raise refused(error, "The model registry cannot be read", "Check MLFLOW_TRACKING_URI.") from error
    held = {str(alias): int(version) for alias, version in aliases.items()}
    return Holdings(aliases=held, stages={int(v.version): str(v.current_stage) for v in versions})


def no_version(name: str, number: int | str) -> RegistryError:
    """What a version that is not there is refused with."""
    return RegistryError(f"{name} has no version {number}.", "`mondegreen models list` shows the versions.")


@dataclass(frozen=True)
class Registry:
    """One registered model in MLflow, its ledger, and the files of its versions.

    Args:
        name: of the registered model.
        folder: of live state; backups lie below it.
        scratch: where packages of a server are downloaded to, for as long as this is open.
        fetched: those that were.
    """

    name: str
    folder: Path
    client: "MlflowClient"
    ledger: Ledger
    scratch: Path
    fetched: dict[int, Path] = field(default_factory=dict)

    @property
    def backups(self) -> Backups:
        """Of its versions."""
        return Backups(self.folder, self.name)

    def aliases(self, *, everyone: bool = False) -> Aliases:
        """Who holds which of our aliases, or any alias at all. By SQL where that is possible: this is asked often."""
        held = holdings(self.name, stages=False)
        return held.aliases if everyone else held.ours

    def versions(self) -> "list[ModelVersion]":
        """Every version that is not deleted, newest first."""
        import mlflow

        found = mlflow.search_model_versions(filter_string=f"name = '{self.name}'")
        return sorted(found, key=lambda version: -int(version.version))

    def version(self, number: int) -> "ModelVersion":
        """One version. Raises RegistryError when there is none."""
        found = self.find(number)
        if found is None:
            raise no_version(self.name, number)
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
            if value and known.get(key) != value:
                self.client.set_model_version_tag(self.name, str(number), key, value)
            elif not value and key in known:
                self.client.delete_model_version_tag(self.name, str(number), key)

    def rollback_targets(self) -> list[int]:
        """Where a rollback leads, nearest first: earlier champions that are not deleted."""
        return [version for version in self.ledger.succession().targets() if self.find(version)]

    def intend(self, action: str, number: int, target: Aliases, **fields: Any) -> LedgerEntry:
        """Enters what is about to be done with a version.

        Args:
            target: who holds which alias afterwards.
            fields: reason, forced, and more details of the entry; `former`, `outcome` and `digest` where they are not
                the champion's and the version's.
        """
        aliases, tags = self.aliases(), self.version(number).tags
        fields["details"] = fields.get("details", {}) | {"before": aliases, "after": target}
        known = {"outcome": tags.get(OUTCOME_TAG, ""), "digest": tags.get(DIGEST_TAG, "")}
        return self.ledger.intend(action, number, **{"former": aliases.get(CHAMPION)} | known | fields)

    def note(self, action: str, number: int, reason: str) -> LedgerEntry:
        """Enters what was done to the files of a version; the aliases stay where they are."""
        aliases, digest = self.aliases(), self.version(number).tags.get(DIGEST_TAG, "")
        details = {"before": aliases, "after": aliases}
        return self.ledger.note(
            action, number, former=aliases.get(CHAMPION), reason=reason, digest=digest, details=details
        )

    def location(self, number: int) -> str:
        """Where MLflow keeps the package of a version: a path or a URI."""
        return str(self.client.get_model_version_download_uri(self.name, str(number)))

    def fetch(self, number: int) -> Path:
        """The package of a version as a local folder, downloaded when it lies elsewhere. It need not be whole."""
        uri = self.location(number)
        if folder := local_folder(uri):
            return folder
        if number not in self.fetched:
            with fetching(f"{self.name} version {number}", uri):
                self.fetched[number] = download(uri, self.scratch / str(number))
        return self.fetched[number]

    def replace(self, number: int, package: Path) -> None:
        """Puts other files in the place of a package that lies on a server or in a bucket.

        What was added to it goes too. Whoever loads it meanwhile gets its backup.
        """
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        uri = self.location(number)
        there = self.fetch(number)
        names = [path.relative_to(there) for path in there.rglob("*") if path.is_file()]
        with fetching(f"{self.name} version {number}", uri):
            repository = get_artifact_repository(uri)
            repository.log_artifacts(str(package))  # type: ignore[no-untyped-call]  # MLflow's
            for name in names:  # what was added to it goes
                if not (package / name).is_file():
                    repository.delete_artifacts(name.as_posix())  # type: ignore[no-untyped-call]  # MLflow's
        shutil.rmtree(self.fetched.pop(number))

    def damage(self, number: int) -> list[str]:
        """What is missing, altered or not loadable in the files of a version; nothing when they are as registered."""
        tags = self.version(number).tags
        if when := tags.get(PRUNED_TAG):
            return [f"its files were pruned at {when}"]
        recorded = from_tag(tags.get(FILES_TAG, ""))
        if recorded is None:
            return ["no checksums were recorded when it was registered"]
        return differences(self.fetch(number), recorded)

    def fatal(self, number: int) -> list[str]:
        """What would keep the champion from answering: files that nobody could load, or must not."""
        try:
            return unloadable(packaged_model(self.fetch(number), f"{self.name} version {number}"))
        except RegistryError as error:
            return [error.problem.rstrip(".")]
        except OSError as error:
            return [str(error)]


def download(uri: str, target: Path) -> Path:
    """The package at a location as a folder below `target`."""
    import mlflow

    target.mkdir(parents=True, exist_ok=True)
    return Path(mlflow.artifacts.download_artifacts(artifact_uri=uri, dst_path=str(target)))


@contextmanager
def fetching(what: str, uri: str) -> Iterator[None]:
    """Errors of an artifact store as RegistryError; a fault of our own within it keeps its traceback."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except Exception as error:
        if not of_a_client(error):
            raise
        said = (denied(error) if isinstance(error, MlflowException) else None) or RegistryError(
            f"The files of {what} cannot be reached at {uri}: {error}.", "Check the artifact store."
        )
        raise said from error


def local_folder(uri: str) -> Path | None:
    """The folder that a location names on this machine, None for a bucket or a server."""
    parts = urlsplit(uri)
    return Path(unquote(parts.path)) if parts.scheme in ("", "file") else None


@contextmanager
def opened(name: str, folder: Path) -> Iterator[Registry]:
    """The registered model and its ledger; errors of MLflow as RegistryError.

    Raises:
        CaseError: the database of live state cannot be used.
        RegistryError: MLflow cannot be used, or is gone: it would make a new, empty database in its place.
    """
    from mlflow.exceptions import MlflowException

    ledger = Ledger.open(folder, name)
    try:
        file = registry_file()
        if file and not file.is_file() and ledger.aliases():
            raise RegistryError(
                f"{file} is gone, though the ledger says that {name} has versions there.",
                ledger.when_gone(),
            )
        with TemporaryDirectory(prefix="mondegreen-") as scratch:
            yield Registry(name, folder, connect(), ledger, Path(scratch))
    except MlflowException as error:
        raise refused(
            error,
            "The model registry refused",
            "What was done is in the ledger: run it again, and `mondegreen doctor` when it refuses again.",
        ) from error
    finally:
        ledger.engine.dispose()


@contextmanager
def alone(registry: Registry, patience: float = 60.0) -> Iterator[None]:
    """Nobody else moves anything meanwhile, on this machine or on another one that shares a PostgreSQL.

    Raises:
        BusyError: somebody else has the lock for longer than `patience` seconds.
    """
    with alone_in(registry.ledger.engine, patience):
        yield


@contextmanager
def alone_in(engine: Engine, patience: float = 60.0) -> Iterator[None]:
    """The same for who only writes to the ledger, in this database, and needs no MLflow."""
    path = lock_path(LOCK)
    try:
        with lock(path, timeout=patience), advisory_lock(engine, Advisory.REGISTRY) as free:
            if not free:
                raise BusyError("Another machine is moving models.", "Wait until it has done, then look and run again.")
            yield
    except Timeout:
        raise BusyError(
            f"Somebody else is moving models ({path} is locked).", "Wait until they have done, then look and run again."
        ) from None


def move(registry: Registry, action: str, version: int, target: Aliases, **fields: Any) -> LedgerEntry:
    """Makes a move: ledger, aliases, stages, ledger. To be called `alone`.

    Args:
        version: what it is about.
        target: who holds which alias afterwards; an alias that is not in it is held by nobody.
        fields: reason, forced, and more details for the ledger's entry.

    Raises:
        CaseError: the ledger cannot be written. Before the switch nothing was moved; after it `recover` ends the entry.
    """
    intent = registry.intend(action, version, target, **fields)
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
    held = holdings(registry.name)
    misplaced = held.misplaced()
    # The champion first: production is never empty.
    for version in sorted(misplaced, key=lambda number: number != held.aliases.get(CHAMPION)):
        alone_there = misplaced[version] in ("Production", "Staging")
        transition(registry.client, registry.name, version, misplaced[version], alone_there)
    return [f"version {version} from {held.stages[version]} to {stage}" for version, stage in misplaced.items()]


def transition(client: "MlflowClient", name: str, version: int, stage: str, archive_others: bool = False) -> None:
    """Moves a version to a stage. Deprecated for aliases, which move beside them; the UI's users still look for it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        client.transition_model_version_stage(name, str(version), stage, archive_existing_versions=archive_others)
