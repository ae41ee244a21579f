"""Where the files of a version lie, and whether they are what was registered."""

from pathlib import Path
from urllib.parse import unquote, urlsplit

import mlflow
from mlflow.exceptions import MlflowException

from mondegreen.errors import RegistryError
from mondegreen.registry.checksums import differences, from_tag, unloadable
from mondegreen.registry.moves import Registry
from mondegreen.registry.packaging import packaged_model

FILES_TAG, DIGEST_TAG, PRUNED_TAG = "files.sha256", "digest", "files.pruned"


def location(registry: Registry, number: int) -> str:
    """Where MLflow keeps the package of a version: a path or a URI."""
    return str(registry.client.get_model_version_download_uri(registry.name, str(number)))


def local_folder(uri: str) -> Path | None:
    """The folder that a location names on this machine, None for a bucket or a server."""
    parts = urlsplit(uri)
    if parts.scheme not in ("", "file"):
        return None
    return Path(unquote(parts.path))


def fetch(registry: Registry, number: int) -> Path:
    """The package of a version as a local folder, downloaded when it lies elsewhere. It need not be whole."""
    uri = location(registry, number)
    folder = local_folder(uri)
    if folder is not None:
        return folder
    try:
        return Path(mlflow.artifacts.download_artifacts(artifact_uri=uri))
    except (MlflowException, OSError) as error:
        raise RegistryError(
            f"{registry.name} version {number} cannot be fetched from {uri}: {error}.", "Check the artifact store."
        ) from error


def damage(registry: Registry, number: int, package: Path | None = None) -> list[str]:
    """What is missing, altered or not loadable in the files of a version; nothing when they are as registered.

    Args:
        package: another place where its files should lie, such as a backup.
    """
    tags = registry.version(number).tags
    if tags.get(PRUNED_TAG) and package is None:
        return [f"its files were pruned at {tags[PRUNED_TAG]}"]
    folder = package or fetch(registry, number)
    recorded = from_tag(tags.get(FILES_TAG, ""))
    if recorded is None:
        return ["no checksums were recorded when it was registered"]
    return differences(folder, recorded)


def fatal(registry: Registry, number: int) -> list[str]:
    """What would keep the champion from answering: files that nobody could load, or must not."""
    try:
        return unloadable(packaged_model(fetch(registry, number), f"{registry.name} version {number}"))
    except (RegistryError, OSError) as error:
        return [error.problem.rstrip(".") if isinstance(error, RegistryError) else str(error)]
