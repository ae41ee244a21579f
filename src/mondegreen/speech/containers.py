"""What stands in a wav, flac, ogg or mp3 file: the parts that a decoder hears whole, and what is not there.

Files of other kinds (`boxes`) may stand before or behind them.

Decoders stop at the first header that says so, and keep silent about the rest. Here the file itself is asked: sizes and
counts are compared with what is there, joined recordings are told apart, damage is stepped over. RIFF: Microsoft & IBM,
Multimedia Programming Interface 1.0; RF64: EBU Tech 3306; Ogg: RFC 3533; MPEG audio: ISO 11172-3; FLAC: RFC 9639.
"""

import io
import os
import re
import struct
import zlib
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, BinaryIO

from mondegreen.config import Seconds
from mondegreen.speech.boxes import begins, end_of
from mondegreen.speech.tags import end_before_tags, tag_bytes

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

Piece = bytes | range  # bytes as they are, or where they stand in the file

# Writers to a pipe cannot go back to fill in the size: ffmpeg leaves 0xFFFFFFFF, sox and arecord about 2^31, others 0.
_UNKNOWN_SIZE = 0x7F00_0000
_JUNK = 4_096  # bytes of other things that may stand before the audio
_BLOCK = 1 << 16
_FLAC = re.compile(rb"fLaC[\0\x80]\0\0\x22")  # 0x80: nothing else stands before the frames
_NOT_AUDIO = tuple(
    b"LIST id3 ID3 bext cue smpl inst fact PEAK JUNK junk PAD iXML axml _PMX DISP cart afsp labl plst acid TAG".split()
)
# How files begin in which an mp3 frame or a RIFF header is somebody else's.
_FOREIGN = re.compile(rb"....ftyp|\x1aE\xdf\xa3|0&\xb2u|FORM|caff|\.snd|#!AMR|NIST_1A|riff|PK\x03\x04", re.DOTALL)
_HEADERS = re.compile(rb"(?:RIFF|RIFX|RF64|BW64)....WAVE|OggS\0|fLaC[\0\x80]\0\0\x22", re.DOTALL)
_WAVS = (b"RIFF", b"RIFX", b"RF64", b"BW64")
_SOUND = (b"OpusHead", b"\x01vorbis", b"\x7fFLAC", b"Speex   ")  # how the logical streams of an Ogg file begin
_LAYER_3_KBPS = {
    True: (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),  # MPEG 1
    False: (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),  # MPEG 2 and 2.5
}
_RATES = {3: (44_100, 48_000, 32_000), 2: (22_050, 24_000, 16_000), 0: (11_025, 12_000, 8_000)}
_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
_BOS, _EOS = 2, 4
_SILENT = (b"caff", b"riff")  # of which ffmpeg says nothing when their end is not there


@dataclass(frozen=True)
class Loss:
    """What the file should hold and does not, as a clause; `seconds` is None when nobody can know how much it was."""

    message: str
    seconds: Seconds | None


@dataclass(frozen=True)
class Part:
    """A recording of its own within the file: what a decoder is to read.

    `seconds` is what it should hear; None when the decoder knows that itself.
    """

    pieces: tuple[Piece, ...]
    seconds: Seconds | None = None
    foreign: bool = False  # ffmpeg is to read it
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


def inspect(stream: BinaryIO, start: int = 0) -> Layout | None:
    """What a wav, flac, ogg or mp3 file holds, or several files of any kind; None when it is one of another kind.

    Args:
        stream: seekable. The whole of it is read, but for wav, of which only the headers are.
        start: where the file starts within it.
    """
    size = end_before_tags(stream)
    while tag := tag_bytes(_at(stream, start, 32)):
        start += tag
    head = _at(stream, start, _JUNK)
    if begins(head):
        return _foreign(stream, size, start)
    found = None if _FOREIGN.match(head) else _HEADERS.search(head)
    frame = start if _mpeg_frame_bytes(head) else None
    if frame is None and not found and not _FOREIGN.match(head):
        frame = _next_frame(stream, start, size, limit=start + _JUNK, run=4)
    if frame is not None and (not found or frame == start):
        return _mp3(stream, size, start)
    if not found:
        return None
    kind, start = found[0][:4], start + found.start()
    if kind == b"OggS":
        return _ogg(stream, size, start)
    return _flac(stream, size, start) if kind == b"fLaC" else _wav(stream, size, start)


def _at(stream: BinaryIO, position: int, size: int) -> bytes:
    stream.seek(position)
    return stream.read(size)


