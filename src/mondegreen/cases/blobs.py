"""Audio under the hash of its bytes, so that it is whole or absent: in a folder, or in a bucket of Google's."""

import errno
import hashlib
import os
import re
import stat
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Protocol

from mondegreen.errors import CaseError, StoreAwayError
from mondegreen.files import flock, sha256_file, sync
from mondegreen.gcs import Bucket

_NAME = re.compile(r"([0-9a-f]{64})((?:\.[a-z0-9]{1,8})?)")
_USUAL = (".wav", ".flac", ".mp3", ".ogg", ".opus", "")  # looked for first, so that no folder need be listed
_TEMPORARY = ".writing-"  # how the names of files begin that are being written
_VERIFIED = ".verify-"  # and of those that are fetched to be hashed
_FOLDER = "blobs"  # in a bucket
_SETTLED = timedelta(hours=1)  # a younger object may belong to a case that another machine is about to store
_CHUNK = 1 << 20


class BlobStore(Protocol):
    """Where audio lies. What a caller holds is the sha256 of the bytes."""

    def put(self, source: Path) -> str:
        """Keeps a copy and returns its sha256; the same bytes again are the same blob. Raises CaseError."""

    def path(self, sha256: str) -> Path:
        """A local file with these bytes. Raises CaseError when there is none."""

    def writing(self) -> AbstractContextManager[None]:
        """Held from before `put` until the blob's row is committed: meanwhile nothing is swept."""

    def alone(self) -> AbstractContextManager[None]:
        """Held to sweep; waits until nobody is writing."""

    def digests(self) -> Iterator[str]:
        """The sha256 that each blob should have."""

    def is_whole(self, sha256: str) -> bool:
        """Whether the bytes still have that sha256. Raises CaseError when there are none."""

    def delete(self, sha256: str) -> bool:
        """Removes a blob, and says whether: one that somebody may be writing is spared. Only while `alone`."""

    def erase(self, sha256: str) -> int:
        """Removes every copy of a blob, however young, and says how many there were. Only while `alone`."""

    def sweep(self) -> int:
        """Removes what killed writers left half done, and says how many; only while `alone`."""


