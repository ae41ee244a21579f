"""What stands in a wav, flac, ogg or mp3 file: the parts that a decoder hears whole, and what is not there.

Files of other kinds (`boxes`) may stand before or behind them.

Decoders stop at the first header that says so, and keep silent about the rest. Here the file itself is asked: sizes and
counts are compared with what is there, joined recordings are told apart, damage is stepped over. RIFF: Microsoft & IBM,
Multimedia Programming Interface 1.0; RF64: EBU Tech 3306; Ogg: RFC 3533; MPEG audio: ISO 11172-3; FLAC: RFC 9639.
"""

import re
import struct
from dataclasses import dataclass
from typing import BinaryIO

from mondegreen.speech.boxes import begins, end_of, is_chunk_name
from mondegreen.speech.layout import BLOCK, HEADERS, Layout, Loss, Part, end_before_tags, read_at, tag_bytes
from mondegreen.speech.mp3 import frame_bytes, frames_in_a_row, mp3_layout, next_frame
from mondegreen.speech.ogg import ogg_layout

# Writers to a pipe cannot go back to fill in the size: ffmpeg leaves 0xFFFFFFFF, sox and arecord about 2^31, others 0.
_UNKNOWN_SIZE = 0x7F00_0000
_JUNK = 4_096  # bytes of other things that may stand before the audio
_FLAC = re.compile(rb"fLaC[\0\x80]\0\0\x22")  # 0x80: nothing else stands before the frames
_NOT_AUDIO = tuple(
    b"LIST id3 ID3 bext cue smpl inst fact PEAK JUNK junk PAD iXML axml _PMX DISP cart afsp labl plst acid TAG".split()
)
# How files begin in which an mp3 frame or a RIFF header is somebody else's.
_FOREIGN = re.compile(
    rb"....ftyp|\x1aE\xdf\xa3|\0\0\x01\xba|0&\xb2u|FORM|caff|\.snd|#!AMR|NIST_1A|riff|PK\x03\x04", re.DOTALL
)
_WAVS = (b"RIFF", b"RIFX", b"RF64", b"BW64")


def inspect(stream: BinaryIO, start: int = 0) -> Layout | None:
    """What a wav, flac, ogg or mp3 file holds, or several files of any kind; None when it is one of another kind.

    Args:
        stream: seekable. The whole of it is read, but for wav, of which only the headers are.
        start: where the file starts within it.
    """
    size = end_before_tags(stream)
    while tag := tag_bytes(read_at(stream, start, 32)):
        start += tag
    head = read_at(stream, start, _JUNK)
    if begins(head):
        return _foreign(stream, size, start)
    found = None if _FOREIGN.match(head) else HEADERS.search(head)
    frame = start if frame_bytes(head) else None
    if frame is None and not found and not _FOREIGN.match(head):
        frame = next_frame(stream, start, size, limit=start + _JUNK, run=4)
    if frame is not None and (not found or frame == start):
        return _with_rest(stream, size, *mp3_layout(stream, size, start))
    if not found:
        return None
    kind, start = found[0][:4], start + found.start()
    if kind == b"OggS":
        return _with_rest(stream, size, *ogg_layout(stream, size, start))
    return _flac(stream, size, start) if kind == b"fLaC" else _wav(stream, size, start)


def _with_rest(stream: BinaryIO, size: int, layout: Layout, end: int) -> Layout:
    """And what else follows what ends there."""
    if end < size:
        _behind(stream, end, layout)
    return layout


def _foreign(stream: BinaryIO, size: int, start: int) -> Layout | None:
    """Files that ffmpeg reads, one after the other, and what else follows them; None when there is but one file."""
    layout, following = Layout(), start
    while following < size and begins(read_at(stream, following, 24)):
        begin, following = following, end_of(stream, following, size)
        missing = max(0, following - size)
        layout.parts.append(Part((range(begin, min(following, size)),), foreign=True, missing=missing))
        while following < size and (tag := tag_bytes(read_at(stream, following, 32))):
            following += tag
    if following < size and not _behind(stream, following, layout) and any(read_at(stream, following, BLOCK)):
        layout.losses.append(Loss(f"{size - following} bytes behind its end are no sound that is known", None))
    return layout if start or len(layout.parts) > 1 or layout.losses or layout.parts[0].missing else None


def _wav(stream: BinaryIO, size: int, start: int) -> Layout:
    """One wav, or several that were put one after the other, and what else follows them."""
    layout = Layout()
    following: int | None = start
    while following is not None and read_at(stream, following, 4) in _WAVS:
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
    magic = read_at(stream, start, 4)
    # libsndfile knows no BW64, and no RF64 whose sizes do not come first.
    first = read_at(stream, start + 12, 4)
    form = _Form(magic, ">" if magic == b"RIFX" else "<", start == 0 and magic != b"BW64")
    form.tidy = form.tidy and (magic != b"RF64" or first == b"ds64")
    position = start + 12
    while position + 8 <= size:
        name, length = struct.unpack(f"{form.order}4sI", read_at(stream, position, 8))
        if name == b"data":
            break
        if name == b"ds64":
            form.promised_long = int.from_bytes(read_at(stream, position + 16, 8), "little") or None  # 0: not filled in
        elif name in (b"fmt ", b"fact") and length < BLOCK:
            form.kept += read_at(stream, position, 8 + length).ljust(8 + length + length % 2, b"\0")
            if name == b"fmt ":
                second = read_at(stream, position + 16, 4).ljust(4, b"\0")
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
    length = struct.unpack(f"{form.order}I", read_at(stream, position + 4, 4))[0]
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
            seconds = (promised - there) / second if form.bytes_a_second > 1 else None
            layout.losses.append(Loss(said, seconds, (promised - there) / size))
    long = open_end and form.magic == b"RF64"
    whole = form.tidy and rest == "chunks" and (promised <= there or open_end) and not long
    head = _riff_head(form.magic, form.order, form.kept, stop - begin)
    layout.parts.append(Part((range(size),) if whole else (head, range(begin, stop))))
    return rest, following


def _after(stream: BinaryIO, end: int, length: int) -> int:
    """Where the chunk after one of odd length starts: behind a pad byte, which some writers forget."""
    return end + 1 if length % 2 and not is_chunk_name(read_at(stream, end, 4)) else end


def _rest(stream: BinaryIO, size: int, position: int, order: str) -> tuple[str, int]:
    """What follows the audio of a wav, and where.

    "chunks" (or tags), another "data" chunk, another "file" (of any kind), or more "audio".
    """
    if size - position < 8:
        return "chunks", size
    tags = False
    while position + 8 <= size:
        head = read_at(stream, position, 32)
        name, length = struct.unpack(f"{order}4sI", head[:8])
        if name == b"data":
            return "data", position
        if HEADERS.match(head) or begins(head) or frames_in_a_row(stream, position, size, 4):
            return "file", position
        if tag := tag_bytes(head):
            position, tags = position + tag, True
            continue
        known = name.startswith(_NOT_AUDIO)
        if (tags and not known) or (known and position + 8 + length > size):
            return "chunks", size
        if not is_chunk_name(name) or position + 8 + length > size:
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
        block = read_at(stream, position, 16 * BLOCK)
        starts += [position + found.start() for found in _FLAC.finditer(block)]
        if position + len(block) >= size:
            break
        position += len(block) - 7
    return Layout([Part((range(*ends),)) for ends in zip(starts, [*starts[1:], size], strict=True)])