def _foreign(stream: BinaryIO, size: int, start: int) -> Layout | None:
    """Files that ffmpeg reads, one after the other, and what else follows them; None when there is but one file."""
    layout, following = Layout(), start
    while following < size and begins(_at(stream, following, 24)):
        begin, following = following, end_of(stream, following)
        layout.parts.append(Part((range(begin, min(following, size)),), foreign=True))
        if following > size and _at(stream, begin, 4) in _SILENT:
            layout.losses.append(Loss(f"{following - size} bytes are missing at its end", None))
    if following < size and not _behind(stream, following, layout) and any(_at(stream, following, _BLOCK)):
        layout.losses.append(Loss(f"{size - following} bytes behind its end are no sound that is known", None))
    return layout if start or len(layout.parts) > 1 or layout.losses else None


def _wav(stream: BinaryIO, size: int, start: int) -> Layout:
    """One wav, or several that were put one after the other, and what else follows them."""
    layout = Layout()
    following: int | None = start
    while following is not None and _at(stream, following, 4) in _WAVS:
        begin = following
        following = _riff(stream, size, begin, layout)
    if following is not None:
        _behind(stream, following, layout)
    return layout


def _behind(stream: BinaryIO, position: int, layout: Layout) -> bool:
    """Adds the file of another kind that starts there; whether one does."""
    found = inspect(stream, position)
    if found:
        layout.parts.extend(found.parts)
        layout.losses.extend(found.losses)
        layout.notes.extend(found.notes)
    return found is not None


@dataclass
class _Form:
    """What the header of a wav says."""

    magic: bytes
    order: str
    tidy: bool  # libsndfile understands it as it is
    kept: bytes = b""  # the chunks that say how the audio is written
    promised_long: int | None = None  # bytes of audio, by ds64
    bytes_a_second: int = 0


def _riff(stream: BinaryIO, size: int, start: int, layout: Layout) -> int | None:
    """Adds the wav that starts there; where the next one starts."""
    magic = _at(stream, start, 4)
    # libsndfile knows no BW64, and no RF64 whose sizes do not come first.
    first = _at(stream, start + 12, 4)
    form = _Form(magic, ">" if magic == b"RIFX" else "<", start == 0 and magic != b"BW64")
    form.tidy = form.tidy and (magic != b"RF64" or first == b"ds64")
    position = start + 12
    while position + 8 <= size:
        name, length = struct.unpack(f"{form.order}4sI", _at(stream, position, 8))
        if name == b"data":
            break
        if name == b"ds64":
            form.promised_long = int.from_bytes(_at(stream, position + 16, 8), "little") or None  # 0: not filled in
        elif name in (b"fmt ", b"fact") and length < _BLOCK:
            form.kept += _at(stream, position, 8 + length).ljust(8 + length + length % 2, b"\0")
            if name == b"fmt ":
                second = _at(stream, position + 16, 4).ljust(4, b"\0")
                form.bytes_a_second = struct.unpack(f"{form.order}I", second)[0]
        end = position + 8 + length
        position = _after(stream, end, length)
        form.tidy = form.tidy and position == end + length % 2
    else:
        layout.losses.append(Loss("it ends before its audio data", None))
        return None
    rest = "data"
    while rest == "data":  # some recorders write a chunk each time they go on
        rest, position = _data(stream, size, position, form, layout)
        form.tidy = False
    return position if rest == "file" else None


def _data(stream: BinaryIO, size: int, position: int, form: _Form, layout: Layout) -> tuple[str, int]:
    """Adds the audio of a data chunk; what follows it, as `_rest` does."""
    begin = position + 8
    length = struct.unpack(f"{form.order}I", _at(stream, position + 4, 4))[0]
    there = size - begin
    promised = form.promised_long if length == 0xFFFF_FFFF and form.promised_long is not None else length
    open_end = promised > there and promised == length >= _UNKNOWN_SIZE
    end = _after(stream, begin + promised, promised)
    rest, following = ("chunks", size) if promised >= there else _rest(stream, size, end, form.order)
    second = form.bytes_a_second or 1
    if rest == "audio":
        if promised:  # 0: the writer could not go back to fill it in
            said, really = promised / second, there / second
            layout.notes.append(f"its header says {said:.3f} s, {really:.3f} s are there and were heard")
        stop = size
    else:
        stop = min(begin + promised, size)
        if promised > there and not open_end:
            said = f"its header says {promised} bytes of audio, {there} are there"
            layout.losses.append(Loss(said, (promised - there) / second if form.bytes_a_second > 1 else None))
    long = open_end and form.magic == b"RF64"
    whole = form.tidy and rest == "chunks" and (promised <= there or open_end) and not long
    head = _riff_head(form.magic, form.order, form.kept, stop - begin)
    layout.parts.append(Part((range(size),) if whole else (head, range(begin, stop))))
    return rest, following


