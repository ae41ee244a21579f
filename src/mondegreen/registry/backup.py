"""Backups of deployed versions: verified copies in a local folder, and the way back.

Backups of deployed versions in a bucket, beside the local ones: what outlives this machine.
"""

import os
import re
import shutil
import tempfile
from collections.abc import Mapping
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from mondegreen.errors import CloudError, RegistryError, UsageError
from mondegreen.files import read_json, sha256_file, write_json
from mondegreen.gcs import Bucket, gcp_settings, pack, unpack
from mondegreen.registry.package import differences

FOLDER = "backups"
_RECORD, _PACKAGE = "backup.json", "package"


class Backup(BaseModel):
    """<folder>/<model name>/<version>/backup.json, beside the files in package/."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model_name: str
    version: int
    digest: str
    at: datetime
    files: dict[str, str]  # checksums


class Backups:
    """The backups of one registered model.

    Args:
        folder: of live state.
    """

    def __init__(self, folder: Path, model_name: str) -> None:
        plain = re.fullmatch(r"\w[\w.\- ]*", model_name)
        self.model_name = model_name
        self.folder = folder / FOLDER / (model_name if plain else sha256(model_name.encode()).hexdigest())

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

    def make(self, version: int, package: Path, files: Mapping[str, str], digest: str) -> Path:
        """Copies a package and checks the copy; a whole one that is there already is kept.

        Args:
            files: its checksums: what does not fit them is not backed up.

        Raises:
            RegistryError: the files do not fit, or the disk refuses. An older backup is then still there.
        """
        record = None if self.problems(version) else self.read(version)
        if record and record.files == dict(files):
            return self.package(version)
        target = self.folder / str(version)
        writing = self.folder / f".{version}.writing"
        try:
            _make_room(self.folder, package)
            shutil.rmtree(writing, ignore_errors=True)
            copy_tree(package, writing / _PACKAGE)
            if wrong := differences(writing / _PACKAGE, files):
                raise RegistryError(
                    f"The backup of {self.model_name} version {version} is not what was registered: {wrong[0]}.",
                    "Run `mondegreen models verify` to see which files are damaged.",
                )
            content = Backup(
                model_name=self.model_name, version=version, digest=digest, at=datetime.now(UTC), files=dict(files)
            )
            write_json(writing / _RECORD, content)
            replace_folder(writing, target)
        except OSError as error:
            raise RegistryError(
                f"{self.model_name} version {version} cannot be backed up to {self.folder}: {error.strerror}.",
                "Make room or check the permissions; deploy.auto_backup_before_deploy: false does without.",
            ) from error
        finally:
            shutil.rmtree(writing, ignore_errors=True)
        return self.package(version)

    def restore(self, version: int, package: Path) -> None:
        """Puts the files of a backup in the place of a package, which is replaced as a whole.

        Raises:
            RegistryError: there is no backup, it is damaged itself, or the disk refuses.
        """
        if wrong := self.problems(version):
            raise RegistryError(
                f"The backup of {self.model_name} version {version} cannot be used: {'; '.join(wrong)}.",
                "Roll back to another version: `mondegreen models rollback`.",
            )
        writing = package.with_name(f".{package.name}.writing")
        try:
            shutil.rmtree(writing, ignore_errors=True)
            copy_tree(self.package(version), writing)
            replace_folder(writing, package)
        except OSError as error:
            raise RegistryError(
                f"{package} cannot be restored: {error.strerror}.", "Make room, or check the permissions."
            ) from error
        finally:
            shutil.rmtree(writing, ignore_errors=True)

    def delete(self, version: int) -> None:
        """Removes the backup of a version."""
        shutil.rmtree(self.folder / str(version), ignore_errors=True)


def copy_tree(source: Path, target: Path) -> None:
    """Copies a folder without compiled code; on the disk when it returns."""
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
    for path in sorted(target.rglob("*")):
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def replace_folder(source: Path, target: Path) -> None:
    """Renames `source` to `target`; what was there goes first, and is missing for a moment."""
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = target.with_name(f".{target.name}.former")
    shutil.rmtree(aside, ignore_errors=True)
    if target.exists():
        target.rename(aside)
    try:
        source.rename(target)
    except OSError:
        if aside.exists():
            aside.rename(target)
        raise
    shutil.rmtree(aside, ignore_errors=True)


def _make_room(folder: Path, package: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    size = sum(path.stat().st_size for path in package.rglob("*") if path.is_file()) if package.is_dir() else 0
    free = shutil.disk_usage(folder).free
    if free < size:
        raise RegistryError(
            f"A backup takes {size / 1e6:,.0f} MB in {folder}, {free / 1e6:,.0f} MB are free.", "Make room on the disk."
        )


class RemoteBackup(BaseModel):
    """<version>.json, written after <version>.tar: where it stands, the archive is whole."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    backup: Backup
    sha256: str  # of the archive


