"""What a registered package consists of, file by file, and whether it still does."""

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open

from mondegreen.files import sha256_file

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
