"""Where copies of what was erased stay that only a person may remove, and the command that does it."""

import configparser
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from mondegreen.cases.blobs import GcsBlobStore
from mondegreen.cases.store import DataManager
from mondegreen.erasure.files import FoundFile
from mondegreen.registry.mlflow_store import registry_file


class Copy(BaseModel):
    """A place, and what removes it from there."""

    model_config = ConfigDict(frozen=True)

    where: str
    next_step: str


def copies_left(
    project: Path, manager: DataManager, files: Sequence[FoundFile], versions: Sequence[int], held: int
) -> Iterator[Copy]:
    """The places that an erasure may not touch.

    Args:
        files: that hold something; those to be named are told.
        versions: dataset versions that held the cases.
        held: answers that a running server holds.
    """
    named = [Path(file.path) for file in files if file.action == "name"]
    frozen = [path for path in named if "failed_cases" in path.parts]
    if frozen:
        place = f"data/failed_cases ({len(frozen)} files)"
        yield Copy(where=place, next_step="`mondegreen cases snapshot` makes it anew without them.")
    yield from (
        Copy(where=str(path), next_step="Not ours to change: take it out, or delete the file.")
        for path in named
        if path not in frozen
    )
    if (project / ".dvc").is_dir() and (versions or frozen or any("build" in Path(file.path).parts for file in files)):
        remote = [f"dvc gc --workspace --cloud --remote {name} --force" for name in _remotes(project)]
        steps = ["mondegreen cases snapshot", "dvc repro", *(remote or ["dvc gc --workspace --force"])]
        yield Copy(
            where="DVC's cache and remotes, under the hashes of former versions (git's history names only the hashes)",
            next_step=f"`{' && '.join(steps)}`; the files of former versions are gone then.",
        )
    if versions:
        yield Copy(
            where=f"the weights of models that were trained on dataset version {versions[0]} or a later one",
            next_step="They learned from them: train anew, then `mondegreen models delete VERSION` for the old ones.",
        )
    if held:
        yield Copy(
            where=f"{held} answers in the spool of a server that runs",
            next_step="It drops them when it writes them down; run the command again to see.",
        )
    if manager.engine.dialect.name != "sqlite":
        yield Copy(
            where="PostgreSQL's freed pages, archived WAL and dumps; var/ of other machines that use this database",
            next_step="`VACUUM FULL` overwrites the pages at once; let WAL and dumps expire; erase there as well.",
        )
    if isinstance(manager.blobs, GcsBlobStore) or os.environ.get("MONDEGREEN_GCS_BUCKET"):
        yield Copy(
            where="the bucket's older versions and soft-deleted objects, and what was sent to a training machine",
            next_step="`gcloud storage rm --all-versions` for blobs/ of the erased; `mondegreen cloud` jobs by hand.",
        )
    if registry_file() is None:
        yield Copy(
            where="artifacts on the MLflow server (validate/report.html of runs)",
            next_step="Delete the reports of runs that show them in its artifact store.",
        )


def _remotes(project: Path) -> list[str]:
    config = configparser.ConfigParser()
    config.read([project / ".dvc" / "config", project / ".dvc" / "config.local"])
    return [name.removeprefix("'remote \"").removesuffix("\"'") for name in config.sections() if "remote" in name]
