"""What a recording is, seen once: decoded, hashed and measured, several at a time."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict

from mondegreen.compute import Undone, in_order, map_shards, seen_here
from mondegreen.config import AudioParams, ComputeParams, Seconds
from mondegreen.errors import AudioError, MondegreenError
from mondegreen.speech.audio import SAMPLE_RATE, audio_warnings, described, load_audio
from mondegreen.speech.channels import content_digest
from mondegreen.speech.recording import Hertz

_FEW = 100  # recordings that are done before other processes have started
_CHUNK = 16
_PART = 256  # recordings of a shard


class Examined(BaseModel):
    """A recording as it was decoded; where `reason` says why it could not be, the numbers are 0."""

    model_config = ConfigDict(frozen=True)
    path: str
    sha256: str = ""
    seconds: Seconds = 0.0
    rate: Hertz = 0  # of the file
    channels: int = 0
    codec: str = ""  # such as "WAV PCM_16"
    clipped: float = 0.0  # share of the samples at full scale
    warnings: tuple[tuple[str, str], ...] = ()  # (code, message)
    reason: str = ""
    message: str = ""


def examine(path: Path, audio: AudioParams) -> Examined:
    """Decodes a recording and says what it is.

    Args:
        audio: one longer than `max_duration` is "too_long"; its rate, channels and codec are known all the same.
    """
    name, warnings, kind = path.as_posix(), list[tuple[str, str]](), _kind(path)
    try:
        waveform = load_audio(
            path,
            audio.max_duration,
            max_missing_share=audio.max_missing_share,
            warn=lambda code, message: warnings.append((code, message)),
        )
        digest = content_digest(path)
    except AudioError as error:
        return Examined(path=name, reason=error.reason, message=str(error), **kind)
    return Examined(
        path=name,
        sha256=digest,
        seconds=round(len(waveform) / SAMPLE_RATE, 6),
        clipped=round(float(np.mean(np.abs(waveform) >= 0.999)), 6),
        warnings=(*warnings, *audio_warnings(waveform)),
        **kind,
    )


def _kind(path: Path) -> dict[str, Any]:
    """Rate, channels and codec by the file's headers; nothing where they cannot be read."""
    with suppress(AudioError):
        rate, channels, codec = described(path)
        return {"rate": rate, "channels": channels, "codec": codec}
    return {}


def examine_all(paths: Sequence[Path], audio: AudioParams, workers: "int | ComputeParams" = 1) -> Iterator[Examined]:
    """The recordings in their order.

    Args:
        audio: max_duration and max_missing_share are read.
        workers: processes, or a cluster; a few recordings are looked at in this one.

    Raises:
        MondegreenError: a process was ended from outside.
    """
    look = partial(examine, audio=audio)
    if isinstance(workers, ComputeParams):
        yield from _examine_elsewhere(paths, look, workers)
        return
    if workers < 2 or len(paths) < _FEW:
        yield from map(look, paths)
        return
    # Not forked: the parent may hold threads and locks, of a progress bar for one.
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        try:
            yield from pool.map(look, paths, chunksize=_CHUNK)
        except BrokenProcessPool:
            raise MondegreenError(
                "A process that decoded recordings was ended from outside.", "Was the memory full? Run it again."
            ) from None
        finally:
            pool.shutdown(cancel_futures=True)


def _examine_elsewhere(paths: Sequence[Path], look: partial[Examined], compute: ComputeParams) -> Iterator[Examined]:
    """By a cluster, whose workers see the same files."""
    parts = [paths[start : start + _PART] for start in range(0, len(paths), _PART)]
    seen = seen_here(map(str, paths))
    for part in in_order(map_shards(partial(_looker, look=look), parts, compute, shared=seen)):
        if isinstance(part, Undone):
            raise MondegreenError(f"Some recordings were not decoded: {part.why}", "Run it again.")
        yield from part


def _looker(folder: Path | None, look: partial[Examined]) -> Callable[[Sequence[Path]], list[Examined]]:
    return lambda paths: [look(path) for path in paths]


def processes(compute: ComputeParams) -> "int | ComputeParams":
    """How many may work side by side on this machine; or the cluster that is to."""
    if compute.engine == "ray":
        return compute
    return min(8, len(os.sched_getaffinity(0)))
