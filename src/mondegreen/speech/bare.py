"""Sound that does not say how long it is: whether its frames follow each other, and what lies between them.

ADTS and LOAS: ISO 14496-3, 1.A.2 and 1.7; AC-3 and E-AC-3: ETSI TS 102 366; MPEG audio of the layers I and II: ISO
11172-3 and 13818-3; AMR: RFC 4867, section 5; MPEG program and transport streams: ISO 13818-1; NUT: its index.
"""

from collections.abc import Callable, Iterator
from io import RawIOBase
from typing import BinaryIO

from mondegreen.config import Seconds
from mondegreen.speech.layout import BLOCK, Loss, tag_bytes
from mondegreen.speech.mp3 import LAYER_3_KBPS, MPEG_RATES, frame_bytes

Stream = BinaryIO | RawIOBase
FrameLength = Callable[[bytes], int]  # of the frame that begins with these bytes; 0: none does
Framing = tuple[FrameLength, bytes]  # and the bytes that each begins with
_HEAD = 32  # bytes
_IN_A_ROW = 4  # frames, by which one is found again
_AC3_KBPS = (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 448, 512, 576, 640)
_LAYER_1 = {True: range(0, 449, 32), False: (0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256)}
_LAYER_2 = {
    True: (0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),  # MPEG 1
    False: LAYER_3_KBPS[False],
}
_AMR_NB, _AMR_WB = (13, 14, 16, 18, 20, 21, 27, 32, 6), (18, 24, 33, 37, 41, 47, 51, 59, 61, 6)
_PACKET = 188  # bytes of a transport stream's
_INDEX = b"NX\xdd\x67\x2f\x23\xe6\x4e"  # a NUT file ends with


class _Bytes:
    """A stream's bytes at any place, read by the block."""

    def __init__(self, stream: Stream, size: int) -> None:
        self._stream, self.size = stream, size
        self._start, self._block = 0, b""

    def find(self, wanted: bytes, position: int) -> int:
        """Where these bytes stand next; the end when nowhere."""
        while position < self.size:
            self.at(position)
            if (place := self._block.find(wanted, position - self._start)) >= 0:
                return self._start + place
            position = max(position + 1, self._start + len(self._block) - len(wanted) + 1)
        return self.size

    def at(self, position: int, length: int = _HEAD) -> bytes:
        place = position - self._start
        if not 0 <= place <= len(self._block) - length:
            self._stream.seek(position)
            self._start, self._block, place = position, self._stream.read(max(BLOCK, length)) or b"", 0
        return self._block[place : place + length]


def unheard(stream: Stream, size: int, kind: str, track: int, heard: Seconds, end: int) -> list[Loss] | None:
    """What of a file is no frame, by its place and, by the bytes of those that are, its seconds; None: nobody can say.

    Args:
        kind: ffmpeg's name of it.
        track: ffmpeg's number of the sound track.
        heard: what was decoded.
        end: of the last of its packets, in bytes.
    """
    source = _Bytes(stream, size)
    if kind == "nut":
        index = size - int.from_bytes(
            source.at(max(0, size - 12), 8), "big"
        )  # which ends with its own length and a checksum
        marked = 0 <= index < size and source.at(index, len(_INDEX)) == _INDEX and end <= index
        return [] if marked else [Loss("its end is not marked as one", None)]
    if kind == "amr":
        wide = source.at(0).startswith(b"#!AMR-WB\n")
        return _between(source, 9 if wide else 6, _amr(_AMR_WB if wide else _AMR_NB), heard)
    if kind == "mpegts":
        return _of_transport(source, track, heard)
    return _between(source, 0, _FRAMINGS[kind], heard) if kind in _FRAMINGS else None


def _between(source: _Bytes, position: int, framing: Framing, heard: Seconds) -> list[Loss]:
    """What lies between frames."""
    length_of, _ = framing
    gaps: list[tuple[int, int]] = []  # bytes, and bytes of frames before
    framed = 0
    while position < source.size:
        head = source.at(position)
        length = length_of(head)
        if length and position + length <= source.size:
            framed, position = framed + length, position + length
        elif tag := tag_bytes(head):
            position += tag
        else:  # damage, or the last frame is cut
            following = _next(source, position + 1, framing)
            gaps.append((following - position, framed))
            position = following
    rate = heard / framed if framed else 0.0
    return [
        Loss(f"{size} bytes at {before * rate:.2f} s are no frame of it", (size * rate) or None)
        for size, before in gaps
    ]


def _next(source: _Bytes, position: int, framing: Framing) -> int:
    """Where frames stand in a row again; the end when nowhere."""
    length_of, begin = framing
    while (position := source.find(begin, position)) < source.size:
        place, count = position, 0
        while count < _IN_A_ROW and place < source.size and (length := length_of(source.at(place))):
            place, count = place + length, count + 1
        if count == _IN_A_ROW or (count and place == source.size):
            return position
        position += 1
    return source.size


