"""The one way from an audio file (wav, flac, ogg, mp3; any rate and channels) to a 16 kHz mono float32 waveform.

Decoders read what is there and keep silent about the rest, so the container is asked whether the file is whole. RIFF:
Microsoft & IBM, Multimedia Programming Interface 1.0; RF64: EBU Tech 3306; Ogg: RFC 3533; MPEG audio: ISO 11172-3.
"""

import io
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
import numpy.typing as npt
import soundfile
import soxr

from mondegreen.config import Seconds
from mondegreen.errors import AudioError

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

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

# Writers to a pipe cannot go back to fill in the size: ffmpeg leaves 0xFFFFFFFF, sox and arecord about 2^31, others 0.
_UNKNOWN_SIZE = 0x7FFF_0000
_LARGEST_OGG_PAGE = 65_307
_OGG_LAST_PAGE = 4
_LAYER_3_KBPS = {
    True: (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),  # MPEG 1
    False: (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),  # MPEG 2 and 2.5
}
_RATES = {3: (44_100, 48_000, 32_000), 2: (22_050, 24_000, 16_000), 0: (11_025, 12_000, 8_000)}


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


def _whole(stream: BinaryIO, name: str) -> "BinaryIO | Spliced":
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


@dataclass(frozen=True)
class Container:
    """What a container says about the file's length.

    `missing` is what it promises and the file lacks, as a clause, "" when nothing seems missing. When the file does
    not say how long it is, `head` says it: to be decoded in place of the first `skip` bytes.
    """

    missing: str = ""
    head: bytes = b""
    skip: int = 0


def inspect(stream: BinaryIO) -> Container:
    """Reads headers only.

    Args:
        stream: seekable, read from its start. FLAC needs no check here: its decoder reports every loss.
    """
    size = stream.seek(0, os.SEEK_END)
    stream.seek(0)
    magic = stream.read(12)
    if magic[:4] in (b"RIFF", b"RIFX", b"RF64"):
        return _inspect_wav(stream, size, magic[:4])
    if magic[:4] == b"OggS":
        return _inspect_ogg(stream, size)
    if magic[:3] == b"ID3" or _mpeg_frame_bytes(magic):
        return _inspect_mp3(stream, size, magic)
    return Container()


class Spliced(io.RawIOBase):
    """`stream` with `head` in place of its first `skip` bytes."""

    def __init__(self, stream: BinaryIO, head: bytes, skip: int) -> None:
        self._stream, self._head, self._skip, self._position = stream, head, skip, 0
        self._size = stream.seek(0, os.SEEK_END) - skip + len(head)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._position = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        return self._position

    def readinto(self, buffer: "WriteableBuffer") -> int:
        view = memoryview(buffer).cast("B")
        if self._position < len(self._head):
            part = self._head[self._position : self._position + len(view)]
        else:
            self._stream.seek(self._position - len(self._head) + self._skip)
            part = self._stream.read(len(view))
        view[: len(part)] = part
        self._position += len(part)
        return len(part)


def _inspect_wav(stream: BinaryIO, size: int, kind: bytes) -> Container:
    order = ">" if kind == b"RIFX" else "<"
    long_size = None
    position = 12
    while position + 8 <= size:
        stream.seek(position)
        name, length = struct.unpack(f"{order}4sI", stream.read(8))
        if name == b"ds64" and position + 24 <= size:
            long_size = struct.unpack("<QQ", stream.read(16))[1]
        if name == b"data":
            promised = long_size if kind == b"RF64" and length == 0xFFFF_FFFF and long_size is not None else length
            there = size - position - 8
            if length == 0 and there:
                stream.seek(0)
                return Container(head=stream.read(position + 4) + b"\xff" * 4, skip=position + 8)
            if there >= promised or (promised == length and length >= _UNKNOWN_SIZE):
                return Container()
            return Container(f"its header promises {promised} bytes of audio, {there} are there")
        position += 8 + length + length % 2
    return Container("it ends before its audio data")


def _inspect_ogg(stream: BinaryIO, size: int) -> Container:
    stream.seek(max(0, size - 2 * _LARGEST_OGG_PAGE))
    tail = stream.read()
    start = len(tail)
    while (start := tail.rfind(b"OggS", 0, start)) >= 0:
        page = tail[start:]
        whole = len(page) >= 27 and len(page) >= 27 + page[26] + sum(page[27 : 27 + page[26]])
        if whole:
            return Container("" if page[5] & _OGG_LAST_PAGE else "its last page is not marked as the end")
        if len(page) < 6 or (page[4] == 0 and page[5] < 8):  # else these four bytes only look like a page
            return Container("its last page is cut")
    return Container("it has no whole page")


def _inspect_mp3(stream: BinaryIO, size: int, magic: bytes) -> Container:
    start = 0
    if magic[:3] == b"ID3":
        start = 10 + sum((byte & 0x7F) << shift for byte, shift in zip(magic[6:10], (21, 14, 7, 0), strict=False))
        if start >= size:
            return Container("it ends before its audio")
    position, frames, first = start, 0, b""
    while position < size:
        stream.seek(position)
        frame = stream.read(4 if frames else 64)
        length = _mpeg_frame_bytes(frame)
        if position + length > size or (len(frame) < 4 and frame[0] == 0xFF):
            return Container("its last frame is cut")
        if not length:
            break  # tags, or damage that the decoder may step over
        first = first or frame
        frames += 1
        position += length
    if not first:
        return Container()
    if promised := _promised_frames(first):  # the frame that holds the promise is not counted in it
        return Container(f"it promises {promised} frames, {frames - 1} are there" if frames - 1 < promised else "")
    return Container(head=_xing_frame(first, frames), skip=start)


def _xing_frame(first: bytes, frames: int) -> bytes:
    """A frame that says how many follow; without one the decoder guesses from the bitrate and stops there."""
    mpeg_1, mono = first[1] >> 3 & 3 == 3, first[3] >> 6 == 3
    header = bytes([0xFF, first[1] | 1, 0x90 | first[2] & 0x0C, first[3]])  # no checksum, no padding, 128 or 80 kbit/s
    side_info = (17 if mono else 32) if mpeg_1 else (9 if mono else 17)
    frame = header + bytes(side_info) + b"Xing" + struct.pack(">II", 1, frames)
    return frame.ljust(_mpeg_frame_bytes(header), b"\0")


def _promised_frames(head: bytes) -> int:
    """The frame count in the Xing/Info header of the first frame, 0 without one."""
    for tag in (b"Xing", b"Info"):
        at = head.find(tag)
        if at > 0 and len(head) >= at + 12 and head[at + 7] & 1:
            return int.from_bytes(head[at + 8 : at + 12], "big")
    return 0


def _mpeg_frame_bytes(head: bytes) -> int:
    """Length of the layer III frame that starts with `head`, 0 when none does."""
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return 0
    version, layer = head[1] >> 3 & 3, head[1] >> 1 & 3
    bitrate, rate = head[2] >> 4, head[2] >> 2 & 3
    if version == 1 or layer != 1 or bitrate in (0, 15) or rate == 3:
        return 0
    mpeg_1 = version == 3
    samples_by_8 = 144 if mpeg_1 else 72
    return samples_by_8 * _LAYER_3_KBPS[mpeg_1][bitrate] * 1000 // _RATES[version][rate] + (head[2] >> 1 & 1)
