"""The one way from an audio file (any container, rate and channels) to a 16 kHz mono float32 waveform.

Wav, flac, ogg and mp3 are read by libsndfile, part by part as `containers` finds them, so that nothing that is there is
passed over; everything else by PyAV (`foreign`). What is not there is warned of, and above a share refused.
"""

import io
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import BinaryIO

import numpy as np
import numpy.typing as npt
import soundfile
import soxr

from mondegreen.config import AudioParams, Channel, Seconds
from mondegreen.errors import AudioError
from mondegreen.speech.channels import Instead, better_channels, channel_of, named_channel
from mondegreen.speech.containers import inspect
from mondegreen.speech.foreign import Block
from mondegreen.speech.layout import Loss
from mondegreen.speech.recording import AGAIN, Hertz, Recording, Warn

Waveform = npt.NDArray[np.float32]
AudioSource = Path | str | BinaryIO

SAMPLE_RATE: Hertz = 16_000
DECODING = 6  # goes up when files are heard otherwise than before: what was computed from them is computed anew
SHORTEST: Seconds = 0.025  # one receptive field of the convolutional encoder
SILENCE_PEAK = 1e-4  # -80 dBFS
MAX_MISSING_SHARE = AudioParams().max_missing_share
_NAMED = 3  # losses in one message
_LOUDEST = 1e12  # of a sample; 32-bit integers written as floats reach 2.1e9, and damaged bits 3e38
logger = logging.getLogger(__name__)


@lru_cache(maxsize=10_000)
def _log(name: str, code: str, message: str) -> None:
    """Says it once a process."""
    logger.warning("%s: %s", name, message)


def _unheard(code: str, message: str) -> None:
    """For whoever asks something else about a recording that is heard anyway."""


def load_audio(
    source: AudioSource,
    max_duration: Seconds | None = None,
    *,
    max_missing_share: float = MAX_MISSING_SHARE,
    warn: Warn | None = None,
) -> Waveform:
    """Decodes, mixes the channels (or takes one) and resamples.

    Args:
        source: a path, or an open binary file. `call.wav#2` is the second channel of call.wav.
        max_duration: longest recording taken; None takes any.
        max_missing_share: most of a recording, 0..1, that may be damaged or not there; 1 for one that was admitted.
        warn: is told of everything that was not heard, and of channels that cancel each other: "incomplete", "header",
            "cancelled". Logged when None.

    Returns:
        float32 (num_samples,), 16 kHz.

    Raises:
        AudioError: naming the file; `reason` is one of missing, empty, truncated, not_audio, zero_length, nan,
            too_short, too_long, no_channel, unreadable.
    """
    with _opened(source, warn) as recording:
        return np.concatenate(list(_resampled(recording, max_duration, max_missing_share)))


def stream_windows(
    source: AudioSource,
    window: Seconds,
    overlap: Seconds,
    *,
    max_missing_share: float = MAX_MISSING_SHARE,
    warn: Warn | None = None,
) -> Iterator[tuple[Seconds, Waveform]]:
    """Cuts a recording of any length into overlapping windows, holding one window in memory.

    Args:
        source: as for `load_audio`, and so are `max_missing_share` and `warn`.
        window: length of a window; the last one may be shorter, never shorter than `overlap`.
        overlap: what two neighbours share.

    Yields:
        Start of the window in the recording, and its samples: float32 (num_samples,), 16 kHz.

    Raises:
        AudioError: as `load_audio`; a fault late in the file is found when the windows before it were given out.
    """
    size, shared = round(window * SAMPLE_RATE), round(overlap * SAMPLE_RATE)
    if not 0 <= shared < size:
        raise ValueError(f"overlap ({overlap} s) must be at least 0 and less than window ({window} s)")
    start, given = 0, 0
    held = np.empty(0, np.float32)
    with _opened(source, warn) as recording:
        for block in _resampled(recording, None, max_missing_share):
            held = np.concatenate([held, block])
            while len(held) >= size:
                yield start / SAMPLE_RATE, held[:size].copy()
                held, start, given = held[size - shared :], start + size - shared, start + size
    if start + len(held) > given:
        yield start / SAMPLE_RATE, held.copy()


