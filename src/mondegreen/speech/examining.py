"""What a recording is, seen once: decoded, hashed and measured, several at a time."""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict

from mondegreen.config import AudioParams, Seconds
from mondegreen.errors import AudioError, MondegreenError
from mondegreen.speech.audio import SAMPLE_RATE, audio_warnings, described, load_audio
from mondegreen.speech.channels import content_digest
from mondegreen.speech.recording import Hertz

_FEW = 100  # recordings that are done before other processes have started
_CHUNK = 16


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


def examine_all(paths: Sequence[Path], audio: AudioParams, workers: int = 1) -> Iterator[Examined]:
    """The recordings in their order.

    Args:
        audio: max_duration and max_missing_share are read.
        workers: processes; a few recordings are looked at in this one.

    Raises:
        MondegreenError: a process was ended from outside.
    """
    look = partial(examine, audio=audio)
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


def processes() -> int:
    """How many may work side by side on this machine."""
    return min(8, len(os.sched_getaffinity(0)))
