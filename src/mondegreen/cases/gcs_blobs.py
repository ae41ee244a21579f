"""Audio in a Google Cloud Storage bucket, with a local copy of what was used here."""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from pathlib import Path, PurePosixPath

from mondegreen.cases.blobs import LocalBlobStore
from mondegreen.errors import CaseError
from mondegreen.files import sha256_file
from mondegreen.gcs import Bucket

_FOLDER = "blobs"
_SETTLED = timedelta(hours=1)  # a younger object may belong to a case that another machine is about to store


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
            target = self.cache.folder / f".verify-{sha256}"
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

    def sweep(self) -> int:
        leftovers = list(self.cache.folder.glob(".verify-*"))
        for path in leftovers:
            path.unlink(missing_ok=True)
        return len(leftovers) + self.cache.sweep()  # the bucket has none: an object appears whole

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
