"""Files by their URL: on this disk, in gs:// and s3:// buckets, and wherever else fsspec reaches. Whole or absent.

gs:// needs the extra `gcp`, s3:// the extra `s3`; credentials are each cloud's own default ones.
"""

import os
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from mondegreen.errors import CloudError, UsageError
from mondegreen.files import write_bytes

# Whose exceptions say that a store is away, refuses, or is not what was named. Not all of them are an OSError.
_CLIENTS = {
    "adlfs",
    "aiohttp",
    "azure",
    "b2sdk",
    "boto3",
    "botocore",
    "databricks",
    "fsspec",
    "ftplib",
    "gcsfs",
    "google",
    "grpc",
    "http",
    "mlflow",
    "paramiko",
    "pyarrow",
    "pysftp",
    "requests",
    "s3fs",
    "s3transfer",
    "urllib3",
}
_EXTRAS = {"gs": "gcp", "gcs": "gcp", "s3": "s3", "s3a": "s3"}
# What changes when a file does, in the words of the clouds and of this disk.
_STAMPS = ("generation", "ETag", "etag", "md5Hash", "crc32c", "mtime", "LastModified", "created")


class Stored(NamedTuple):
    """A file that is there."""

    url: str  # or a path of this disk
    size: int
    stamp: str  # another one where the file was changed; "" where nobody can say


def of_a_client(error: Exception) -> bool:
    """Whether an exception is of a store's client, or of this machine's disk and network; else it is a fault of ours.

    A client that is not installed, which MLflow imports when it is asked for, is one that cannot reach its store.
    """
    if isinstance(error, OSError | EOFError | ImportError):
        return True
    # By the name of the package, so that none is loaded for its exceptions.
    if any(kind.__module__.partition(".")[0] in _CLIENTS for kind in type(error).__mro__):
        return True
    # What a client cannot read, an address or an answer, it says by Python's own ValueError.
    return isinstance(error, ValueError) and _raised_by(error) in _CLIENTS


def _raised_by(error: Exception) -> str:
    """The package, a client's or this one, whose code was running last when `error` was raised; "" for neither."""
    frames = [frame.f_globals.get("__name__", "") for frame, _ in traceback.walk_tb(error.__traceback__)]
    known = [name for name in (frame.partition(".")[0] for frame in frames) if name in {*_CLIENTS, "mondegreen"}]
    return known[-1] if known else ""


def is_url(name: str) -> bool:
    """Whether a name is one of fsspec's, and no path of this disk."""
    return "://" in name


def stored_below(url: str) -> list[Stored]:
    """The file of that name, or the files below it in the order of their names; [] when there is nothing.

    Raises:
        UsageError: fsspec knows no such place, or lacks a package for it.
        CloudError: it cannot be listed.
    """
    with _asking("list", url) as (fs, path):
        fs.invalidate_cache()  # another process may have written since
        found: dict[str, dict[str, Any]] = fs.find(path, detail=True)
        files = [(name, facts) for name, facts in found.items() if facts.get("type") != "directory"]
        return sorted(Stored(fs.unstrip_protocol(name), facts.get("size") or 0, _stamp(facts)) for name, facts in files)


def stored(path: Path) -> Stored:
    """A file of this disk; one that is not there has no bytes."""
    with suppress(OSError):
        found = path.stat()
        return Stored(str(path), found.st_size, str(found.st_mtime_ns))
    return Stored(str(path), 0, "")


def sizes_below(folder: str) -> dict[str, int]:
    """The files below a folder or URL by the end of their name, with their sizes."""
    if not is_url(folder):
        paths = [path for path in Path(folder).rglob("*") if path.is_file()]
        return {path.relative_to(folder).as_posix(): path.stat().st_size for path in paths}
    with _asking("list", folder) as (fs, _):
        start = len(fs.unstrip_protocol(fs._strip_protocol(folder)).rstrip("/")) + 1
    return {item.url[start:]: item.size for item in stored_below(folder)}


def fetch(url: str, target: Path) -> Path:
    """Copies a file to this disk; a path that is there already stays where it is.

    Raises:
        FileNotFoundError: there is none of that name (any more).
        CloudError: it cannot be read.
    """
    if not is_url(url):
        return Path(url)
    with _asking("read", url) as (fs, path):
        fs.get_file(path, str(target))
    return target


def read(urls: Sequence[str]) -> list[bytes]:
    """The contents of several files of one place, in their order.

    Raises:
        CloudError, FileNotFoundError: one cannot be read.
    """
    if not urls or not is_url(urls[0]):
        return [Path(url).read_bytes() for url in urls]
    with _asking("read", urls[0]) as (fs, _):
        found = fs.cat([fs._strip_protocol(url) for url in urls])  # side by side, where that saves time
        return [found[fs._strip_protocol(url)] for url in urls]


def write(url: str, content: bytes) -> None:
    """Writes a file that appears when all of it has arrived. Raises CloudError, or OSError for this disk."""
    if not is_url(url):
        return write_bytes(Path(url), content)
    with _asking("write", url) as (fs, path):
        fs.pipe_file(path, content)


def remove(url: str) -> None:
    """Removes a file; one that is gone already is fine. Raises CloudError, or OSError for this disk."""
    with suppress(FileNotFoundError):
        if not is_url(url):
            return Path(url).unlink()
        with _asking("remove", url) as (fs, path):
            fs.rm_file(path)


@contextmanager
def _asking(what: str, url: str) -> Iterator[tuple[Any, str]]:
    """The filesystem of a URL and the path there. What a cloud's client raises becomes CloudError."""
    import fsspec

    protocol = url.partition("://")[0]
    try:
        fs, path = fsspec.core.url_to_fs(url)
    except ImportError as error:
        extra = _EXTRAS.get(protocol)
        advice = f'Run `pip install "mondegreen[{extra}]"`.' if extra else "Install what it names."
        raise UsageError(f"{url}: {error}.", advice) from None
    except ValueError as error:
        raise UsageError(f"{url}: {error}.", "Name a folder, gs://bucket/folder/ or s3://bucket/folder/.") from None
    except Exception as error:
        raise _refused(what, url, error) from error
    try:
        yield fs, path
    except FileNotFoundError:
        raise
    except Exception as error:  # every cloud's client has exceptions of its own
        raise _refused(what, url, error) from error


def _refused(what: str, url: str, error: Exception) -> CloudError:
    said = str(error).strip().partition("\n")[0] or type(error).__name__
    return CloudError(
        f"Cannot {what} {url}: {said}.", "Check the name, the network and the credentials of the cloud's own client."
    )


def _stamp(facts: dict[str, Any]) -> str:
    return next((str(facts[name]) for name in _STAMPS if facts.get(name)), "")


def joined(folder: str, name: str) -> str:
    """The name of a file in a folder or below a URL."""
    return f"{folder.rstrip('/')}/{name}" if is_url(folder) else os.fspath(Path(folder, name))
