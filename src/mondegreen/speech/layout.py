"""What was found in a sound file: its parts, what is missing, the parts as files of their own, and tags around them.

Tags of players before, between and behind recordings are no sound, and no damage. ID3: id3.org (ID3v1, ID3v2.4 section
3); "TAG+" and Lyrics3 2.00 stand before ID3v1; APE: the APE tags specification of Hydrogenaudio's wiki. The first
version of APE's has no header, and the second need not have one.
"""

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
_LONGEST = 512  # bytes, which tell of any tag that ends there


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


def tag_bytes(head: bytes) -> int:
    """Length of the ID3 or APE tag that starts with these 32 bytes, 0 when none does."""
    if head[:3] == b"ID3" and len(head) >= 10:
        return 10 + _syncsafe(head[6:10]) + (10 if head[5] & 0x10 else 0)  # with a footer
    if head[:8] == b"APETAGEX" and len(head) >= 32:
        # Its length leaves its header out.
        return int.from_bytes(head[12:16], "little") + (32 if head[23] & 0x20 else 0)
    return 128 if head[:3] == b"TAG" else 0


def end_before_tags(stream: BinaryIO) -> int:
    """Where the tags begin that a file ends with; its size when it has none."""
    end = stream.seek(0, os.SEEK_END)
    while end > 0:
        start = max(0, end - _LONGEST)
        stream.seek(start)
        length = _bytes_before(stream.read(end - start))
        if not 0 < length <= end:
            break
        end -= length
    return end


def _bytes_before(tail: bytes) -> int:
    """Length of the tag that ends with these bytes, 0 when none does."""
    if tail[-128:-125] == b"TAG":
        return 128
    if tail[-227:-223] == b"TAG+":
        return 227
    if tail[-9:] == b"LYRICS200" and tail[-15:-9].isdigit():
        return int(tail[-15:-9]) + 15
    if tail[-10:-7] == b"3DI":
        return 20 + _syncsafe(tail[-4:])
    if tail[-32:-24] == b"APETAGEX":
        if tail[-9] & 0x20:  # the header of a tag whose footer stood behind it
            return 32
        return int.from_bytes(tail[-20:-16], "little")  # some promise a header that is not there
    return 0


def _syncsafe(size: bytes) -> int:
    return sum((byte & 0x7F) << shift for byte, shift in zip(size, (21, 14, 7, 0), strict=True))
