"""A Google Cloud Storage bucket: objects that are whole or absent, verified both ways; folders as one object.

Credentials are Google's application default ones; STORAGE_EMULATOR_HOST names an emulator instead. Needs the extra
`gcp` (`pip install "mondegreen[gcp]"`), which is imported on first use.
"""

import os
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from mondegreen.config import GcpParams, load_params
from mondegreen.errors import CloudError, UsageError
from mondegreen.files import Record, extract, read_json, sha256_file

if TYPE_CHECKING:
    from google.auth.credentials import Credentials
    from google.cloud.storage import Blob, Client
    from google.cloud.storage import Bucket as GoogleBucket
    from pydantic import BaseModel

_TIMEOUT = 60.0  # seconds for one request; the client repeats those that may be repeated


def gcp_settings(params: Path = Path("params.yaml")) -> GcpParams:
    """`gcp` of params.yaml where there is one; MONDEGREEN_GCS_BUCKET names another bucket. Raises UsageError."""
    settings = load_params(params).gcp if params.is_file() else GcpParams()
    bucket = os.environ.get("MONDEGREEN_GCS_BUCKET")
    return settings.model_copy(update={"bucket": bucket}) if bucket else settings


class Bucket:
    """Objects below a prefix of one bucket.

    Args:
        settings: `gcp` of params.yaml.

    Raises:
        UsageError: no bucket is named, or the extra `gcp` is not installed.
        CloudError: there are no credentials.
    """

    def __init__(self, settings: GcpParams) -> None:
        if not settings.bucket:
            raise UsageError("No bucket is named.", "Set gcp.bucket in params.yaml, or MONDEGREEN_GCS_BUCKET.")
        self.name, self.prefix = settings.bucket, settings.prefix.strip("/")
        self._bucket: GoogleBucket = _client(settings.project_id).bucket(self.name)

    def uri(self, name: str) -> str:
        """gs://bucket/prefix/name."""
        return f"gs://{self.name}/{self._key(name)}"

    def upload(self, source: Path, name: str) -> None:
        """Writes a file as one object, which appears when all of it has arrived intact.

        Raises:
            CloudError: the bucket refuses or is not reached; what was there before is still there.
        """
        with self._asking("write", name):
            blob = self._bucket.blob(self._key(name))
            blob.upload_from_filename(str(source), checksum="crc32c", timeout=_TIMEOUT)

    def download(self, name: str, target: Path) -> None:
        """Reads an object into a file, which is whole or as it was before.

        Raises:
            CloudError: there is no such object, the bucket is not reached, or what came was damaged on the way.
        """
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
        os.close(handle)
        try:
            with self._asking("read", name):
                blob = self._bucket.blob(self._key(name))
                blob.download_to_filename(temporary, checksum="crc32c", timeout=_TIMEOUT)
            Path(temporary).chmod(0o644)
            Path(temporary).replace(target)
        finally:
            Path(temporary).unlink(missing_ok=True)

    def read_json(self, name: str, kind: type[Record]) -> Record | None:
        """The record in an object, None when there is no such object. Raises CloudError, or UsageError like files."""
        if name not in self.names(name):
            return None
        with tempfile.TemporaryDirectory() as scratch:
            path = Path(scratch, Path(name).name)
            self.download(name, path)
            return read_json(path, kind)

    def write_json(self, name: str, record: "BaseModel") -> None:
        """Writes a record as one object. Raises CloudError."""
        text = record.model_dump_json(indent=2) + "\n"  # from memory: a machine whose disk is full can still say so
        with self._asking("write", name):
            self._bucket.blob(self._key(name)).upload_from_string(
                text, content_type="application/json", checksum="crc32c", timeout=_TIMEOUT
            )

    def find(self, start: str) -> "list[Blob]":
        """The objects whose name starts so, in name order. Raises CloudError."""
        with self._asking("list", start):
            return list(self._bucket.list_blobs(prefix=self._key(start), timeout=_TIMEOUT))

    def names(self, start: str) -> list[str]:
        """The names of `find`, without the prefix."""
        cut = len(self._key(""))
        return [str(blob.name)[cut:] for blob in self.find(start)]

    def delete(self, name: str) -> None:
        """Removes an object; one that is gone already is fine. Raises CloudError."""
        from google.api_core.exceptions import NotFound

        with self._asking("delete", name), suppress(NotFound):
            self._bucket.blob(self._key(name)).delete(timeout=_TIMEOUT)

    def _key(self, name: str) -> str:
        return f"{self.prefix}/{name}" if self.prefix else name

    @contextmanager
    def _asking(self, what: str, name: str) -> Iterator[None]:
        from google.api_core.exceptions import NotFound

        try:
            with asking_google(f"{what} {self.uri(name)}"):
                yield
        except NotFound as error:
            raise CloudError(
                f"{self.uri(name)} is not there.", f"Look with `gcloud storage ls gs://{self.name}`; is the name right?"
            ) from error


