"""The files of a version: packaged for MLflow, hashed file by file, and backed up as verified copies."""

import hashlib
import json
import re
import shutil
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import requires, version
from pathlib import Path
from typing import Any

import yaml
from packaging.requirements import Requirement
from pydantic import BaseModel, ConfigDict
from safetensors import SafetensorError, safe_open

import mondegreen
from mondegreen.errors import CloudError, RegistryError, UsageError
from mondegreen.files import read_json, sha256_file, sync, write_json
from mondegreen.gcs import Bucket, gcp_settings, pack, unpack
from mondegreen.scoring.phrases import LM_FILE, PHRASES_FILE

CODE_ARCHIVE = "mondegreen.zip"  # pyfunc_model.py, which imports nothing of ours before, has this name too
FILES_TAG, DIGEST_TAG, PRUNED_TAG = "files.sha256", "digest", "files.pruned"
_SCRIPT = Path(__file__).with_name("pyfunc_model.py")
_CODE = Path(mondegreen.__file__).parent
_NO_CODE = {"__pycache__", "starter", "sample"}  # of the package: a model of 34 MB, and what makes recordings
_FIXED = (1980, 1, 1, 0, 0, 0)  # the time of every file in the archive: same code, same bytes
_NOT_FOR_SERVING = {"dvc", "matplotlib", "jinja2"}

Checksums = dict[str, str]  # path within the package to sha256; "code/" to one digest over all of it
_CODE_NAME = "code/"
_OURS = ("registered_model_meta",)  # MLflow writes it into the package whenever it is loaded
# What unpickles when it is loaded, and so runs whatever its author wanted.
_PICKLES = re.compile(r"\.(bin|pt|pth|pkl|pickle|ckpt|joblib|npy|npz|h5|msgpack)$", re.IGNORECASE)
_RECORD, _PACKAGE = "backup.json", "package"


def log_model(model_folder: Path, card: str, metadata: dict[str, str]) -> str:
    """Logs a model folder into MLflow's active run, as a pyfunc model from code.

    The package holds the folder (merged weights, and the adapter in its subfolder), the model card and mondegreen's
    own code as one archive, so that it loads where mondegreen is not installed. Packages of earlier versions hold the
    code as some hundred files; either loads.

    Args:
        model_folder: config.json, tokenizer and safetensors, as `BaselineSTTModel` loads them.
        card: Markdown.
        metadata: goes into the MLmodel file.

    Returns:
        The `models:/m-…` URI of the logged model.
    """
    import mlflow

    with tempfile.TemporaryDirectory() as scratch:
        readme = Path(scratch, "README.md")
        readme.write_text(card, encoding="utf-8")
        code = code_archive(_CODE, Path(scratch, CODE_ARCHIVE))
        logged = mlflow.pyfunc.log_model(
            name="model",
            python_model=str(_SCRIPT),
            artifacts={"model": model_folder.resolve().as_uri(), "card": readme.as_uri()},  # MLflow unquotes paths
            code_paths=[str(code)],
            pip_requirements=serving_requirements(),  # given, because MLflow would load the model to guess them
            metadata=metadata,
        )
    return str(logged.model_uri)


def code_archive(package: Path, target: Path) -> Path:
    """The modules of `package` and what they read, in an archive that Python imports from; the same bytes each time."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(package.rglob("*")):
            name = path.relative_to(package)
            if path.is_file() and not path.is_symlink() and not _NO_CODE.intersection(name.parts):
                entry = zipfile.ZipInfo(f"{_CODE.name}/{name.as_posix()}", _FIXED)
                entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
                archive.writestr(entry, path.read_bytes())
    return target


def serving_requirements() -> list[str]:
    """mondegreen's runtime dependencies, pinned to the versions that made the model."""
    needed = [Requirement(line) for line in requires("mondegreen") or []]
    names = [r.name for r in needed if r.marker is None or r.marker.evaluate({"extra": ""})]
    # Without the local part of a version such as 2.13.0+cpu, which no package index serves.
    return [f"{name}=={version(name).split('+')[0]}" for name in names if name not in _NOT_FOR_SERVING]


def packaged_model(package: Path, uri: str) -> Path:
    """The folder with the weights in a package. Raises RegistryError when there is none, naming `uri`."""
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


def checksums(package: Path) -> Checksums:
    """sha256 of every file of a package; its code, which was some hundred files once, has one digest."""
    found: Checksums = {}
    code = hashlib.sha256()
    for path in _files(package):
        name = path.relative_to(package).as_posix()
        if name.startswith(_CODE_NAME):
            code.update(f"{name}\0{sha256_file(path)}\n".encode())
            found[_CODE_NAME] = code.hexdigest()
        else:
            found[name] = sha256_file(path)
    return found


