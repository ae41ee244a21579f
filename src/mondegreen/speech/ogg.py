"""The pages and streams of an Ogg file (RFC 3533)."""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import BinaryIO

from mondegreen.config import Seconds
from mondegreen.speech.layout import BLOCK, Layout, Loss, Part, joined, read_at

_SOUND = (b"OpusHead", b"\x01vorbis", b"\x7fFLAC", b"Speex   ")  # how the logical streams of an Ogg file begin
_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
_BOS, _EOS = 2, 4


@dataclass(frozen=True)
class _Page:
    """A whole page of an Ogg file."""

    where: range
    flags: int
    granule: int  # -1: no packet ends on it
    serial: int
    number: int


def ogg_layout(stream: BinaryIO, size: int, start: int) -> tuple[Layout, int]:
    """What is in it, and where the last page ends.

    The links of a chain (RFC 3533, section 4): each logical stream that begins where another has ended.
    """
    layout = Layout()
    links: list[list[_Page]] = []
    strays: list[_Page] = []
    end = start
    for page in _pages(stream, size, start):
        end = page.where.stop
        if page.flags & _BOS:
            if not links or not links[-1][-1].flags & _BOS:
                links.append([])
            links[-1].append(page)
        elif links and _goes_on(links[-1], page):
            links[-1].append(page)
        else:
            strays.append(page)
    if not links:
        layout.losses.append(Loss(f"{size - start} bytes of Ogg hold no stream's beginning", None))
    else:
        layout.losses.extend(_strays(stream, strays))
    offset = 0.0
    for link in links:
        offset += _link_of(stream, link, offset, layout)
    return layout, end if links else size


def _goes_on(link: list[_Page], page: _Page) -> bool:
    """Whether a page belongs to one of the streams of the link."""
    before = next((one for one in reversed(link) if one.serial == page.serial), None)
    return before is not None and page.number >= before.number and not before.flags & _EOS


def _strays(stream: BinaryIO, strays: list[_Page]) -> Iterator[Loss]:
    """Pages of streams whose first page is damaged: nobody can decode them."""
    groups: list[list[_Page]] = []
    for page in strays:
        if groups and groups[-1][-1].serial == page.serial and page.number > groups[-1][-1].number:
            groups[-1].append(page)
        else:
            groups.append([page])
    for pages in groups:
        opus = b"OpusTags" in read_at(stream, pages[0].where.start, 27 + 255 + 8)
        said = f"{len(pages)} pages belong to a stream whose beginning is damaged or not there"
        yield Loss(said, max(0, *(page.granule for page in pages)) / 48_000 if opus else None)


def _link_of(stream: BinaryIO, link: list[_Page], offset: Seconds, layout: Layout) -> Seconds:
    """Adds a link of the chain; how long it is, as far as its pages say."""
    begins = [page for page in link if page.flags & _BOS]
    if len(begins) == 1:
        return _link(stream, [page for page in link if page.serial == link[0].serial], offset, layout)
    sounds = sum(any(kind in read_at(stream, page.where.start, 128) for kind in _SOUND) for page in begins)
    if sounds > 1:  # else pictures beside the sound
        layout.losses.append(Loss(f"it holds {sounds} sound tracks at once, of which the first was heard", 0.0))
    layout.parts.append(Part((range(link[0].where.start, link[-1].where.stop),)))
    return 0.0


def _pages(stream: BinaryIO, size: int, start: int) -> Iterator[_Page]:
    """The whole pages, by their checksum; what lies between is stepped over."""
    position = start
    while position + 27 <= size:
        head = read_at(stream, position, 27 + 255)
        if head[:5] == b"OggS\0":
            lacing = head[27 : 27 + head[26]]
            where = range(position, position + 27 + len(lacing) + sum(lacing))
            page = read_at(stream, position, len(where))
            if len(page) == len(where) and page_checksum(page) == page[22:26]:
                granule, serial, number = struct.unpack("<qII", page[6:22])
                yield _Page(where, page[5], granule, serial, number)
                position = where.stop
                continue
        while position < size:
            position += 1
            block = read_at(stream, position, BLOCK)
            found = block.find(b"OggS")
            if found >= 0:
                position += found
                break
            position += max(1, len(block) - 3) - 1


def page_checksum(page: bytes) -> bytes:
    """CRC of a page (RFC 3533, section 6): zlib's, bit for bit the other way round."""
    turned = (page[:22] + bytes(4) + page[26:]).translate(_REVERSED)
    mirrored = zlib.crc32(turned, 0xFFFF_FFFF) ^ 0xFFFF_FFFF
    return int(f"{mirrored:032b}"[::-1], 2).to_bytes(4, "little")


def _link(stream: BinaryIO, pages: list[_Page], offset: Seconds, layout: Layout) -> Seconds:
    """Adds a logical stream; how long it is, as far as its pages say."""
    rate, preskip = _ogg_clock(read_at(stream, pages[0].where.start, 128))
    timed = [(left, right) for left, right in pairwise(pages) if left.granule > 0 and right.number > left.number]
    step = round(
        max(((right.granule - left.granule) / (right.number - left.number) for left, right in timed), default=0)
    )
    lost = 0.0
    for left, right in pairwise(pages):
        if (gone := right.number - left.number - 1) > 0:
            # The page that is there holds something as well; how much, its neighbours tell.
            units = min(max(0, right.granule - max(0, left.granule) - step), gone * step) if step else 0
            where = offset + max(0, left.granule - preskip) / (rate or 1)
            said = f"{gone} pages at {where:.2f} s are damaged or not there"
            layout.losses.append(Loss(said, units / rate if rate else None))
            lost += units / (rate or 1)
    length = max(0, max(page.granule for page in pages) - preskip) / (rate or 1)
    pieces = joined([page.where for page in pages])
    if not pages[-1].flags & _EOS:
        said = f"it breaks off at {offset + length:.2f} s: its last page is not marked as the end"
        layout.losses.append(Loss(said, None))
        pieces = (*joined([page.where for page in pages[:-1]]), _marked_as_end(stream, pages[-1]))
    layout.parts.append(Part(pieces, length - lost if lost else None))
    return length


def _ogg_clock(page: bytes) -> tuple[int, int]:
    """Units of a stream's granules in a second, and how many of them are not heard, by its first page; 0 if unknown."""
    head = page[27 + page[26] :]
    if head.startswith(b"OpusHead"):
        return 48_000, int.from_bytes(head[10:12], "little")
    if head.startswith(b"\x7fFLAC"):
        return int.from_bytes(head[27:30], "big") >> 4, 0
    at = {b"\x01vorbis": 12, b"Speex   ": 36}.get(next((kind for kind in _SOUND if head.startswith(kind)), b""))
    return (int.from_bytes(head[at : at + 4], "little"), 0) if at else (0, 0)


def _marked_as_end(stream: BinaryIO, last: _Page) -> bytes:
    page = bytearray(read_at(stream, last.where.start, len(last.where)))
    page[5] |= _EOS
    page[22:26] = page_checksum(bytes(page))
    return bytes(page)