@contextmanager
def asking_google(what: str) -> Iterator[None]:
    """Turns what the network and Google say into CloudError; NotFound is left to the caller.

    Args:
        what: what is being done, after "Cannot".
    """
    from google.api_core.exceptions import Forbidden, GoogleAPIError, NotFound
    from google.auth.exceptions import GoogleAuthError
    from requests import RequestException

    try:
        yield
    except NotFound:
        raise
    except Forbidden as error:
        raise CloudError(
            f"Google refuses to {what}: {error.message}.",
            "The account needs roles/storage.objectAdmin on the bucket; for machines roles/compute.instanceAdmin.v1.",
        ) from error
    except (GoogleAPIError, GoogleAuthError, RequestException, ConnectionError, TimeoutError) as error:
        raise CloudError(
            f"Cannot {what}: {error}.",
            "Check the network and `gcloud auth application-default login`, then run it again.",
        ) from error


def default_credentials(emulated: bool) -> "Credentials":
    """Google's application default credentials; nobody's for an emulator. Raises CloudError when there are none."""
    import google.auth
    from google.auth.credentials import AnonymousCredentials
    from google.auth.exceptions import DefaultCredentialsError

    if emulated:
        return AnonymousCredentials()  # type: ignore[no-untyped-call]  # Google's, of which half is typed
    try:
        credentials, _ = google.auth.default(scopes=["https://www.googleapis.com/auth/cloud-platform"])
    except DefaultCredentialsError as error:
        raise CloudError(
            f"Google's client has no credentials: {error}",
            "Run `gcloud auth application-default login`.",
        ) from error
    return credentials


def _client(project: str | None) -> "Client":
    try:
        from google.cloud.storage import Client
    except ImportError:
        raise UsageError("Google's client is not installed.", 'Run `pip install "mondegreen[gcp]"`.') from None
    emulated = bool(os.environ.get("STORAGE_EMULATOR_HOST"))
    try:
        return Client(project=project or ("emulated" if emulated else None), credentials=default_credentials(emulated))
    except OSError as error:  # no project can be found out
        raise CloudError(f"Google's client has no project: {error}.", "Set gcp.project_id in params.yaml.") from error


def pack(members: dict[str, Path], target: Path) -> None:
    """A tar of folders and files under their names: equal contents give equal bytes."""

    def plain(member: tarfile.TarInfo) -> tarfile.TarInfo:
        member.mtime = member.uid = member.gid = 0
        member.uname = member.gname = ""
        return member

    with tarfile.open(target, "w") as archive:
        for name, root in members.items():
            for path in [root, *sorted(root.rglob("*"))]:
                archive.add(path, Path(name, path.relative_to(root)), recursive=False, filter=plain)


def unpack(archive: Path, target: Path, sha256: str) -> None:
    """Unpacks into a folder, replacing what is there under the same names.

    Raises:
        CloudError: the archive is not the one that was packed, or reaches outside of the folder.
    """
    if sha256_file(archive) != sha256:
        raise CloudError(f"{archive.name} is not the file that was packed.", "Fetch it again.")
    try:
        with tarfile.open(archive) as opened:
            extract(opened, target)
    except tarfile.TarError as error:
        raise CloudError(f"{archive.name} cannot be unpacked: {error}.", "Fetch it again.") from error
