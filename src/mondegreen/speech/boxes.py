"""Where a file ends that has another one behind it: of kinds of which ffmpeg would hear the first and stop.

MP4 and QuickTime: ISO 14496-12, section 4.2; AIFF: Apple, Audio Interchange File Format 1.3; CAF: Apple Core Audio
Format; ASF: Microsoft, Advanced Systems Format 01.20.06; AVI: Microsoft & IBM, Multimedia Programming Interface 1.0;
Wave64: Sony Pictures Digital; AMR: RFC 4867, section 5; FLV: Adobe Flash Video File Format 10.1; WavPack 4 & 5 binary
file format; True Audio: en.true-audio.com; SPHERE: NIST; VOC, SoX and AU: soxformat(7) and its sources; WTV: ffmpeg's
sources.
"""

import re
from collections.abc import Callable
from typing import BinaryIO

from mondegreen.speech.layout import HEADERS, tag_bytes

_ASF = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
_WAVE64 = bytes.fromhex("726966662e91cf11a5d628db04c10000")
_BLOCK = 1 << 16
_UNKNOWN = 0x7F00_0000  # sizes from which on a writer to a pipe could not go back
_HEAD = 32  # bytes
BoxLength = Callable[[bytes], int | None]  # of what begins with these bytes; None: to the end of the file, 0: nothing
End = Callable[[BinaryIO, int, int], int]  # of the file that starts there, in a stream of that size


def begins(head: bytes) -> bool:
    """Whether a file of a kind that ffmpeg reads starts with these 24 bytes."""
    return any(pattern.match(head) for pattern in _KINDS)


def end_of(stream: BinaryIO, start: int, size: int) -> int:
    """Where the file ends that starts there; at `size`, if ffmpeg reads on or nobody knows.

    It is behind that when the file says that it is longer.

    Args:
        size: where the stream ends, or the tags begin that it ends with.
    """
    head = _at(stream, start)
    find = next((find for pattern, find in _KINDS.items() if pattern.match(head)), None)
    return find(stream, start, size) if find else size


def _at(stream: BinaryIO, position: int, size: int = _HEAD) -> bytes:
    stream.seek(position)
    return stream.read(size)


def _number(head: bytes, at: int, size: int, order: str = "<") -> int:
    return int.from_bytes(head[at : at + size], "little" if order == "<" else "big")


def is_chunk_name(name: bytes) -> bool:
    """Whether these are the four characters by which a chunk is called."""
    return len(name) == 4 and all(0x20 <= byte < 0x7F for byte in name)


def _walked(length_of: BoxLength, align: int = 1) -> End:
    """Behind the last of the pieces that a file consists of, each of which says its length.

    Args:
        align: bytes, a multiple of which each piece fills, but for the last one of a file.
    """

    def end(stream: BinaryIO, start: int, size: int) -> int:
        position = start
        while position < size:
            head = _at(stream, position)
            if position > start and begins(head):
                break
            length = length_of(head)
            if not length:
                return position if length == 0 and position > start else size
            position += length
            if position < size:
                position = min(size, position + (start - position) % align)
        return position

    return end


def _searched(pattern: re.Pattern[bytes]) -> End:
    """Nothing says how long it is, so that the next header is looked for."""

    def end(stream: BinaryIO, start: int, size: int) -> int:
        position = start + 1
        while position < size:
            block = _at(stream, position, _BLOCK)
            if found := pattern.search(block):
                return position + found.start()
            position += max(1, len(block) - _HEAD)
        return size

    return end


def _said(length_of: Callable[[BinaryIO, int], int]) -> End:
    """As its header says; ffmpeg reads on behind that, which is right unless another file stands there."""

    def end(stream: BinaryIO, start: int, size: int) -> int:
        length = length_of(stream, start)
        behind = _at(stream, start + length)
        ends = start + length > size or begins(behind) or HEADERS.match(behind) or tag_bytes(behind)
        return start + length if length and ends else size

    return end


def _box(head: bytes) -> int | None:
    length, name = _number(head, 0, 4, ">"), head[4:8]
    if not is_chunk_name(name) or length == 0:
        return None if name == b"mdat" else 0
    length = _number(head, 8, 8, ">") if length == 1 else length
    return length if length >= 8 else 0


def _aiff_chunk(head: bytes) -> int:
    if head[:4] == b"FORM":
        return 12  # its own size is often wrong, and ffmpeg does not ask it
    return 8 + _number(head, 4, 4, ">") if is_chunk_name(head[:4]) else 0


def _caf_chunk(head: bytes) -> int | None:
    if head[:4] == b"caff":
        return 8
    length = int.from_bytes(head[4:12], "big", signed=True)
    if not is_chunk_name(head[:4]):
        return 0
    if length < 0:
        return None if head[:4] == b"data" else 0  # -1: it was never filled in
    return 12 + length