def _adts(head: bytes) -> int:
    if head[:1] != b"\xff" or len(head) < 7 or head[1] & 0xF6 != 0xF0 or head[2] >> 2 & 15 > 12:
        return 0
    length = (head[3] & 3) << 11 | head[4] << 3 | head[5] >> 5
    return length if length > 7 else 0


def _loas(head: bytes) -> int:
    found = len(head) > 2 and head[0] == 0x56 and head[1] >> 5 == 7
    return 3 + ((head[1] & 0x1F) << 8 | head[2]) if found else 0


def _ac3(head: bytes) -> int:
    if head[:2] != b"\x0b\x77" or len(head) < 6:
        return 0
    if head[5] >> 3 > 10:  # E-AC-3
        return 2 * (((head[2] & 7) << 8 | head[3]) + 1)
    rate, size = head[4] >> 6, head[4] & 0x3F
    if rate == 3 or size >= 2 * len(_AC3_KBPS):
        return 0
    kbps = _AC3_KBPS[size // 2]
    return (4 * kbps, 2 * (320 * kbps // 147 + size % 2), 6 * kbps)[rate]


def _mpeg(head: bytes) -> int:
    if length := frame_bytes(head):
        return length
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return 0
    version, layer, bits, rate = head[1] >> 3 & 3, 4 - (head[1] >> 1 & 3), head[2] >> 4, head[2] >> 2 & 3
    if version == 1 or layer not in (1, 2) or bits in (0, 15) or rate == 3:
        return 0
    hertz, padding = MPEG_RATES[version][rate], head[2] >> 1 & 1
    if layer == 1:
        return 4 * (12_000 * _LAYER_1[version == 3][bits] // hertz + padding)
    return 144_000 * _LAYER_2[version == 3][bits] // hertz + padding


def _amr(sizes: tuple[int, ...]) -> Framing:
    def length_of(head: bytes) -> int:
        if not head or head[0] & 0x83:
            return 0
        kind = head[0] >> 3
        return sizes[kind] if kind < len(sizes) else 1 if kind in (14, 15) else 0  # lost, or nothing to say

    return length_of, b""


def _program(head: bytes) -> int:
    """Of a pack's header or a packet."""
    if head[:3] != b"\0\0\1" or len(head) < 14 or head[3] < 0xB9:
        return 4 if head[:4] == b"\0\0\1\xb9" else 0
    if head[3] == 0xBA:
        return 14 + (head[13] & 7) if head[4] >> 6 == 1 else 12 if head[4] >> 4 == 2 else 0
    return 4 if head[3] == 0xB9 else 6 + int.from_bytes(head[4:6], "big")


_FRAMINGS: dict[str, Framing] = {
    "aac": (_adts, b"\xff"),
    "loas": (_loas, b"\x56"),
    "ac3": (_ac3, b"\x0b\x77"),
    "eac3": (_ac3, b"\x0b\x77"),
    "mp3": (_mpeg, b"\xff"),
    "mpeg": (_program, b"\0\0\1"),
}


def _transport(head: bytes) -> int:
    return _PACKET if head[:1] == b"\x47" else 0


_PACKETS: Framing = (_transport, b"\x47")


def _of_transport(source: _Bytes, track: int, heard: Seconds) -> list[Loss] | None:
    if not (_transport(source.at(0)) and _transport(source.at(_PACKET))):
        return None  # with other bytes between its packets, as M2TS has
    found = _between(source, 0, _PACKETS, heard)
    lost, before, promised, held = 0, -1, 0, 0
    for packet in _packets(source, track):
        begins, count = bool(packet[1] & 0x40), packet[3] & 15
        payload = packet[4 + (1 + packet[4] if packet[3] & 0x20 else 0) :]
        if before >= 0 and count != before and not (begins and count == 0):  # it counts anew where files were joined
            lost += (count - before - 1) & 15
        before = count
        if begins and payload[:3] == b"\0\0\1":
            promised, held = int.from_bytes(payload[4:6], "big") + 6, 0
        held += len(payload)
    if lost:
        found.append(Loss(f"{lost} packets or more are missing", None))
    if promised > 6 and held < promised:
        found.append(Loss(f"it breaks off: its last packet lacks {promised - held} bytes", None))
    return found


def _packets(source: _Bytes, track: int) -> Iterator[bytes]:
    """Those of a track that hold something of it."""
    position = 0
    while position + _PACKET <= source.size:
        packet = source.at(position, _PACKET)
        if not _transport(packet):
            position = _next(source, position + 1, _PACKETS)
            continue
        if (packet[1] & 0x1F) << 8 | packet[2] == track and packet[3] & 0x10:
            yield packet
        position += _PACKET