def _after(stream: BinaryIO, end: int, length: int) -> int:
    """Where the chunk after one of odd length starts: behind a pad byte, which some writers forget."""
    return end + 1 if length % 2 and not _printable(_at(stream, end, 4)) else end


def _printable(name: bytes) -> bool:
    return len(name) == 4 and all(0x20 <= byte < 0x7F for byte in name)


def _rest(stream: BinaryIO, size: int, position: int, order: str) -> tuple[str, int]:
    """What follows the audio of a wav, and where.

    "chunks" (or tags), another "data" chunk, another "file" (of any kind), or more "audio".
    """
    if size - position < 8:
        return "chunks", size
    tags = False
    while position + 8 <= size:
        head = _at(stream, position, 32)
        name, length = struct.unpack(f"{order}4sI", head[:8])
        if name == b"data":
            return "data", position
        if _HEADERS.match(head) or begins(head) or _frames_in_a_row(stream, position, size, 4):
            return "file", position
        if tag := tag_bytes(head):
            position, tags = position + tag, True
            continue
        known = name.startswith(_NOT_AUDIO)
        if (tags and not known) or (known and position + 8 + length > size):
            return "chunks", size
        if not _printable(name) or position + 8 + length > size:
            return "audio", position
        position, tags = _after(stream, position + 8 + length, length), known
    return "chunks", size


def _riff_head(magic: bytes, order: str, kept: bytes, length: int) -> bytes:
    """A header of a wav that says the size that the audio has."""
    if length + len(kept) + 64 >= 2**32:
        sizes = struct.pack("<4sIQQQI", b"ds64", 28, length + len(kept) + 56, length, 0, 0)
        return b"RF64" + b"\xff" * 4 + b"WAVE" + sizes + kept + b"data" + b"\xff" * 4
    whole = struct.pack(f"{order}I", 4 + len(kept) + 8 + length)
    return (
        (magic if magic == b"RIFX" else b"RIFF") + whole + b"WAVE" + kept + struct.pack(f"{order}4sI", b"data", length)
    )


def _flac(stream: BinaryIO, size: int, start: int) -> Layout:
    """One flac, or several that were put one after the other, and what else follows them."""
    starts, position = [start], start + 1
    while position < size:
        block = _at(stream, position, 16 * _BLOCK)
        starts += [position + found.start() for found in _FLAC.finditer(block)]
        if position + len(block) >= size:
            break
        position += len(block) - 7
    return Layout([Part((range(*ends),)) for ends in zip(starts, [*starts[1:], size], strict=True)])


@dataclass(frozen=True)
class _Page:
    """A whole page of an Ogg file."""

    where: range
    flags: int
    granule: int  # -1: no packet ends on it
    serial: int
    number: int


def _ogg(stream: BinaryIO, size: int, start: int) -> Layout:
    """The links of a chain (RFC 3533, section 4): each logical stream that begins where another has ended."""
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
        layout.losses.append(Loss("it has no whole page with a stream's beginning", None))
    else:
        layout.losses.extend(_strays(stream, strays))
    offset = 0.0
    for link in links:
        offset += _link_of(stream, link, offset, layout)
    if links:
        _behind(stream, end, layout)
    return layout


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
        opus = b"OpusTags" in _at(stream, pages[0].where.start, 27 + 255 + 8)
        said = f"{len(pages)} pages belong to a stream whose beginning is damaged or not there"
        yield Loss(said, max(0, *(page.granule for page in pages)) / 48_000 if opus else None)


def _link_of(stream: BinaryIO, link: list[_Page], offset: Seconds, layout: Layout) -> Seconds:
    """Adds a link of the chain; how long it is, as far as its pages say."""
    begins = [page for page in link if page.flags & _BOS]
    if len(begins) == 1:
        return _link(stream, [page for page in link if page.serial == link[0].serial], offset, layout)
    sounds = sum(any(kind in _at(stream, page.where.start, 128) for kind in _SOUND) for page in begins)
    if sounds > 1:  # else pictures beside the sound
        layout.losses.append(Loss(f"it holds {sounds} sound tracks at once, of which the first was heard", 0.0))
    layout.parts.append(Part((range(link[0].where.start, link[-1].where.stop),)))
    return 0.0


