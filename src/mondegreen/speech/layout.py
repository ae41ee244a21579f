"""What was found in a sound file: its parts, what is missing, and the parts as files of their own."""

import io
import os
import re
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import TYPE_CHECKING, BinaryIO

from mondegreen.config import Seconds

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

Piece = bytes | range  # bytes as they are, or where they stand in the file

BLOCK = 1 << 16  # bytes that are read at once
# How wav, ogg and flac begin; 0x80: nothing else stands before the frames.
HEADERS = re.compile(rb"(?:RIFF|RIFX|RF64|BW64)....WAVE|OggS\0|fLaC[\0\x80]\0\0\x22", re.DOTALL)


@dataclass(frozen=True)
class Loss:
    """What the file should hold and does not, as a clause; `seconds` is None when nobody can know how much it was."""

    message: str
    seconds: Seconds | None
    share: float = 0.0  # by bytes, of what the file holds: where the seconds follow from what is heard of it


@dataclass(frozen=True)
class Part:
    """A recording of its own within the file: what a decoder is to read.

    `seconds` is what it should hear; None when the decoder knows that itself.
    """

    pieces: tuple[Piece, ...]
    seconds: Seconds | None = None
    foreign: bool = False  # ffmpeg is to read it
    missing: int = 0  # bytes that should stand behind it, by its own headers
    frames: Seconds = 0.0  # how long its mp3 frames last, of which a decoder leaves out some of the encoder's


@dataclass(frozen=True)
class Layout:
    """The parts in their order, what is missing, and what is wrong but costs nothing (clauses)."""

    parts: list[Part] = field(default_factory=list)
    losses: list[Loss] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


class Spliced(io.RawIOBase):
    """Pieces of `stream` as one file. Several may read the same stream in turn."""

    def __init__(self, stream: BinaryIO, pieces: Sequence[Piece]) -> None:
        self._stream, self._pieces, self._position = stream, pieces, 0
        self._starts = [0, *accumulate(map(len, pieces))]

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._position = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._starts[-1]}[whence]
        return self._position

    def readinto(self, buffer: "WriteableBuffer") -> int:
        view = memoryview(buffer).cast("B")
        index = bisect_right(self._starts, self._position) - 1
        if index >= len(self._pieces):
            return 0
        piece, skip = self._pieces[index], self._position - self._starts[index]
        if isinstance(piece, bytes):
            part = piece[skip : skip + len(view)]
        else:
            self._stream.seek(piece.start + skip)
            part = self._stream.read(min(len(view), len(piece) - skip))
        view[: len(part)] = part
        self._position += len(part)
        return len(part)


def read_at(stream: BinaryIO, position: int, size: int) -> bytes:
    stream.seek(position)
    return stream.read(size)


def joined(ranges: Sequence[range]) -> tuple[Piece, ...]:
    """The same bytes in as few ranges as can be."""
    joined: list[range] = []
    for one in ranges:
        if joined and joined[-1].stop == one.start:
            joined[-1] = range(joined[-1].start, one.stop)
        else:
            joined.append(one)
    return tuple(joined)