def duration_of(
    source: AudioSource, *, max_missing_share: float = MAX_MISSING_SHARE, warn: Warn | None = None
) -> Seconds:
    """Length of a recording by its headers, or by decoding it when they do not say; parameters as for `load_audio`.

    Raises:
        AudioError: as `load_audio`, but for what only decoding finds.
    """
    with _opened(source, warn) as recording:
        promised = recording.promised()
        if recording.layout is None or promised is None:
            return sum(len(block) for block in _resampled(recording, None, max_missing_share)) / SAMPLE_RATE
        _check_losses(recording, promised, recording.layout.losses, max_missing_share)
        return promised


def described(source: AudioSource) -> tuple[Hertz, int, str]:
    """Rate, channels and codec (such as "WAV PCM_16") by the headers of the first part. Raises AudioError."""
    with _opened(source, lambda code, message: None) as recording:
        return recording.described()


def channels_of(source: AudioSource) -> int:
    """How many channels a recording has; of joined ones, the one that has most. Raises AudioError."""
    with _opened(source, _unheard) as recording:
        return recording.channels()


def named_channels(path: Path, channel: Channel) -> list[Path]:
    """The names under which a recording is heard when `audio.channel` is `channel`: itself, or `call.wav#2`.

    A recording with one channel is heard as it is; so is one that cannot be read, which whoever hears it will say.
    """
    if channel == "mix" or channel_of(path)[1] is not None:
        return [path]
    try:
        count = channels_of(path)
    except AudioError:
        return [path]
    if count == 1:
        return [path]
    wanted = {"first": [1], "second": [2]}.get(channel, range(1, count + 1))
    return [named_channel(path, number) for number in wanted]


@contextmanager
def as_file(path: Path) -> Iterator[Path]:
    """The file, or for `call.wav#2` one, for as long as the block lasts, that holds what is heard of that channel."""
    if channel_of(path)[1] is None:
        yield path
        return
    with TemporaryDirectory() as folder:
        alone = Path(folder) / "channel.wav"
        soundfile.write(alone, load_audio(path, max_missing_share=1), SAMPLE_RATE, subtype="PCM_24")
        yield alone


def audio_warnings(waveform: Waveform) -> list[tuple[str, str]]:
    """What is odd about a usable waveform, as (code, message): "silent", "clipped".

    Args:
        waveform: float32 (num_samples,), 16 kHz.
    """
    magnitude = np.abs(waveform)
    if magnitude.max(initial=0.0) < SILENCE_PEAK:
        return [("silent", "every sample is below -80 dBFS: the recording is silent")]
    clipped = float(np.mean(magnitude >= 0.999))
    return [("clipped", f"{clipped:.1%} of the samples are at full scale")] if clipped > 0.01 else []


@contextmanager
def _opened(source: AudioSource, warn: Warn | None) -> Iterator[Recording]:
    """An open file that may hold audio."""
    path, channel = channel_of(source) if isinstance(source, Path | str) else (None, None)
    name = str(source if path else getattr(source, "name", "the audio stream"))
    if channel == 0:
        raise AudioError(f"{name}: channels are counted from 1.", "Name #1 or a later one.", "no_channel")
    try:
        if path and path.exists() and not path.is_file():  # a pipe would be waited for
            raise AudioError(f"{name} is not a file.", "Give an audio file.", "unreadable")
        # Copying an upload to memory makes it seekable.
        with path.open("rb") if path else io.BytesIO(source.read()) as stream:  # type: ignore[union-attr]
            if not stream.read(1):
                raise AudioError(f"{name} is empty (0 bytes).", AGAIN, "empty")
            yield Recording(stream, name, channel, warn or partial(_log, name), inspect(stream))
    except FileNotFoundError:
        raise AudioError(f"{name} does not exist.", "Check the path.", "missing") from None
    except OSError as error:
        problem = f"{name} cannot be read: {error.strerror}."
        raise AudioError(problem, "Check its name and permissions.", "unreadable") from None


