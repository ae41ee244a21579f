"""Audio is stored whole or not at all, once, under the hash of its bytes."""

import errno
import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

from mondegreen.cases.blobs import LocalBlobStore
from mondegreen.errors import CaseError, StoreAwayError
from tests.cases.conftest import small_disk

AUDIO = os.urandom(100_000)
DIGEST = hashlib.sha256(AUDIO).hexdigest()


@pytest.fixture
def blobs(tmp_path: Path) -> LocalBlobStore:
    return LocalBlobStore(tmp_path / "blobs")


def files(folder: Path) -> list[str]:
    """Everything below a folder, but for the lock."""
    return sorted(
        str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file() and path.name != ".lock"
    )


def written(path: Path, content: bytes = AUDIO) -> Path:
    path.write_bytes(content)
    return path


def test_a_blob_lies_under_its_hash_and_keeps_its_suffix(blobs: LocalBlobStore, tmp_path: Path) -> None:
    assert blobs.put(written(tmp_path / "Call.FLAC")) == DIGEST
    assert blobs.path(DIGEST) == blobs.folder / DIGEST[:2] / f"{DIGEST}.flac"
    assert blobs.path(DIGEST).read_bytes() == AUDIO and blobs.is_whole(DIGEST)
    assert blobs.path(DIGEST).stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("name", ["b.wav", "b.MP3", "b", "b.oga", "b.tar.gz", "b.not a suffix", ".hidden", "b.ümlaut"])
def test_the_same_bytes_are_one_blob_whatever_they_are_called(blobs: LocalBlobStore, tmp_path: Path, name: str) -> None:
    blobs.put(written(tmp_path / "a.wav"))
    assert blobs.put(written(tmp_path / name)) == DIGEST
    assert len(files(blobs.folder)) == 1 and list(blobs.digests()) == [DIGEST]


@pytest.mark.parametrize("name", ["b", "b.oga", "b.tar.gz", "b.not a suffix", "b.ümlaut", "b.averylongsuffix"])
def test_any_name_is_found_again(blobs: LocalBlobStore, tmp_path: Path, name: str) -> None:
    blobs.put(written(tmp_path / name))
    assert blobs.path(DIGEST).read_bytes() == AUDIO and list(blobs.digests()) == [DIGEST]


def test_storing_again_mends_a_damaged_blob(blobs: LocalBlobStore, tmp_path: Path) -> None:
    source = written(tmp_path / "a.wav")
    blobs.put(source)
    blobs.path(DIGEST).write_bytes(b"rust")
    assert not blobs.is_whole(DIGEST)
    blobs.put(source)
    assert blobs.is_whole(DIGEST)


def test_a_symlink_is_followed_and_what_is_no_file_is_refused(blobs: LocalBlobStore, tmp_path: Path) -> None:
    link = tmp_path / "link.wav"
    link.symlink_to(written(tmp_path / "a.wav"))
    blobs.put(link)
    assert not blobs.path(DIGEST).is_symlink() and blobs.path(DIGEST).read_bytes() == AUDIO
    os.mkfifo(tmp_path / "pipe.wav")
    (tmp_path / "dangling.wav").symlink_to(tmp_path / "gone.wav")
    for odd in (tmp_path, tmp_path / "pipe.wav", tmp_path / "dangling.wav", Path("/dev/null")):
        with pytest.raises(CaseError, match=str(odd)):
            blobs.put(odd)
    assert len(files(blobs.folder)) == 1


def test_a_missing_blob_is_named(blobs: LocalBlobStore) -> None:
    with pytest.raises(CaseError, match=DIGEST):
        blobs.path(DIGEST)
    assert list(blobs.digests()) == []


def test_other_peoples_files_are_no_blobs(blobs: LocalBlobStore, tmp_path: Path) -> None:
    blobs.put(written(tmp_path / "a.wav"))
    written(blobs.folder / "README.txt")
    written(blobs.folder / DIGEST[:2] / "notes.txt")
    written(blobs.folder / DIGEST[:2] / ("0" * 64))  # in the wrong folder
    assert list(blobs.digests()) == [DIGEST]


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_an_error_of_the_disk_leaves_nothing(
    blobs: LocalBlobStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    source = written(tmp_path / "a.wav")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(*((os, "fsync", full) if call == "fsync" else (Path, "replace", full)))
    with pytest.raises(CaseError, match=r"a\.wav.*No space left(.|\n)*Make room"):
        blobs.put(source)
    assert files(blobs.folder) == []


def test_a_full_disk_leaves_nothing_but_an_error(tmp_path: Path) -> None:
    with small_disk(tmp_path / "small", kibibytes=64) as disk:
        blobs = LocalBlobStore(disk / "blobs")
        small = blobs.put(written(tmp_path / "small.wav", b"small"))
        with pytest.raises(CaseError, match=r"a\.wav.*No space left"):
            blobs.put(written(tmp_path / "a.wav"))
        assert list(blobs.digests()) == [small] and len(files(blobs.folder)) == 1
        assert blobs.put(written(tmp_path / "b.wav", b"also small"))


@pytest.mark.parametrize(
    ("number", "call", "away"),
    [
        (errno.EROFS, "tempfile.mkstemp", True),
        (errno.EDQUOT, "os.fsync", True),
        (errno.EIO, "os.fsync", True),
        (errno.EACCES, "mondegreen.cases.blobs.flock", True),
        (errno.EFBIG, "os.fsync", False),
        (errno.EIO, "mondegreen.cases.blobs._source", False),
    ],
)
def test_what_is_no_fault_of_the_recordings_is_told_apart(
    blobs: LocalBlobStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, call: str, away: bool
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    @contextmanager
    def damaged(path: Path) -> Iterator[SimpleNamespace]:
        yield SimpleNamespace(read=broken)

    source = written(tmp_path / "a.wav")
    monkeypatch.setattr(call, damaged if call.endswith("_source") else broken)
    with pytest.raises(CaseError, match=os.strerror(number)) as found:
        blobs.put(source)
    assert isinstance(found.value, StoreAwayError) is away


def test_a_killed_writer_leaves_nothing_that_anybody_sees_and_the_sweep_takes_it(
    blobs: LocalBlobStore, tmp_path: Path
) -> None:
    pipe = tmp_path / "ready"
    os.mkfifo(pipe)
    code = (
        "import sys, time; from pathlib import Path; import mondegreen.cases.blobs as b\n"
        "def stop(*_): Path(sys.argv[3]).write_text('ready'); time.sleep(60)\n"
        "b.os.fsync = stop\n"
        "b.LocalBlobStore(Path(sys.argv[1])).put(Path(sys.argv[2]))"
    )
    source = written(tmp_path / "a.wav")
    writer = subprocess.Popen([sys.executable, "-c", code, str(blobs.folder), str(source), str(pipe)])
    assert pipe.read_text() == "ready"
    sweeper = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys; from pathlib import Path; from mondegreen.cases.blobs import LocalBlobStore as B\n"
            "b = B(Path(sys.argv[1]))\nwith b.alone(): print(b.sweep())",
            str(blobs.folder),
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    time.sleep(0.5)
    assert sweeper.poll() is None  # it waits: the file may yet become a blob
    assert list(blobs.digests()) == [] and len(files(blobs.folder)) == 1
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    assert sweeper.communicate(timeout=30)[0] == "1\n"
    assert files(blobs.folder) == []
