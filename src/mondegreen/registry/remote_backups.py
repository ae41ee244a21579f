"""Backups of deployed versions in a bucket, beside the local ones: what outlives this machine."""

import tempfile
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from mondegreen.archives import pack, unpack
from mondegreen.errors import CloudError
from mondegreen.files import read_json, sha256_file, write_json
from mondegreen.gcs import Bucket, gcp_settings
from mondegreen.registry.backup import Backup, Backups, replace_folder


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