def _pages(stream: BinaryIO, size: int, start: int) -> Iterator[_Page]:
    """The whole pages, by their checksum; what lies between is stepped over."""
    position = start
    while position + 27 <= size:
        head = _at(stream, position, 27 + 255)
        if head[:5] == b"OggS\0":
            lacing = head[27 : 27 + head[26]]
            where = range(position, position + 27 + len(lacing) + sum(lacing))
            page = _at(stream, position, len(where))
            if len(page) == len(where) and _checksum(page) == page[22:26]:
                granule, serial, number = struct.unpack("<qII", page[6:22])
                yield _Page(where, page[5], granule, serial, number)
                position = where.stop
                continue
        while position < size:
            position += 1
            block = _at(stream, position, _BLOCK)
            found = block.find(b"OggS")
            if found >= 0:
                position += found
                break
            position += max(1, len(block) - 3) - 1


def _checksum(page: bytes) -> bytes:
    """CRC of a page (RFC 3533, section 6): zlib's, bit for bit the other way round."""
    turned = (page[:22] + bytes(4) + page[26:]).translate(_REVERSED)
    mirrored = zlib.crc32(turned, 0xFFFF_FFFF) ^ 0xFFFF_FFFF
    return int(f"{mirrored:032b}"[::-1], 2).to_bytes(4, "little")


def _link(stream: BinaryIO, pages: list[_Page], offset: Seconds, layout: Layout) -> Seconds:
    """Adds a logical stream; how long it is, as far as its pages say."""
    rate, preskip = _ogg_clock(_at(stream, pages[0].where.start, 128))
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
    pieces = _joined([page.where for page in pages])
    if not pages[-1].flags & _EOS:
        said = f"it breaks off at {offset + length:.2f} s: its last page is not marked as the end"
        layout.losses.append(Loss(said, None))
        pieces = (*_joined([page.where for page in pages[:-1]]), _marked_as_end(stream, pages[-1]))
    layout.parts.append(Part(pieces, length - lost if lost else None))
    return length


def _ogg_clock(page: bytes) -> tuple[int, int]:
    """Units of a stream's granules in a second, and how many of them are not heard, by its first page; 0 if unknown."""
    head = page[27 + page[26] :]
    if head.startswith(b"OpusHead"):
        return 48_000, int.from_bytes(head[10:12], "little")
    return (int.from_bytes(head[12:16], "little"), 0) if head.startswith(b"\x01vorbis") else (0, 0)


def _marked_as_end(stream: BinaryIO, last: _Page) -> bytes:
    page = bytearray(_at(stream, last.where.start, len(last.where)))
    page[5] |= _EOS
    page[22:26] = _checksum(bytes(page))
    return bytes(page)


def _joined(ranges: Sequence[range]) -> tuple[Piece, ...]:
    """The same bytes in as few ranges as can be."""
    joined: list[range] = []
    for one in ranges:
        if joined and joined[-1].stop == one.start:
            joined[-1] = range(joined[-1].start, one.stop)
        else:
            joined.append(one)
    return tuple(joined)


@dataclass
class _Run:
    """Frames of one kind that a decoder may take in one go."""

    first: bytes  # the beginning of the first frame
    promised: int | None  # frames, by the first one's Xing or Info header; that one is not counted in it
    frames: list[range] = field(default_factory=list)
    lost: Seconds = 0.0

    @property
    def frame_seconds(self) -> Seconds:
        """How long a frame sounds."""
        version, rate = self.first[1] >> 3 & 3, self.first[2] >> 2 & 3
        return (1152 if version == 3 else 576) / _RATES[version][rate]

    @property
    def count(self) -> int:
        """Frames that are heard."""
        return len(self.frames) - (self.promised is not None)


def _mp3(stream: BinaryIO, size: int, start: int) -> Layout:
    """Every stretch between two headers that count frames, or between two rates, is a part."""
    layout, position, heard = Layout(), start, 0.0
    runs: list[_Run] = []
    while position < size:
        frame = _at(stream, position, 64)
        length = _mpeg_frame_bytes(frame)
        if length and position + length <= size:
            promised = _promised_frames(frame[:length])
            if not runs or promised is not None or _mpeg_kind(frame) != _mpeg_kind(runs[-1].first):
                runs.append(_Run(frame, promised))
            run = runs[-1]
            run.frames.append(range(position, position + length))
            heard += run.frame_seconds if len(run.frames) > 1 or promised is None else 0.0
            position += length
        elif tag := tag_bytes(frame):
            position += tag
        elif runs and (begins(frame) or _HEADERS.match(frame)):
            break
        else:
            following = _next_frame(stream, position + 1, size) or size
            if length and following == size and runs:
                seconds = runs[-1].frame_seconds  # the last frame is cut
                runs[-1].lost += seconds
            elif runs:
                mean = sum(map(len, runs[-1].frames)) / len(runs[-1].frames)
                seconds = (following - position) / mean * runs[-1].frame_seconds
                runs[-1].lost += seconds
            else:
                seconds = None
            layout.losses.append(Loss(f"{following - position} bytes at {heard:.2f} s are no mp3 frame", seconds))
            position = following
    for run in runs:
        part = _counted(stream, run, layout)
        if run.count:
            layout.parts.append(part)
    if position < size:
        _behind(stream, position, layout)
    return layout


