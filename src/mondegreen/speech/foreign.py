"""What libsndfile cannot read (m4a, webm, amr, wma, the sound of videos …), through PyAV where that is installed."""

from collections.abc import Callable, Iterator
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mondegreen.config import Seconds
from mondegreen.speech import bare
from mondegreen.speech.layout import Loss, Spliced

if TYPE_CHECKING:
    import av

Block = npt.NDArray[np.float32]  # (frames, channels)
INSTALL = "`pip install 'mondegreen[av]'` makes it readable"
_GAP: Seconds = 0.05
# ffmpeg guesses their length from the bitrate.
_NO_LENGTH = ("aac", "amr", "mp3", "ac3", "eac3", "dts", "loas", "flac", "ogg")
# What says how long it is, or was looked at before.
_CHECKED = frozenset((
    *("aiff", "asf", "au", "avi", "caf", "flac", "flv", "matroska", "mov", "nistsphere"),
    *("ogg", "sox", "tta", "voc", "w64", "wav", "wtv", "wv", "webm"),
))  # fmt: skip


def installed() -> bool:
    """Whether the extra `mondegreen[av]` is there."""
    return find_spec("av") is not None


def described(stream: Spliced) -> tuple[int, int, str]:
    """Rate, channels and codec of the first sound track; ImportError without PyAV, ValueError as for `blocks`."""
    import av

    try:
        with av.open(stream, "r", metadata_errors="ignore") as container:
            track = _sound(container)
            container_name = container.format.name.split(",")[0]
            return track.rate or 0, track.channels, f"{container_name} {track.codec_context.name}".upper()
    except av.FFmpegError as error:
        raise ValueError(error.strerror) from None


def _sound(container: "av.container.InputContainer") -> "av.AudioStream":
    """The first sound track; ValueError without one, and of one that nobody can decode."""
    if not container.streams.audio:
        raise ValueError("it holds no sound")
    track = container.streams.audio[0]
    if track.codec_context is None:
        raise ValueError("it is written in a way that ffmpeg does not know")
    return track


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
            _sound(container)
            yield from _track(stream, container, lose, missing)
    except av.FFmpegError as error:
        raise ValueError(error.strerror) from None


def _track(
    stream: Spliced, container: "av.container.InputContainer", lose: Callable[[Loss], None], missing: int
) -> Iterator[tuple[int, Block]]:
    import av

    track = container.streams.audio[0]
    _keep_the_last_packet(container)
    if len(container.streams.audio) > 1:
        lose(Loss(f"it holds {len(container.streams.audio)} sound tracks, of which the first was heard", 0.0))
    heard, lost, end, next_time = 0.0, 0.0, 0, None
    packets = container.demux(track)
    while True:
        try:
            packet = next(packets, None)
        except (av.FFmpegError, IndexError) as error:  # the latter: another track begins within it
            lose(Loss(f"it cannot be read on at {heard:.2f} s ({getattr(error, 'strerror', 'damaged')})", None))
            break
        if packet is None:
            break
        end = max(end, (packet.pos or 0) + packet.size)
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
    for loss in _unheard(stream, container, heard, end):
        lose(Loss(loss.message, None) if lost else loss)  # the times told already how many seconds
    promised = _promised(container, track)
    if promised - heard - lost > _GAP:
        lose(Loss(f"its header says {promised:.2f} s, {heard:.2f} s are there", promised - heard - lost))
    elif missing:
        lose(Loss(f"{missing} bytes are missing at its end", None, missing / container.size))


def _keep_the_last_packet(container: "av.container.InputContainer") -> None:
    """ALAC's last packet holds what is left of the sound; ffmpeg takes off what CAF says that it lacks, once more."""
    from av.codec.context import Flags2

    context = container.streams.audio[0].codec_context
    if container.format.name == "caf" and context.name == "alac":
        context.flags2 |= Flags2.skip_manual


def _unheard(stream: Spliced, container: "av.container.InputContainer", heard: Seconds, end: int) -> list[Loss]:
    """What does not show in how long it is."""
    kinds = container.format.name.split(",")
    found = bare.unheard(stream, container.size, kinds[0], container.streams.audio[0].id, heard, end)
    if found is None and not _CHECKED.intersection(kinds):
        return [Loss(f"whether all of a file is there cannot be told of the kind {kinds[0]}", 0.0)]
    return found or []


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