class LocalBlobStore:
    """Blobs in `folder/ab/<sha256><suffix>`. The suffix is the source's, lower case, for decoders and players."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def put(self, source: Path) -> str:
        """Copies a file (or what a symlink leads to) and returns its sha256.

        A blob that is there already is written anew, which mends one that was damaged.

        Raises:
            CaseError: the source cannot be read or is no regular file. Nothing is left then.
            StoreAwayError: of these, where it is no fault of the source's: the disk is full, say.
        """
        with self.writing(), _source(source) as stream:
            try:
                handle, name = tempfile.mkstemp(dir=self.folder, prefix=_TEMPORARY)
                temporary = Path(name)
                try:
                    sha256 = _copy(source, stream, handle)
                    temporary.chmod(0o644)
                    target = self._find(sha256, source.suffix) or self._place(sha256, source.suffix)
                    temporary.replace(target)
                finally:
                    temporary.unlink(missing_ok=True)
                sync(target.parent)
            except OSError as error:
                raise _refused(f"{source} cannot be stored in {self.folder}", error) from error
            return sha256

    def path(self, sha256: str) -> Path:
        found = self._find(sha256) or next((self.folder / sha256[:2]).glob(f"{sha256}*"), None)
        if found is None:
            raise CaseError(
                f"The audio {sha256} is not in {self.folder}.",
                "Run `mondegreen cases verify` to see what else is missing, and add the recording again.",
            )
        return found

    def writing(self) -> AbstractContextManager[None]:
        return self._locked(shared=True)

    def alone(self) -> AbstractContextManager[None]:
        return self._locked(shared=False)

    def digests(self) -> Iterator[str]:
        for folder in sorted(self.folder.glob("[0-9a-f][0-9a-f]")):
            names = (_NAME.fullmatch(path.name) for path in folder.iterdir())
            yield from sorted({name[1] for name in names if name and name[1].startswith(folder.name)})

    def is_whole(self, sha256: str) -> bool:
        try:
            return sha256_file(self.path(sha256)) == sha256
        except OSError:
            return False

    def delete(self, sha256: str) -> bool:
        self.path(sha256).unlink()
        return True

    def erase(self, sha256: str) -> int:
        copies = list((self.folder / sha256[:2]).glob(f"{sha256}*"))
        for path in copies:
            path.unlink(missing_ok=True)
        return len(copies)

    def sweep(self) -> int:
        return _swept(self.folder, _TEMPORARY)

    def _find(self, sha256: str, suffix: str = "") -> Path | None:
        """The blob, when its suffix is a usual one or `suffix`."""
        stem = self.folder / sha256[:2] / sha256
        return next((path for end in (*_USUAL, _clean(suffix)) if (path := Path(f"{stem}{end}")).is_file()), None)

    def _place(self, sha256: str, suffix: str) -> Path:
        folder = self.folder / sha256[:2]
        if not folder.is_dir():
            folder.mkdir(exist_ok=True)
            sync(self.folder)
        return folder / f"{sha256}{_clean(suffix)}"

    @contextmanager
    def _locked(self, shared: bool) -> Iterator[None]:
        with ExitStack() as stack:
            try:
                stack.enter_context(flock(self.folder / ".lock", shared=shared))
            except OSError as error:
                raise _refused(f"{self.folder} cannot be used", error) from error
            yield


def _swept(folder: Path, prefix: str) -> int:
    leftovers = list(folder.glob(f"{prefix}*"))
    for path in leftovers:
        path.unlink(missing_ok=True)
    return len(leftovers)


def _clean(suffix: str) -> str:
    lowered = suffix.lower()
    return lowered if _NAME.fullmatch("0" * 64 + lowered) else ""


@contextmanager
def _source(path: Path) -> Iterator[BinaryIO]:
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # a pipe would make us wait
    except OSError as error:
        raise _unreadable(path, error) from None
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise CaseError(f"{path} is not a file.", "Give an audio file.")
    with os.fdopen(handle, "rb") as stream:
        yield stream


def _unreadable(path: Path, error: OSError) -> CaseError:
    return CaseError(f"{path} cannot be read: {error.strerror}.", "Check the path and its permissions.")


def _chunks(path: Path, stream: BinaryIO) -> Iterator[bytes]:
    try:
        while chunk := stream.read(_CHUNK):
            yield chunk
    except OSError as error:  # its own fault, unlike whatever happens while it is written
        raise _unreadable(path, error) from error


def _copy(source: Path, stream: BinaryIO, handle: int) -> str:
    """Copies and hashes chunk by chunk; on the disk when it returns."""
    digest = hashlib.sha256()
    with os.fdopen(handle, "wb") as target:
        for chunk in _chunks(source, stream):
            digest.update(chunk)
            target.write(chunk)
        target.flush()
        os.fsync(target.fileno())
    return digest.hexdigest()


def _refused(what: str, error: OSError) -> CaseError:
    """The disk would refuse any other audio as well, unless it is this one that is too large for it."""
    kind = CaseError if error.errno == errno.EFBIG else StoreAwayError
    return kind(f"{what}: {error.strerror}.", "Make room, or check the permissions; nothing of it was kept.")


class GcsBlobStore:
    """Blobs in `<prefix>/blobs/ab/<sha256><suffix>` of a bucket.

    The bucket is the truth. The local folder is a cache that can be thrown away: a blob is verified against its sha256
    when it comes in, so that a damaged object is an error and never somebody else's audio.

    Args:
        bucket: where they lie.
        cache: a folder of this machine.
    """

    def __init__(self, bucket: Bucket, cache: Path) -> None:
        self.bucket, self.cache = bucket, LocalBlobStore(cache)

    def put(self, source: Path) -> str:
        """Keeps a copy here and in the bucket and returns its sha256.

        Raises:
            CaseError: the source cannot be read, or the disk is full.
            CloudError: the bucket refuses; the copy in the cache is no blob without it.
        """
        sha256 = self.cache.put(source)
        local = self.cache.path(sha256)
        self.bucket.upload(local, self._object(sha256) or f"{_stem(sha256)}{local.suffix}")
        return sha256

    def path(self, sha256: str) -> Path:
        """A local file with these bytes, downloaded when it is not here yet. Raises CaseError, CloudError."""
        try:
            return self.cache.path(sha256)
        except CaseError:
            name = self._required(sha256)
        with self.cache.writing():
            target = self.cache.folder / sha256[:2] / PurePosixPath(name).name
            self.bucket.download(name, target)
            if sha256_file(target) != sha256:
                target.unlink()
                raise CaseError(
                    f"{self.bucket.uri(name)} does not hold the bytes that its name says.",
                    "Add the recording again, which mends it, or delete the object.",
                )
        return target

    def writing(self) -> AbstractContextManager[None]:
        """Keeps sweepers of this machine away; `delete` spares what other machines may be writing."""
        return self.cache.writing()

    def alone(self) -> AbstractContextManager[None]:
        return self.cache.alone()

    def digests(self) -> Iterator[str]:
        yield from sorted({PurePosixPath(name).stem for name in self.bucket.names(f"{_FOLDER}/")})

    def is_whole(self, sha256: str) -> bool:
        """Reads the object itself: a good copy in the cache says nothing about the bucket."""
        name = self._required(sha256)
        with self.cache.writing():
            target = self.cache.folder / f"{_VERIFIED}{sha256}"
            try:
                self.bucket.download(name, target)
                return sha256_file(target) == sha256
            finally:
                target.unlink(missing_ok=True)

    def delete(self, sha256: str) -> bool:
        young = datetime.now(UTC) - _SETTLED
        if any(blob.time_created and blob.time_created > young for blob in self.bucket.find(_stem(sha256))):
            return False
        for name in self.bucket.names(_stem(sha256)):
            self.bucket.delete(name)
        return True

    def erase(self, sha256: str) -> int:
        names = list(self.bucket.names(_stem(sha256)))
        for name in names:
            self.bucket.delete(name)
        self.cache.erase(sha256)
        return len(names)

    def sweep(self) -> int:
        # The bucket has none: an object appears whole.
        return _swept(self.cache.folder, _VERIFIED) + self.cache.sweep()

    def _object(self, sha256: str) -> str | None:
        return next(iter(self.bucket.names(_stem(sha256))), None)

    def _required(self, sha256: str) -> str:
        if name := self._object(sha256):
            return name
        raise CaseError(
            f"The audio {sha256} is not in {self.bucket.uri(_FOLDER)}.",
            "Run `mondegreen cases verify` to see what else is missing, and add the recording again.",
        )


def _stem(sha256: str) -> str:
    return f"{_FOLDER}/{sha256[:2]}/{sha256}"