def differences(package: Path, recorded: Mapping[str, str]) -> list[str]:
    """What is missing or altered, a phrase each; nothing when every byte is as it was recorded.

    A file more than there was is a difference too where it is one that could be loaded instead.
    """
    try:
        if not package.is_dir():
            return [f"{package} is missing"]
        found = checksums(package)
    except OSError as error:  # a disk, or a mount that does not answer
        return [f"{package} cannot be read: {error.strerror}"]
    lost = [f"{name} is missing" for name in sorted(recorded.keys() - found.keys())]
    common = sorted(recorded.keys() & found.keys())
    other = [f"{name} has other bytes" for name in common if found[name] != recorded[name]]
    added = [f"{name} was added" for name in sorted(found.keys() - recorded.keys()) if _loadable(name)]
    return lost + other + added


def to_tag(found: Mapping[str, str]) -> str:
    """Checksums as the value of a version's tag."""
    return json.dumps(dict(sorted(found.items())), separators=(",", ":"))


def from_tag(text: str) -> Checksums | None:
    """Checksums from a version's tag; None when it holds none that can be read."""
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
    if not any((folder / name).is_file() for name in ("model.safetensors", "model.safetensors.index.json")):
        problems.append("model.safetensors is missing")  # an adapter's weights are not a model's
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
    return name.endswith((".safetensors", ".json", ".py", PHRASES_FILE, LM_FILE)) or bool(_PICKLES.search(name))


class Backup(BaseModel):
    """<folder>/<model name>/<version>/backup.json, beside the files in package/."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model_name: str
    version: int
    digest: str
    at: datetime
    files: Checksums


class RemoteBackup(BaseModel):
    """<version>.json in a bucket, written after <version>.tar: where it stands, the archive is whole."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    backup: Backup
    sha256: str  # of the archive