def _resampled(recording: Recording, max_duration: Seconds | None, max_missing_share: float) -> Iterator[Waveform]:
    """Decodes block by block to mono 16 kHz and checks what only decoding shows."""
    name, heard, rate, losses = recording.name, 0.0, SAMPLE_RATE, list[Loss]()
    _check_length(name, recording.promised() or 0.0, max_duration)
    resampler, instead, asked = None, None, recording.channel is not None
    for number, (block_rate, block) in enumerate(recording.blocks(losses.append)):
        if not (sound := np.abs(block) <= _LOUDEST).all():  # NaN is not
            second = heard + int(np.argmin(sound.all(axis=1))) / block_rate
            what = "samples that are not numbers (NaN, infinite or beyond any scale)"
            raise AudioError(f"{name} has {what}, first at {second:.3f} s.", AGAIN, "nan")
        if not asked and block.shape[1] > 1:
            instead, asked = _instead_of_the_mix(recording), True
        heard += len(block) / block_rate
        _check_length(name, heard, max_duration)
        if block_rate != rate:
            if resampler:
                yield resampler.resample_chunk(np.empty(0, np.float32), last=True)
            rate = block_rate
            resampler = soxr.ResampleStream(rate, SAMPLE_RATE, 1, dtype="float32", quality="HQ")
        mono = _mono(block, instead.channels.get(number) if instead else None, recording)
        yield resampler.resample_chunk(mono) if resampler and rate != SAMPLE_RATE else mono
    if resampler and rate != SAMPLE_RATE:
        yield resampler.resample_chunk(np.empty(0, np.float32), last=True)
    _check_losses(recording, heard, losses, max_missing_share)


def _mono(block: Block, better: int | None, recording: Recording) -> Waveform:
    """The channel that was asked for, or the better one, or the mix."""
    if recording.channel is not None and recording.channel > block.shape[1]:
        raise AudioError(
            f"{recording.name}: there is no channel {recording.channel}; the recording, or a part of it, has "
            f"{block.shape[1]} in all.",
            "Name one of them (FILE#1), or leave the number away.",
            "no_channel",
        )
    wanted = better if recording.channel is None else recording.channel - 1
    if wanted is None:
        mixed: Waveform = block.mean(axis=1, dtype=np.float32)
        return mixed
    return np.ascontiguousarray(block[:, wanted])


def _instead_of_the_mix(recording: Recording) -> Instead | None:
    """The channels to hear where the mix would cancel."""
    found = better_channels(recording.blocks(lambda loss: None))
    if found:
        where = "" if found.everywhere else f" in a part of it ({found.seconds:.1f} s)"
        said = f"its channels cancel each other{where} (mixed, {min(found.below, 99):.0f} dB of the speech are gone)"
        heard = " and ".join(str(channel + 1) for channel in sorted({*found.channels.values()}))
        recording.warn("cancelled", f"{said}: channel {heard} was heard" + ("" if found.everywhere else " there"))
    return found


def _check_losses(recording: Recording, heard: Seconds, losses: list[Loss], max_missing_share: float) -> None:
    name = recording.name
    seconds = [loss.share * heard if loss.seconds is None else loss.seconds for loss in losses]
    missing = sum(seconds)
    clauses = [loss.message + (f" ({lost:.3f} s)" if lost else "") for loss, lost in zip(losses, seconds, strict=True)]
    said = "; ".join([*clauses[:_NAMED], *([f"and {len(clauses) - _NAMED} more"] if len(clauses) > _NAMED else [])])
    if losses and not heard:
        raise AudioError(f"{name} is truncated: {said}.", AGAIN, "truncated")
    if not heard:
        raise AudioError(f"{name} holds no samples.", AGAIN, "zero_length")
    if missing > max_missing_share * (heard + missing):
        raise AudioError(
            f"{name} is truncated or damaged: {said}; {missing:.2f} of {heard + missing:.2f} s are missing.",
            f"{AGAIN} audio.max_missing_share ({max_missing_share:g}) in params.yaml takes what is there.",
            "truncated",
        )
    if heard < SHORTEST - 1e-9:
        raise AudioError(f"{name} is {1000 * heard:.1f} ms long; 25 ms is the least.", AGAIN, "too_short")
    if losses:
        recording.warn("incomplete", f"{said}; what is there was heard")
    for note in recording.layout.notes if recording.layout else ():
        recording.warn("header", note)


def _check_length(name: str, duration: Seconds, max_duration: Seconds | None) -> None:
    if max_duration is not None and duration > max_duration + 1e-6:  # blocks are added up
        raise AudioError(
            f"{name} is longer than {max_duration:g} s ({duration:.1f} s or more).",
            "Cut it, or raise audio.max_duration in params.yaml.",
            "too_long",
        )
