"""Is an audio file whole? Decoders read what is there and keep silent about the rest, so this asks the container.

RIFF: Microsoft & IBM, Multimedia Programming Interface 1.0; RF64: EBU Tech 3306; Ogg: RFC 3533; MPEG audio:
ISO 11172-3.
"""

import os
import struct
from typing import BinaryIO

# Writers to a pipe cannot go back to fill in the size: ffmpeg leaves 0xFFFFFFFF, sox and arecord about 2^31, others 0.
_UNKNOWN_SIZE = 0x7FFF_0000
_LARGEST_OGG_PAGE = 65_307
_OGG_LAST_PAGE = 4
_LAYER_3_KBPS = {
    True: (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),  # MPEG 1
    False: (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),  # MPEG 2 and 2.5
}
_RATES = {3: (44_100, 48_000, 32_000), 2: (22_050, 24_000, 16_000), 0: (11_025, 12_000, 8_000)}


def missing_part(stream: BinaryIO) -> str:
    """What the container promises and the file lacks, as a clause ("…"), or "" when nothing seems missing.

    Args:
        stream: seekable; read from its start. FLAC needs no check here: its decoder reports every loss.
    """
    size = stream.seek(0, os.SEEK_END)
    stream.seek(0)
    magic = stream.read(12)
    if magic[:4] in (b"RIFF", b"RIFX", b"RF64"):
        return _missing_in_wav(stream, size, magic[:4])
    if magic[:4] == b"OggS":
        return _missing_in_ogg(stream, size)
    if magic[:3] == b"ID3" or _mpeg_frame_bytes(magic):
        return _missing_in_mp3(stream, size, magic)
    return ""


def _missing_in_wav(stream: BinaryIO, size: int, kind: bytes) -> str:
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
            unknown = promised == length and length >= _UNKNOWN_SIZE
            return (
                ""
                if unknown or there >= promised
                else f"its header promises {promised} bytes of audio, {there} are there"
            )
        position += 8 + length + length % 2
    return "it ends before its audio data"


def _missing_in_ogg(stream: BinaryIO, size: int) -> str:
    stream.seek(max(0, size - 2 * _LARGEST_OGG_PAGE))
    tail = stream.read()
    start = len(tail)
    while (start := tail.rfind(b"OggS", 0, start)) >= 0:
        page = tail[start:]
        whole = len(page) >= 27 and len(page) >= 27 + page[26] + sum(page[27 : 27 + page[26]])
        if whole:
            return "" if page[5] & _OGG_LAST_PAGE else "its last page is not marked as the end"
        if len(page) < 6 or (page[4] == 0 and page[5] < 8):  # else these four bytes only look like a page
            return "its last page is cut"
    return "it has no whole page"


def _missing_in_mp3(stream: BinaryIO, size: int, magic: bytes) -> str:
    position = 0
    if magic[:3] == b"ID3":
        sizes = magic[6:10].ljust(4, b"\0")
        position = 10 + sum((byte & 0x7F) << shift for byte, shift in zip(sizes, (21, 14, 7, 0), strict=True))
    promised, frames = 0, 0
    while position < size:
        stream.seek(position)
        head = stream.read(4 if frames else 64)
        length = _mpeg_frame_bytes(head)
        if not length:
            break
        if position + length > size:
            return "its last frame is cut"
        if not frames:
            promised = _promised_frames(head)
        frames += 1
        position += length
    # The frame that holds the promise is silent and not counted in it.
    return f"it promises {promised} frames, {frames - 1} are there" if frames - 1 < promised else ""


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
