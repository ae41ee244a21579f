"""Where a file ends that has another one behind it: of kinds of which ffmpeg would hear the first and stop.

MP4 and QuickTime: ISO 14496-12, section 4.2; AIFF: Apple, Audio Interchange File Format 1.3; CAF: Apple Core Audio
Format; ASF: Microsoft, Advanced Systems Format 01.20.06; Wave64: Sony Pictures Digital; AMR: RFC 4867, section 5.
"""

import os
import re
from collections.abc import Callable
from typing import BinaryIO

_ASF = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
_WAVE64 = bytes.fromhex("726966662e91cf11a5d628db04c10000")
_AMR = re.compile(rb"#!AMR(?:-WB)?\n")
_BEGINNING = re.compile(
    rb"\0\0..ftyp|FORM....AIF[FC]|caff\0\x01|#!AMR(?:-WB)?\n|\x1aE\xdf\xa3|\.snd\0\0|NIST_1A\n|%b|%b"
    % (re.escape(_ASF), re.escape(_WAVE64)),
    re.DOTALL,
)
_BLOCK = 1 << 16
Length = Callable[[bytes], int | None]  # of what begins with these 24 bytes; None: to the end of the file, 0: nothing


def begins(head: bytes) -> bool:
    """Whether a file of a kind that ffmpeg reads starts with these 24 bytes."""
    return bool(_BEGINNING.match(head))


def end_of(stream: BinaryIO, start: int) -> int:
    """Where the file ends that starts there; where the stream does, if ffmpeg reads on or nobody knows.

    It is behind the end of the stream when the file says that it is longer.
    """
    size = stream.seek(0, os.SEEK_END)
    head = _at(stream, start)
    if _AMR.match(head):
        return _next_amr(stream, start + 1, size)
    if head[4:8] == b"ftyp":
        return _walk(stream, start, size, _box)
    length_of = _KINDS.get(head[:4])
    return _walk(stream, start, size, length_of) if length_of else size


def _at(stream: BinaryIO, position: int, size: int = 24) -> bytes:
    stream.seek(position)
    return stream.read(size)


def _walk(stream: BinaryIO, start: int, size: int, length_of: Length) -> int:
    """Behind the last of the pieces that a file consists of, each of which says its length."""
    position = start
    while position < size:
        head = _at(stream, position)
        if position > start and begins(head):
            break
        length = length_of(head)
        if not length:
            return position if length == 0 and position > start else size
        position += length
    return position


def _box(head: bytes) -> int | None:
    length, name = int.from_bytes(head[:4], "big"), head[4:8]
    if not _printable(name) or length == 0:
        return None if name == b"mdat" else 0
    length = int.from_bytes(head[8:16], "big") if length == 1 else length
    return length if length >= 8 else 0


def _aiff_chunk(head: bytes) -> int:
    if head[:4] == b"FORM":
        return 12  # its own size is often wrong, and ffmpeg does not ask it
    length = int.from_bytes(head[4:8], "big")
    return 8 + length + length % 2 if _printable(head[:4]) else 0


def _caf_chunk(head: bytes) -> int | None:
    if head[:4] == b"caff":
        return 8
    length = int.from_bytes(head[4:12], "big", signed=True)
    if not _printable(head[:4]):
        return 0
    return 12 + length if length >= 0 else None  # -1: it was never filled in


def _asf_object(head: bytes) -> int:
    length = int.from_bytes(head[16:24], "little")
    return length if length >= 24 else 0


def _wave64_chunk(head: bytes) -> int:
    if head[:16] == _WAVE64:
        return 40
    length = int.from_bytes(head[16:24], "little")
    return -(-length // 8) * 8 if length >= 24 else 0


_KINDS: dict[bytes, Length] = {
    b"FORM": _aiff_chunk,
    b"caff": _caf_chunk,
    _ASF[:4]: _asf_object,
    _WAVE64[:4]: _wave64_chunk,
}


def _printable(name: bytes) -> bool:
    return len(name) == 4 and all(0x20 <= byte < 0x7F for byte in name)


def _next_amr(stream: BinaryIO, position: int, size: int) -> int:
    """Nothing says how long it is, so that the next header is looked for."""
    while position < size:
        block = _at(stream, position, _BLOCK)
        if found := _AMR.search(block):
            return position + found.start()
        position += max(1, len(block) - 8)
    return size