class RemoteBackups:
    """The backups of one registered model in `<prefix>/models/<model name>/` of a bucket."""

    def __init__(self, bucket: Bucket, model_name: str) -> None:
        self.bucket, self.start = bucket, f"models/{model_name}"

    def push(self, backups: Backups, version: int) -> bool:
        """Copies a local backup to the bucket; False when the same one is there.

        Raises:
            CloudError: the bucket refuses, or the local backup is not whole.
        """
        if wrong := backups.problems(version):
            raise CloudError(
                f"The backup of version {version} cannot go to {self.bucket.uri(self.start)}: {'; '.join(wrong)}.",
                "`mondegreen models verify --back-up` makes it anew.",
            )
        record, there = backups.read(version), self.read(version)
        assert record is not None
        if there and there.backup == record:
            return False
        with tempfile.TemporaryDirectory() as scratch:
            archive, card = Path(scratch, "backup.tar"), Path(scratch, "backup.json")
            pack({".": backups.folder / str(version)}, archive)
            self.bucket.upload(archive, f"{self.start}/{version}.tar")
            write_json(card, RemoteBackup(backup=record, sha256=sha256_file(archive)))
            self.bucket.upload(card, f"{self.start}/{version}.json")
        return True

    def pull(self, backups: Backups, version: int) -> bool:
        """Makes the local backup anew from the bucket; False when the bucket has none.

        Raises:
            CloudError: what came is not what was copied there.
        """
        there = self.read(version)
        if there is None:
            return False
        target = backups.folder / str(version)
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".pulling-") as scratch:
            archive, folder = Path(scratch, "backup.tar"), Path(scratch, "backup")
            self.bucket.download(f"{self.start}/{version}.tar", archive)
            unpack(archive, folder, there.sha256)
            replace_folder(folder, target)
        return True

    def read(self, version: int) -> RemoteBackup | None:
        """What the bucket has of a version. Raises CloudError."""
        name = f"{self.start}/{version}.json"
        if name not in self.bucket.names(name):
            return None
        with tempfile.TemporaryDirectory() as scratch:
            card = Path(scratch, "backup.json")
            self.bucket.download(name, card)
            return read_json(card, RemoteBackup)


def copy_out(folder: Path, model_name: str, versions: list[int]) -> list[int]:
    """Copies local backups to the project's bucket; which ones it did not have.

    Args:
        folder: of live state.

    Raises:
        UsageError: no bucket is named.
        CloudError: the bucket refuses.
    """
    remote, backups = _remote(model_name), Backups(folder, model_name)
    return [version for version in versions if remote.push(backups, version)]


def bring_back(folder: Path, model_name: str, versions: list[int]) -> list[int]:
    """Makes local backups that are missing or damaged anew from the bucket; which ones. Raises like `copy_out`."""
    remote, backups = _remote(model_name), Backups(folder, model_name)
    return [version for version in versions if backups.problems(version) and remote.pull(backups, version)]


def _remote(model_name: str) -> RemoteBackups:
    return RemoteBackups(Bucket(gcp_settings()), model_name)
