"""The one way from an audio file (wav, flac, ogg, mp3; any rate and channels) to a 16 kHz mono float32 waveform."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt
import soundfile
import soxr

from mondegreen.config import Seconds
from mondegreen.errors import AudioError
from mondegreen.speech.containers import Spliced, inspect

Hertz = int
Waveform = npt.NDArray[np.float32]
Source = Path | str | BinaryIO

SAMPLE_RATE: Hertz = 16_000
SHORTEST: Seconds = 0.025  # one receptive field of the convolutional encoder
SILENCE_PEAK = 1e-4  # -80 dBFS
FORMATS = ("WAV", "WAVEX", "RF64", "FLAC", "OGG", "MP3")
_BLOCK: Seconds = 10.0
_BLOCK_SAMPLES = 4_000_000  # over all channels: a damaged header may claim a thousand of them
_CONVERT = "Convert it, for example with `ffmpeg -i IN -ar 16000 -ac 1 OUT.wav`."
_AGAIN = "Copy or record it again, or leave it out."


class _ForwardFile(soundfile.SoundFile):  # type: ignore[misc]
    """Reads on from where it is.

    soundfile seeks after every read of a seekable file, which a FLAC of unknown length cannot do, and which makes mp3
    decoding complain to stderr.
    """

    def seekable(self) -> bool:
        return False


def load_audio(source: Source, max_duration: Seconds | None = None) -> Waveform:
    """Decodes, averages the channels and resamples.

    Args:
        source: a path, or an open binary file.
        max_duration: longest recording taken; None takes any.

    Returns:
        float32 (num_samples,), 16 kHz.

    Raises:
        AudioError: naming the file; `reason` is one of missing, empty, truncated, not_audio, zero_length, nan,
            too_short, too_long, unreadable.
    """
    with _opened(source) as (file, name):
        return np.concatenate(list(_resampled(file, name, max_duration)))


def stream_windows(source: Source, window: Seconds, overlap: Seconds) -> Iterator[tuple[Seconds, Waveform]]:
    """Cuts a recording of any length into overlapping windows, holding one window in memory.

    Args:
        source: a path, or an open binary file.
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
    with _opened(source) as (file, name):
        for block in _resampled(file, name, None):
            held = np.concatenate([held, block])
            while len(held) >= size:
                yield start / SAMPLE_RATE, held[:size].copy()
                held, start, given = held[size - shared :], start + size - shared, start + size
    if start + len(held) > given:
        yield start / SAMPLE_RATE, held.copy()


def duration_of(source: Source) -> Seconds:
    """Length of a recording by its header, or by decoding it when the header does not say. Raises AudioError."""
    with _opened(source) as (file, name):
        if _header_frames(file):
            return float(_header_frames(file) / file.samplerate)
        return sum(len(block) for block in _resampled(file, name, None)) / SAMPLE_RATE


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
def _opened(source: Source) -> Iterator[tuple[_ForwardFile, str]]:
    """An open, whole, supported audio file and its name for messages."""
    name = str(source if isinstance(source, Path | str) else getattr(source, "name", "the audio stream"))
    if isinstance(source, Path | str) and Path(source).exists() and not Path(source).is_file():
        raise AudioError(f"{name} is not a file.", "Give an audio file.", "unreadable")
    try:
        # Copying an upload to memory makes it seekable.
        with Path(source).open("rb") if isinstance(source, Path | str) else io.BytesIO(source.read()) as stream:
            whole = _whole(stream, name)
            with _decoder_errors(name, stream), _ForwardFile(whole) as file:
                _check_header(file, name)
                yield file, name
    except FileNotFoundError:
        raise AudioError(f"{name} does not exist.", "Check the path.", "missing") from None
    except OSError as error:
        raise AudioError(f"{name} cannot be read: {error.strerror}.", "Check its permissions.", "unreadable") from None


