"""The frames of MPEG audio, layer III (ISO 11172-3), and the frame that counts them (Xing's, LAME's)."""

import struct
from dataclasses import dataclass, field
from typing import BinaryIO

from mondegreen.config import Seconds
from mondegreen.speech.boxes import begins
from mondegreen.speech.layout import BLOCK, HEADERS, Layout, Loss, Part, joined, read_at, tag_bytes

LAYER_3_KBPS = {
    True: (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),  # MPEG 1
    False: (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),  # MPEG 2 and 2.5
}
MPEG_RATES = {3: (44_100, 48_000, 32_000), 2: (22_050, 24_000, 16_000), 0: (11_025, 12_000, 8_000)}


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
        return (1152 if version == 3 else 576) / MPEG_RATES[version][rate]

    @property
    def count(self) -> int:
        """Frames that are heard."""
        return len(self.frames) - (self.promised is not None)


def mp3_layout(stream: BinaryIO, size: int, start: int) -> tuple[Layout, int]:
    """What is in it, and where it ends.

    Every stretch between two headers that count frames, or between two rates, is a part.
    """
    layout, position, heard = Layout(), start, 0.0
    runs: list[_Run] = []
    while position < size:
        frame = read_at(stream, position, 64)
        length = frame_bytes(frame)
        if length and position + length <= size:
            promised = _promised_frames(frame[:length])
            if not runs or promised is not None or _kind(frame) != _kind(runs[-1].first):
                runs.append(_Run(frame, promised))
            run = runs[-1]
            run.frames.append(range(position, position + length))
            heard += run.frame_seconds if len(run.frames) > 1 or promised is None else 0.0
            position += length
        elif tag := tag_bytes(frame):
            position += tag
        elif runs and (begins(frame) or HEADERS.match(frame)):
            break
        else:
            following = next_frame(stream, position + 1, size) or size
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
    return layout, position


def _counted(stream: BinaryIO, run: _Run, layout: Layout) -> Part:
    """A run with the right number of frames in its header; without one the decoder guesses and stops there."""
    promised = run.promised
    if promised is None:
        return Part((_xing_frame(run.first, run.count), *joined(run.frames)), frames=run.count * run.frame_seconds)
    whole = not run.lost and run.count in (promised, promised - 1)  # some count the counting frame itself
    missing = (promised - run.count) * run.frame_seconds - run.lost
    if not whole and promised > run.count and missing > run.frame_seconds / 2:
        layout.losses.append(Loss(f"its header says {promised} mp3 frames, {run.count} are there", missing))
    elif promised < run.count:
        layout.notes.append(f"its header says {promised} mp3 frames, {run.count} are there and were heard")
    head = read_at(stream, run.frames[0].start, len(run.frames[0]))
    pieces = (_recounted(head, run, whole), *joined(run.frames[1:]))
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
    return frame.ljust(frame_bytes(header), b"\0")


def _xing_at(frame: bytes) -> int:
    """Where the Xing or Info header stands that counts frames; -1 without one."""
    at = max(frame.find(b"Xing", 4, 64), frame.find(b"Info", 4, 64))
    return at if at > 0 and len(frame) >= at + 12 and frame[at + 7] & 1 else -1


def _promised_frames(frame: bytes) -> int | None:
    at = _xing_at(frame)
    return int.from_bytes(frame[at + 8 : at + 12], "big") if at > 0 else None


def next_frame(stream: BinaryIO, position: int, size: int, limit: int | None = None, run: int = 2) -> int | None:
    """Where the next `run` frames of one kind stand in a row (or the last ones of the file), before `limit`."""
    limit = size if limit is None else min(limit, size)
    while position < limit:
        block = read_at(stream, position, BLOCK)
        at = block.find(b"\xff", 0, limit - position)
        while at >= 0:
            if frames_in_a_row(stream, position + at, size, run):
                return position + at
            at = block.find(b"\xff", at + 1, limit - position)
        position += len(block)
    return None


def frames_in_a_row(stream: BinaryIO, position: int, size: int, run: int) -> bool:
    kind = None
    for _ in range(run):
        head = read_at(stream, position, 4)
        if not (length := frame_bytes(head)) or position + length > size or kind not in (None, _kind(head)):
            return False
        kind, position = _kind(head), position + length
        if position == size:
            break
    return True


def _kind(head: bytes) -> tuple[int, int, bool]:
    """What must not change within a stream: version and layer, rate, one channel or two."""
    return head[1] & 0x1E, head[2] & 0x0C, head[3] >> 6 == 3


def frame_bytes(head: bytes) -> int:
    """Length of the layer III frame that starts with `head`, 0 when none does."""
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return 0
    version, layer = head[1] >> 3 & 3, head[1] >> 1 & 3
    bitrate, rate = head[2] >> 4, head[2] >> 2 & 3
    if version == 1 or layer != 1 or bitrate in (0, 15) or rate == 3:
        return 0
    mpeg_1 = version == 3
    samples_by_8 = 144 if mpeg_1 else 72
    return samples_by_8 * LAYER_3_KBPS[mpeg_1][bitrate] * 1000 // MPEG_RATES[version][rate] + (head[2] >> 1 & 1)
