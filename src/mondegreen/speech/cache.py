"""Features that are computed once: memory-mapped shards keyed by the recording's and the encoder's digest."""

import logging
import uuid
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

logger = logging.getLogger(__name__)

CACHE_FOLDER = Path("var/features")
_SHARD_BYTES = 64 * 2**20


class FeatureCache:
    """Features of one encoder, on disk. Reading maps a shard into memory; only the frames that are used are paged in.

    Shards are written under a temporary name and renamed, each with a name of its own: processes may share a folder,
    a crash loses at most the unwritten rest, and a damaged shard is put aside and computed anew.
    """

    def __init__(self, encoder_digest: str, folder: Path = CACHE_FOLDER) -> None:
        self.folder = folder / encoder_digest[:16]
        self.hits = self.misses = 0
        self._pending: dict[str, Tensor] = {}
        self._pending_bytes = 0
        self._shards: dict[str, Any] = {}  # key -> the open shard that holds it
        for path in sorted(self.folder.glob("*.safetensors")):
            self._open(path)

    def get(self, key: str) -> Tensor | None:
        """The features, float32 (num_frames, conv_dim), or None when they are not here."""
        found = self._pending.get(key)
        if found is None and key in self._shards:
            found = self._shards[key].get_tensor(key)
        self.hits += found is not None
        self.misses += found is None
        return found

    def put(self, key: str, features: Tensor) -> None:
        """Keeps the features of a recording; they are on disk after `flush` or when a shard is full."""
        self._pending[key] = features
        self._pending_bytes += features.nbytes
        if self._pending_bytes >= _SHARD_BYTES:
            self.flush()

    def get_or_compute(self, key: str, compute: Callable[[], Tensor]) -> Tensor:
        """The features that are here, else those of `compute`, which are kept."""
        features = self.get(key)
        if features is None:
            features = compute()
            self.put(key, features)
        return features

    def flush(self) -> None:
        """Writes what is pending as one shard."""
        if not self._pending:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        name = uuid.uuid4().hex
        temporary, path = self.folder / f".{name}.tmp", self.folder / f"{name}.safetensors"
        save_file(self._pending, temporary)
        temporary.replace(path)
        self._pending, self._pending_bytes = {}, 0
        self._open(path)

    def _open(self, path: Path) -> None:
        try:
            shard: Any = safe_open(path, framework="pt")
            self._shards.update(dict.fromkeys(shard.keys(), shard))
        except (SafetensorError, OSError) as error:
            logger.warning("%s is damaged (%s); its features are computed anew.", path, error)
            path.replace(path.with_suffix(".damaged"))

    def __enter__(self) -> "FeatureCache":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.flush()