class Backups:
    """The backups of one registered model: in var/backups, and in `<prefix>/models/<model name>/` of a bucket.

    Args:
        folder: of live state.
    """

    def __init__(self, folder: Path, model_name: str) -> None:
        plain = re.fullmatch(r"\w[\w.\- ]*", model_name)
        self.model_name = model_name
        self.folder = folder / "backups" / (model_name if plain else hashlib.sha256(model_name.encode()).hexdigest())

    def package(self, version: int) -> Path:
        """Where the files of a version's backup lie, if there is one."""
        return self.folder / str(version) / _PACKAGE

    def read(self, version: int) -> Backup | None:
        """The record of a backup, None when there is none. Raises UsageError when it cannot be read."""
        path = self.folder / str(version) / _RECORD
        return read_json(path, Backup) if path.is_file() else None

    def versions(self) -> list[int]:
        """Versions that have a backup."""
        found = self.folder.iterdir() if self.folder.is_dir() else ()
        return sorted(int(path.name) for path in found if path.name.isdigit())

    def problems(self, version: int) -> list[str]:
        """What is wrong with a backup, a phrase each; nothing when every byte is there."""
        try:
            record = self.read(version)
        except UsageError as error:
            return [error.problem]
        return ["there is none"] if record is None else differences(self.package(version), record.files)

    def holds(self, version: int, files: Mapping[str, str]) -> bool:
        """Whether the backup of a version is whole and is of these files."""
        record = None if self.problems(version) else self.read(version)
        return record is not None and record.files == dict(files)

    def make(self, version: int, package: Path, files: Mapping[str, str], digest: str) -> Path:
        """Copies a package and checks the copy; a whole one that is there already is kept.

        Args:
            files: its checksums: what does not fit them is not backed up.

        Raises:
            RegistryError: the files do not fit, or the disk refuses. An older backup is then still there.
        """
        if self.holds(version, files):
            return self.package(version)
        try:
            _make_room(self.folder, package)
            with _replaced(self.folder / str(version)) as writing:
                _copy(package, writing / _PACKAGE)
                if wrong := differences(writing / _PACKAGE, files):
                    raise RegistryError(
                        f"The backup of {self.model_name} version {version} is not what was registered: {wrong[0]}.",
                        "Run `mondegreen models verify` to see which files are damaged.",
                    )
                now = datetime.now(UTC)
                made = Backup(model_name=self.model_name, version=version, digest=digest, at=now, files=dict(files))
                write_json(writing / _RECORD, made)
        except OSError as error:
            raise RegistryError(
                f"{self.model_name} version {version} cannot be backed up to {self.folder}: {error.strerror}.",
                "Make room or check the permissions; deploy.auto_backup_before_deploy: false does without.",
            ) from error
        return self.package(version)

    def require(self, version: int) -> None:
        """Raises RegistryError when there is no whole backup of a version."""
        if wrong := self.problems(version):
            raise RegistryError(
                f"The backup of {self.model_name} version {version} cannot be used: {'; '.join(wrong)}.",
                "Roll back to another version: `mondegreen models rollback`.",
            )

    def restore(self, version: int, package: Path) -> None:
        """Puts the files of a backup in the place of a package, which is replaced as a whole.

        Raises:
            RegistryError: there is no backup, it is damaged itself, or the disk refuses.
        """
        self.require(version)
        try:
            with _replaced(package) as writing:
                _copy(self.package(version), writing)
        except OSError as error:
            raise RegistryError(
                f"{package} cannot be restored: {error.strerror}.", "Make room, or check the permissions."
            ) from error

    def delete(self, version: int) -> None:
        """Removes the backup of a version."""
        shutil.rmtree(self.folder / str(version), ignore_errors=True)

    def push(self, versions: list[int]) -> list[int]:
        """Copies backups to the project's bucket; returns those that it did not have.

        Raises:
            UsageError: no bucket is named.
            CloudError: the bucket refuses, or a backup is not whole.
        """
        bucket = Bucket(gcp_settings())
        return [version for version in versions if self._push(bucket, version)]

    def pull(self, versions: list[int]) -> list[int]:
        """Makes backups that are missing or damaged anew from the project's bucket, where it has them; which ones.

        Raises:
            UsageError: no bucket is named.
            CloudError: the bucket refuses, or what came is not what was copied there.
        """
        bucket = Bucket(gcp_settings())
        return [version for version in versions if self.problems(version) and self._pull(bucket, version)]

    def _push(self, bucket: Bucket, version: int) -> bool:
        place = f"models/{self.model_name}"
        if wrong := self.problems(version):
            raise CloudError(
                f"The backup of version {version} cannot go to {bucket.uri(place)}: {'; '.join(wrong)}.",
                "`mondegreen models verify --back-up` makes it anew.",
            )
        record, there = self.read(version), bucket.read_json(f"{place}/{version}.json", RemoteBackup)
        assert record is not None
        if there and there.backup == record:
            return False
        with tempfile.TemporaryDirectory() as scratch:
            archive = Path(scratch, "backup.tar")
            pack({".": self.folder / str(version)}, archive)
            bucket.upload(archive, f"{place}/{version}.tar")
            bucket.write_json(f"{place}/{version}.json", RemoteBackup(backup=record, sha256=sha256_file(archive)))
        return True

    def _pull(self, bucket: Bucket, version: int) -> bool:
        place = f"models/{self.model_name}/{version}"
        there = bucket.read_json(f"{place}.json", RemoteBackup)
        if there is None:
            return False
        self.folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self.folder, prefix=".pulling-") as scratch:
            archive = Path(scratch, "backup.tar")
            bucket.download(f"{place}.tar", archive)
            with _replaced(self.folder / str(version)) as writing:
                unpack(archive, writing, there.sha256)
        return True


def _copy(source: Path, target: Path) -> None:
    """Copies a folder without compiled code; on the disk when it returns."""
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
    for path in sorted(target.rglob("*")):
        sync(path)


@contextmanager
def _replaced(target: Path) -> Iterator[Path]:
    """A place to write a folder to, which then takes the place of `target`; what was there is missing for a moment."""
    writing, aside = target.with_name(f".{target.name}.writing"), target.with_name(f".{target.name}.former")
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(writing, ignore_errors=True)
    try:
        yield writing
        shutil.rmtree(aside, ignore_errors=True)
        if target.exists():
            target.rename(aside)
        try:
            writing.rename(target)
        except OSError:
            if aside.exists():
                aside.rename(target)
            raise
        shutil.rmtree(aside, ignore_errors=True)
    finally:
        shutil.rmtree(writing, ignore_errors=True)


def _make_room(folder: Path, package: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    size = sum(path.stat().st_size for path in package.rglob("*") if path.is_file()) if package.is_dir() else 0
    free = shutil.disk_usage(folder).free
    if free < size:
        raise RegistryError(
            f"A backup takes {size / 1e6:,.0f} MB in {folder}, {free / 1e6:,.0f} MB are free.", "Make room on the disk."
        )
