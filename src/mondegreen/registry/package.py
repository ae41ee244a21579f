"""A model folder as an MLflow pyfunc model from code, and the model folder within such a package.

What a registered package consists of, file by file, and whether it still does.

Where the files of a version lie, and whether they are what was registered.
"""

import hashlib
import json
import re
import shutil
import tempfile
from collections.abc import Mapping
from importlib.metadata import requires, version
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import mlflow
import yaml
from mlflow.exceptions import MlflowException
from packaging.requirements import Requirement
from safetensors import SafetensorError, safe_open

import mondegreen
from mondegreen.errors import RegistryError
from mondegreen.files import sha256_file
from mondegreen.registry.aliases import Registry

_SCRIPT = Path(__file__).with_name("pyfunc_model.py")
_CODE = Path(mondegreen.__file__).parent
_NOT_FOR_SERVING = {"dvc", "matplotlib", "jinja2"}


def log_model(model_folder: Path, card: str, metadata: dict[str, str]) -> str:
    """Logs a model folder into MLflow's active run.

    The package holds the folder (merged weights, and the adapter in its subfolder), the model card and mondegreen's
    own code, so that it loads where mondegreen is not installed.

    Args:
        model_folder: config.json, tokenizer and safetensors, as `BaselineSTTModel` loads them.
        card: Markdown.
        metadata: goes into the MLmodel file.

    Returns:
        The `models:/m-…` URI of the logged model.
    """
    with tempfile.TemporaryDirectory() as scratch:
        readme = Path(scratch, "README.md")
        readme.write_text(card, encoding="utf-8")
        code = shutil.copytree(_CODE, Path(scratch, _CODE.name), ignore=shutil.ignore_patterns("__pycache__"))
        logged = mlflow.pyfunc.log_model(
            name="model",
            python_model=str(_SCRIPT),
            artifacts={"model": str(model_folder), "card": str(readme)},
            code_paths=[str(code)],
            pip_requirements=serving_requirements(),  # given, because MLflow would load the model to guess them
            metadata=metadata,
        )
    return str(logged.model_uri)


def serving_requirements() -> list[str]:
    """mondegreen's runtime dependencies, pinned to the versions that made the model."""
    needed = [Requirement(line) for line in requires("mondegreen") or []]
    names = [r.name for r in needed if r.marker is None or r.marker.evaluate({"extra": ""})]
    # Without the local part of a version such as 2.13.0+cpu, which no package index serves.
    return [f"{name}=={version(name).split('+')[0]}" for name in names if name not in _NOT_FOR_SERVING]


def packaged_model(package: Path, uri: str) -> Path:
    """The folder with the weights in a downloaded package."""
    try:
        described: dict[str, Any] = yaml.safe_load((package / "MLmodel").read_text(encoding="utf-8"))
        artifacts = described["flavors"].get("python_function", {}).get("artifacts") or {}
    except (OSError, yaml.YAMLError, TypeError, KeyError) as error:
        raise RegistryError(
            f"{uri}: {package / 'MLmodel'} cannot be read ({error}).", "Run `mondegreen models verify --restore`."
        ) from error
    folder = package / str(artifacts.get("model", {}).get("path", "missing"))
    if not (folder / "config.json").is_file():
        raise RegistryError(f"{uri} holds no speech model.", "Name a model that `dvc repro` registered.")
    return folder


Checksums = dict[str, str]  # path within the package to sha256; "code/" to one digest over all of it
CODE = "code/"
_OURS = ("registered_model_meta",)  # MLflow writes it into the package whenever it is loaded
# What unpickles when it is loaded, and so runs whatever its author wanted.
_PICKLES = re.compile(r"\.(bin|pt|pth|pkl|pickle|ckpt|joblib|npy|npz|h5|msgpack)$", re.IGNORECASE)


def checksums(package: Path) -> Checksums:
    """sha256 of every file of a package; its code, some hundred files, has one digest."""
    found: Checksums = {}
    code = hashlib.sha256()
    for path in _files(package):
        name = path.relative_to(package).as_posix()
        if name.startswith(CODE):
            code.update(f"{name}\0{sha256_file(path)}\n".encode())
            found[CODE] = ""
        else:
            found[name] = sha256_file(path)
    if CODE in found:
        found[CODE] = code.hexdigest()
    return found


def differences(package: Path, recorded: Mapping[str, str]) -> list[str]:
    """What is missing or altered, a phrase each; nothing when every byte is as it was recorded.

    A file more than there was is a difference too where it is one that could be loaded instead.
    """
    if not package.is_dir():
        return [f"{package} is missing"]
    found = checksums(package)
    lost = [f"{name} is missing" for name in sorted(recorded.keys() - found.keys())]
    other = [
        f"{name} has other bytes" for name in sorted(recorded) if found.get(name, recorded[name]) != recorded[name]
    ]
    added = sorted(name for name in found.keys() - recorded.keys() if _loadable(name))
    return lost + other + [f"{name} was added" for name in added]


def to_tag(found: Mapping[str, str]) -> str:
    """For a tag of the version."""
    return json.dumps(dict(sorted(found.items())), separators=(",", ":"))


def from_tag(text: str) -> Checksums | None:
    """What a tag says; None when there is none that can be read."""
    try:
        found = json.loads(text) if text else None
    except ValueError:
        return None
    if not isinstance(found, dict) or not found:
        return None
    return {str(name): str(digest) for name, digest in found.items()}


def pickles(folder: Path) -> list[str]:
    """Files that would be unpickled by whoever loads them: only safetensors and JSON are ever loaded."""
    return [path.relative_to(folder).as_posix() for path in _files(folder) if _PICKLES.search(path.name)]


def unloadable(folder: Path) -> list[str]:
    """What keeps a model folder from being loaded, read from the heads of its files; nothing when it is whole."""
    problems = [f"{name} is a pickle, which may run anything" for name in pickles(folder)]
    try:
        json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        problems.append(f"config.json cannot be read ({error})")
    weights = sorted(folder.glob("*.safetensors"))
    if not weights:
        problems.append("model.safetensors is missing")
    for path in weights:
        try:
            with safe_open(path, framework="numpy") as tensors:
                if not list(tensors.keys()):
                    problems.append(f"{path.name} is empty")
        except (SafetensorError, OSError) as error:
            problems.append(f"{path.name} is no whole safetensors file ({error})")
    return problems


def _files(folder: Path) -> list[Path]:
    return [
        path
        for path in sorted(folder.rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts and path.name not in _OURS
    ]


def _loadable(name: str) -> bool:
    return name.endswith((".safetensors", ".json", ".py")) or bool(_PICKLES.search(name))


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
