"""What libsndfile cannot read (m4a, webm, amr, wma, the sound of videos …), through PyAV where that is installed."""

from collections.abc import Callable, Iterator
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mondegreen.config import Seconds
from mondegreen.speech.layout import Loss, Spliced

if TYPE_CHECKING:
    import av

Block = npt.NDArray[np.float32]  # (frames, channels)
INSTALL = "`pip install 'mondegreen[av]'` makes it readable"
_GAP: Seconds = 0.05
_BARE = ("aac", "amr", "mp3", "ac3", "eac3", "dts", "loas")  # frames one after the other, without a container
_HEAD = 9  # bytes before the first frame: "#!AMR-WB" and a line feed
_NO_LENGTH = (*_BARE, "flac", "ogg")  # ffmpeg guesses it from the bitrate


def installed() -> bool:
    """Whether the extra `mondegreen[av]` is there."""
    return find_spec("av") is not None


def described(stream: Spliced) -> tuple[int, int, str]:
    """Rate, channels and codec of the first sound track; ImportError without PyAV, ValueError as for `blocks`."""
    import av

    try:
        with av.open(stream, "r", metadata_errors="ignore") as container:
            if not container.streams.audio:
                raise ValueError("it holds no sound")
            track = container.streams.audio[0]
            container_name = container.format.name.split(",")[0]
            return track.rate or 0, track.channels, f"{container_name} {track.codec_context.name}".upper()
    except av.FFmpegError as error:
        raise ValueError(error.strerror) from None


def blocks(stream: Spliced, lose: Callable[[Loss], None], missing: int = 0) -> Iterator[tuple[int, Block]]:
    """Decodes the first sound track.

    Args:
        lose: is told what the file should hold and what could not be decoded.
        missing: bytes that should follow it.

    Yields:
        The rate, and float32 (frames, channels).

    Raises:
        ValueError: it is nothing that ffmpeg knows, or holds no sound.
    """
    import av

    try:
        with av.open(stream, "r", metadata_errors="ignore") as container:
            if not container.streams.audio:
                raise ValueError("it holds no sound")
            yield from _track(container, lose, missing)
    except av.FFmpegError as error:
        raise ValueError(error.strerror) from None


def _track(
    container: "av.container.InputContainer", lose: Callable[[Loss], None], missing: int
) -> Iterator[tuple[int, Block]]:
    import av

    track = container.streams.audio[0]
    if len(container.streams.audio) > 1:
        lose(Loss(f"it holds {len(container.streams.audio)} sound tracks, of which the first was heard", 0.0))
    heard, lost, read, next_time = 0.0, 0.0, 0, None
    packets = container.demux(track)
    while True:
        try:
            packet = next(packets, None)
        except av.FFmpegError as error:
            lose(Loss(f"it cannot be read on at {heard:.2f} s ({error.strerror})", None))
            break
        if packet is None:
            break
        read += packet.size
        try:
            frames = packet.decode()
        except av.FFmpegError:
            seconds = float((packet.duration or 0) * (packet.time_base or 0))
            lose(Loss(f"{packet.size} bytes at {heard:.2f} s cannot be decoded", seconds or None))
            lost += seconds
            next_time = None
            continue
        for frame in frames:
            if next_time is not None and frame.time is not None and frame.time - next_time > _GAP:
                lose(Loss(f"nothing is stored at {heard:.2f} s", frame.time - next_time))
                lost += frame.time - next_time
            next_time = None if frame.time is None else frame.time + frame.samples / frame.sample_rate
            heard += frame.samples / frame.sample_rate
            yield frame.sample_rate, _samples(frame)
    dropped = container.size - read - _HEAD
    if container.format.name in _BARE and read and dropped / read * heard > _GAP:  # or tags: nobody says which
        lose(Loss(f"{dropped} bytes of it are no sound, about {dropped / read * heard:.2f} s", None))
    promised = _promised(container, track)
    if promised - heard - lost > _GAP:
        lose(Loss(f"its header says {promised:.2f} s, {heard:.2f} s are there", promised - heard - lost))
    elif missing:
        lose(Loss(f"{missing} bytes are missing at its end", None, missing / container.size))


def _promised(container: "av.container.InputContainer", track: "av.AudioStream") -> Seconds:
    """How long the track is by its header, 0 when that does not say."""
    if container.format.name in _NO_LENGTH:
        return 0.0
    if track.duration and track.time_base:
        return float(track.duration * track.time_base)
    return float(container.duration or 0) / 1e6 if len(container.streams) == 1 else 0.0


def _samples(frame: Any) -> Block:
    """Float32 (frames, channels), full scale at 1."""
    samples: npt.NDArray[Any] = frame.to_ndarray()  # (channels, frames), or (1, frames times channels)
    if not frame.format.is_planar:
        samples = samples.reshape(frame.samples, -1).T
    middle = 128 if samples.dtype == np.uint8 else 0
    scale = 1.0 if samples.dtype.kind == "f" else (128.0 if middle else -float(np.iinfo(samples.dtype).min))
    found: Block = (samples.T.astype(np.float32) - middle) / np.float32(scale)
    return found
