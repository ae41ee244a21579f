"""Features of recordings, computed once and kept on disk, up to so many gigabytes."""

import logging
import os
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open

from mondegreen.errors import UsageError
from mondegreen.files import readable_by_all
from mondegreen.speech.audio import DECODING
from mondegreen.speech.foreign import installed

if TYPE_CHECKING:
    from torch import Tensor

CACHE_FOLDER = Path("var/features")
_ROOM = "MONDEGREEN_FEATURES_GB"
_ROOM_GB = 20.0  # an hour of audio takes 370 MB
_SHARD_BYTES = 64 * 2**20
_UNKEPT = "%s %s: features that find no room are computed each time they are needed."
logger = logging.getLogger(__name__)


def room() -> int:
    """The most bytes that features may take on disk. Raises UsageError when the environment names no number."""
    written = os.environ.get(_ROOM, "")
    try:
        gigabytes = float(written or _ROOM_GB)
    except ValueError:
        gigabytes = -1.0
    if not 0 <= gigabytes < float("inf"):
        raise UsageError(f"{_ROOM}={written} is no number of gigabytes.", f"Set it to {_ROOM_GB:g}, or unset it.")
    return int(gigabytes * 1e9)


def kept_files(folder: Path = CACHE_FOLDER) -> list[tuple[Path, os.stat_result]]:
    """Every file of the cache with its size; the one that was used longest ago first."""
    found = []
    for path in folder.rglob("*"):
        with suppress(FileNotFoundError):  # another process makes room, too
            if path.is_file():
                found.append((path, path.stat()))
    return sorted(found, key=lambda one: (one[1].st_mtime_ns, one[0].name))


class FeatureCache:
    """Features of one encoder, on disk. Reading maps a shard into memory; only the frames that are used are paged in.

    Shards are written under a temporary name and renamed, each with a name of its own: processes may share a folder,
    a crash loses at most the unwritten rest, and a damaged shard is put aside and computed anew.

    Where all that is in `folder` would take more than `room()`, the shards go that were used longest ago, but none that
    this process uses: what it reads again and again would push itself out. What finds no room is computed each time.
    """

    def __init__(self, digest: str, folder: Path = CACHE_FOLDER) -> None:
        pyav = "-av" if installed() else ""  # of some recordings more is heard with it
        self.root, self.folder = folder, folder / f"{digest[:16]}-{DECODING}{pyav}"
        self.hits = self.misses = 0
        self._room = room()
        self._full = False
        self._pending: dict[str, Tensor] = {}
        self._pending_bytes = 0
        self._shards: dict[str, tuple[Path, Any]] = {}  # key -> the open shard that holds it
        self._used: set[Path] = set()
        for path in sorted(self.folder.glob("*.safetensors")):
            self._open(path)

    def get(self, key: str) -> "Tensor | None":
        """The features, float32 (num_frames, feature_dim), or None when they are not here."""
        found = self._pending.get(key)
        if found is None and key in self._shards:
            path, shard = self._shards[key]
            self._use(path)
            found = shard.get_tensor(key)
        self.hits += found is not None
        self.misses += found is None
        return found

    def put(self, key: str, features: "Tensor") -> None:
        """Keeps the features of a recording; they are on disk after `flush` or when a shard is full."""
        if self._full:
            return
        self._pending[key] = features
        self._pending_bytes += features.nbytes
        if self._pending_bytes >= _SHARD_BYTES:
            self.flush()

    def get_or_compute(self, key: str, compute: "Callable[[], Tensor]") -> "Tensor":
        """The features that are here, else those of `compute`, which are kept."""
        features = self.get(key)
        if features is None:
            features = compute()
            self.put(key, features)
        return features

    def flush(self) -> None:
        """Writes what is pending as one shard; where that cannot be, nothing more is kept."""
        from safetensors.torch import save_file

        pending, size = self._pending, self._pending_bytes
        self._pending, self._pending_bytes = {}, 0
        if not pending or not self._make_room(size):
            return
        name = uuid.uuid4().hex
        temporary, path = self.folder / f".{name}.tmp", self.folder / f"{name}.safetensors"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            save_file(pending, temporary)
            readable_by_all(temporary)
            temporary.replace(path)
        except (SafetensorError, OSError) as error:  # a full disk, mostly
            with suppress(OSError):
                temporary.unlink()
            self._full = True
            logger.warning(_UNKEPT, self.folder, f"cannot be written: {error}")
            return
        self._open(path)
        self._use(path)

    def _make_room(self, size: int) -> bool:
        """Removes what was used longest ago until `size` bytes fit in; whether they do."""
        files = kept_files(self.root)
        excess = sum(found.st_size for _, found in files) + size - self._room
        for path, found in files:
            if excess > 0 and path not in self._used:
                path.unlink(missing_ok=True)
                excess -= found.st_size
        self._full = excess > 0
        if self._full:
            logger.warning(_UNKEPT, self.root, f"is full ({_ROOM}, {self._room / 1e9:.3g} GB)")
        return not self._full

    def _use(self, path: Path) -> None:
        if path not in self._used:
            self._used.add(path)
            with suppress(OSError):  # gone by now, or not ours: it is mapped all the same
                os.utime(path)

    def _open(self, path: Path) -> None:
        try:
            shard: Any = safe_open(path, framework="pt")
            self._shards.update(dict.fromkeys(shard.keys(), (path, shard)))
        except FileNotFoundError:  # another process made room, or it may not be read
            if path.exists():
                logger.warning("%s cannot be read; its features are computed anew.", path)
        except (SafetensorError, OSError) as error:
            logger.warning("%s is damaged (%s); its features are computed anew.", path, error)
            with suppress(OSError):  # a folder that is not ours
                path.replace(path.with_suffix(".damaged"))