def _whole(stream: BinaryIO, name: str) -> BinaryIO | Spliced:
    """The stream, with a header that says its length; raises AudioError when a part is missing."""
    if not stream.read(1):
        raise AudioError(f"{name} is empty (0 bytes).", _AGAIN, "empty")
    container = inspect(stream)
    if container.missing:
        raise AudioError(f"{name} is truncated: {container.missing}.", _AGAIN, "truncated")
    stream.seek(0)
    return Spliced(stream, container.head, container.skip) if container.head else stream


@contextmanager
def _decoder_errors(name: str, stream: BinaryIO) -> Iterator[None]:
    """Turns the decoder's errors into AudioError: damage when the file starts like audio, else not audio."""
    try:
        yield
    except soundfile.LibsndfileError as error:
        stream.seek(0)
        head = stream.read(4)
        if head in (b"RIFF", b"RIFX", b"RF64", b"fLaC", b"OggS") or head[:3] == b"ID3":
            raise AudioError(f"{name} is truncated or damaged: {error.error_string}", _AGAIN, "truncated") from None
        raise AudioError(
            f"{name} is not audio that can be decoded: {error.error_string}", _CONVERT, "not_audio"
        ) from None


def _check_header(file: _ForwardFile, name: str) -> None:
    if file.format not in FORMATS:
        raise AudioError(f"{name} is {file.format}, not wav, flac, ogg or mp3.", _CONVERT, "not_audio")
    if not 1_000 <= file.samplerate <= 768_000:
        raise AudioError(f"{name} says that its rate is {file.samplerate} Hz.", _CONVERT, "not_audio")


def _header_frames(file: _ForwardFile) -> int:
    """Frames that the header promises, 0 when it does not say (libsndfile then gives a huge number)."""
    return int(file.frames) if 0 < file.frames < 2**48 else 0


def _resampled(file: _ForwardFile, name: str, max_duration: Seconds | None) -> Iterator[Waveform]:
    """Decodes block by block to mono 16 kHz and checks what only decoding shows."""
    rate, decoded, promised = int(file.samplerate), 0, _header_frames(file)
    _check_length(name, promised / rate, max_duration)
    resampler = soxr.ResampleStream(rate, SAMPLE_RATE, 1, dtype="float32", quality="HQ")
    size = int(min(_BLOCK * rate, _BLOCK_SAMPLES / file.channels))
    while len(block := file.read(size, dtype="float32", always_2d=True)):  # (frames, channels)
        if not np.isfinite(block).all():
            second = (decoded + int(np.argmin(np.isfinite(block).all(axis=1)))) / rate
            raise AudioError(
                f"{name} has samples that are not numbers (NaN or infinite), first at {second:.3f} s.", _AGAIN, "nan"
            )
        decoded += len(block)
        _check_length(name, decoded / rate, max_duration)
        mono = block.mean(axis=1, dtype=np.float32)
        yield mono if rate == SAMPLE_RATE else resampler.resample_chunk(mono)
    if rate != SAMPLE_RATE:
        yield resampler.resample_chunk(np.empty(0, np.float32), last=True)
    # An mp3's frames were counted already; its decoder may drop a frame or two of encoder delay.
    if decoded < promised - (4 * 1152 if file.format == "MP3" else 0):
        raise AudioError(f"{name} is truncated: {decoded} of {promised} samples could be decoded.", _AGAIN, "truncated")
    if not decoded:
        raise AudioError(f"{name} holds no samples.", _AGAIN, "zero_length")
    if decoded / rate < SHORTEST:
        raise AudioError(f"{name} is {1000 * decoded / rate:.1f} ms long; 25 ms is the least.", _AGAIN, "too_short")


def _check_length(name: str, duration: Seconds, max_duration: Seconds | None) -> None:
    if max_duration is not None and duration > max_duration:
        raise AudioError(
            f"{name} is longer than {max_duration:g} s ({duration:.1f} s or more).",
            "Cut it, or raise audio.max_duration in params.yaml.",
            "too_long",
        )
