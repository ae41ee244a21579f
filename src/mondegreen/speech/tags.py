"""Tags of players before, between and behind recordings: no sound, and no damage.

ID3: id3.org (ID3v1, ID3v2.4 section 3); "TAG+" and Lyrics3 2.00 stand before ID3v1; APE: the APE tags specification of
Hydrogenaudio's wiki. The first version of APE's has no header, and the second need not have one.
"""

import os
from typing import BinaryIO

_LONGEST = 512  # bytes, which tell of any tag that ends there


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