def _counted(stream: BinaryIO, run: _Run, layout: Layout) -> Part:
    """A run with the right number of frames in its header; without one the decoder guesses and stops there."""
    promised = run.promised
    if promised is None:
        return Part((_xing_frame(run.first, run.count), *_joined(run.frames)), frames=run.count * run.frame_seconds)
    whole = not run.lost and run.count in (promised, promised - 1)  # some count the counting frame itself
    missing = (promised - run.count) * run.frame_seconds - run.lost
    if not whole and promised > run.count and missing > run.frame_seconds / 2:
        layout.losses.append(Loss(f"its header says {promised} mp3 frames, {run.count} are there", missing))
    elif promised < run.count:
        layout.notes.append(f"its header says {promised} mp3 frames, {run.count} are there and were heard")
    head = _at(stream, run.frames[0].start, len(run.frames[0]))
    pieces = (_recounted(head, run, whole), *_joined(run.frames[1:]))
    return Part(pieces, frames=run.count * run.frame_seconds)


def _recounted(head: bytes, run: _Run, whole: bool) -> bytes:
    """The counting frame with what is there; where the end is another one, no padding is to be left out there."""
    at = _xing_at(head)
    head = head[: at + 8] + run.count.to_bytes(4, "big") + head[at + 12 :]
    if head[at + 7] & 2 and not whole:
        head = head[: at + 12] + sum(map(len, run.frames)).to_bytes(4, "big") + head[at + 16 :]
    padding = at + 142  # behind all four fields of Xing's header: LAME's delay and padding, 12 bits each
    if whole or head[at + 7] != 0x0F or len(head) < padding + 2:
        return head
    return head[:padding] + bytes([head[padding] & 0xF0, 0]) + head[padding + 2 :]


def _xing_frame(first: bytes, frames: int) -> bytes:
    """A frame that says how many follow."""
    mpeg_1, mono = first[1] >> 3 & 3 == 3, first[3] >> 6 == 3
    header = bytes([0xFF, first[1] | 1, 0x90 | first[2] & 0x0C, first[3]])  # no checksum, no padding, 128 or 80 kbit/s
    side_info = (17 if mono else 32) if mpeg_1 else (9 if mono else 17)
    frame = header + bytes(side_info) + b"Xing" + struct.pack(">II", 1, frames)
    return frame.ljust(_mpeg_frame_bytes(header), b"\0")


def _xing_at(frame: bytes) -> int:
    """Where the Xing or Info header stands that counts frames; -1 without one."""
    at = max(frame.find(b"Xing", 4, 64), frame.find(b"Info", 4, 64))
    return at if at > 0 and len(frame) >= at + 12 and frame[at + 7] & 1 else -1


def _promised_frames(frame: bytes) -> int | None:
    at = _xing_at(frame)
    return int.from_bytes(frame[at + 8 : at + 12], "big") if at > 0 else None


def _next_frame(stream: BinaryIO, position: int, size: int, limit: int | None = None, run: int = 2) -> int | None:
    """Where the next `run` frames of one kind stand in a row (or the last ones of the file), before `limit`."""
    limit = size if limit is None else min(limit, size)
    while position < limit:
        block = _at(stream, position, _BLOCK)
        at = block.find(b"\xff", 0, limit - position)
        while at >= 0:
            if _frames_in_a_row(stream, position + at, size, run):
                return position + at
            at = block.find(b"\xff", at + 1, limit - position)
        position += len(block)
    return None


def _frames_in_a_row(stream: BinaryIO, position: int, size: int, run: int) -> bool:
    kind = None
    for _ in range(run):
        head = _at(stream, position, 4)
        if not (length := _mpeg_frame_bytes(head)) or position + length > size or kind not in (None, _mpeg_kind(head)):
            return False
        kind, position = _mpeg_kind(head), position + length
        if position == size:
            break
    return True


def _mpeg_kind(head: bytes) -> tuple[int, int, bool]:
    """What must not change within a stream: version and layer, rate, one channel or two."""
    return head[1] & 0x1E, head[2] & 0x0C, head[3] >> 6 == 3


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