def _asf_object(head: bytes) -> int:
    length = _number(head, 16, 8)
    return length if length >= 24 else 0


def _wave64_chunk(head: bytes) -> int:
    if head[:16] == _WAVE64:
        return 40
    length = _number(head, 16, 8)
    return length if length >= 24 else 0


def _avi_list(head: bytes) -> int | None:
    if head[:4] not in (b"RIFF", b"JUNK"):  # longer ones go on in RIFF chunks of the kind AVIX
        return 0
    length = _number(head, 4, 4)
    return 8 + length if 0 < length < _UNKNOWN else None


def _voc_block(head: bytes) -> int:
    if head[:8] == b"Creative":
        return _number(head, 20, 2)
    return 1 if head[0] == 0 else 4 + _number(head, 1, 3) if head[0] <= 9 else 0


def _wavpack_end(stream: BinaryIO, start: int, size: int) -> int:
    """Behind the last block; the first block of another file counts its samples from 0 again."""
    position = start
    while position < size:
        head = _at(stream, position)
        first = _number(head, 16, 4) == 0 and head[25:26] and head[25] & 8 and _number(head, 20, 4)
        if head[:4] != b"wvpk" or (position > start and first):
            break
        position += 8 + _number(head, 4, 4)
    return position


def _true_audio(stream: BinaryIO, start: int) -> int:
    """Bytes: a header, the length of each frame, and the frames."""
    head = _at(stream, start)
    rate, samples = _number(head, 10, 4), _number(head, 14, 4)
    frames = -(-samples // max(1, 256 * rate // 245))
    table = _at(stream, start + 22, min(4 * frames, 1 << 24))
    lengths = (_number(table, at, 4) for at in range(0, len(table), 4))
    return 22 + 4 * frames + 4 + sum(lengths)


def _sox(stream: BinaryIO, start: int) -> int:
    head = _at(stream, start)
    order = "<" if head[:1] == b"." else ">"
    samples = _number(head, 8, 8, order)
    return 4 + _number(head, 4, 4, order) + 4 * samples if samples else 0


def _sphere(stream: BinaryIO, start: int) -> int:
    head = _at(stream, start, 1 << 14)
    fields = {name: int(value) for name, value in re.findall(rb"\n(\w+) -i (\d+)", head)}
    if b"embedded-" in head or not {b"sample_count", b"sample_n_bytes"} <= fields.keys():
        return 0
    frame = fields[b"sample_n_bytes"] * fields.get(b"channel_count", 1)
    header = head[8:16].strip()
    return int(header) + fields[b"sample_count"] * frame if header.isdigit() else 0


def _au(stream: BinaryIO, start: int) -> int:
    head = _at(stream, start)
    length = _number(head, 8, 4, ">")
    return _number(head, 4, 4, ">") + length if 0 < length < _UNKNOWN else 0


_AMR, _NUT = re.compile(rb"#!AMR(?:-WB)?\n"), re.compile(rb"nut/multimedia container")
_WTV = re.compile(re.escape(bytes.fromhex("b7d800203749da11a64e0007e95ead8d")))
_FLV = re.compile(rb"FLV\x01.\0\0\0\x09", re.DOTALL)
_KINDS: dict[re.Pattern[bytes], End] = {
    re.compile(rb"\0\0..ftyp", re.DOTALL): _walked(_box),
    re.compile(rb"FORM....AIF[FC]", re.DOTALL): _walked(_aiff_chunk, 2),
    re.compile(rb"caff\0\x01"): _walked(_caf_chunk),
    _AMR: _searched(_AMR),
    _NUT: _searched(_NUT),
    _FLV: _searched(_FLV),
    _WTV: _searched(_WTV),
    re.compile(rb"\x1aE\xdf\xa3"): lambda stream, start, size: size,  # Matroska: ffmpeg reads on
    re.compile(re.escape(_ASF)): _walked(_asf_object),
    re.compile(re.escape(_WAVE64)): _walked(_wave64_chunk, 8),
    re.compile(rb"RIFF....AVI ", re.DOTALL): _walked(_avi_list, 2),
    re.compile(rb"Creative Voice File\x1a"): _walked(_voc_block),
    re.compile(rb"wvpk...\0.\x04", re.DOTALL): _wavpack_end,
    re.compile(rb"TTA1[\x01\x02]\0"): _said(_true_audio),
    re.compile(rb"\.SoX...\0|XoS\.\0", re.DOTALL): _said(_sox),
    re.compile(rb"NIST_1A\n"): _said(_sphere),
    re.compile(rb"\.snd\0\0"): _said(_au),
}
