"""What a transformer takes in at once: utterances of like length together, a long recording in windows.

Some models know positions only up to a length, and hear nonsense beyond it: their config.json says so in
`max_audio_seconds`. The convolutional encoder takes a recording as a whole; what follows it takes windows of full
length that overlap, so that every frame stands in one where its neighbours are heard too. Their lattices are joined.
"""

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from mondegreen.config import Seconds
from mondegreen.errors import UsageError
from mondegreen.speech.decoding import LogProbs

OVERLAP: Seconds = 4.0  # of two neighbouring windows; a third of them where they are short
LIMIT_KEY = "max_audio_seconds"  # of config.json; transformers keeps keys that it does not know
Frames = TypeVar("Frames", bound=Any)  # an array or a tensor: what has a length and can be cut
_SHORTEST: Seconds = 1.0  # a shorter window would hold hardly a word


def read_limit(config: Path, value: object) -> Seconds | None:
    """The longest recording that a model takes in one piece; None when its configuration does not say.

    Args:
        config: path of its config.json, for the message.
        value: what stands there.

    Raises:
        UsageError: no number of seconds, or one under a second.
    """
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not _SHORTEST <= value < math.inf:
        raise UsageError(
            f"{config}: {LIMIT_KEY} is {json.dumps(value)}: it must be a number of seconds, at least {_SHORTEST:g}.",
            "Write the longest audio that the model takes in one piece, such as 30.0, or take the line out.",
        )
    return float(value)


def heard_in_windows(
    features: Sequence[Frames],
    longest: int | None,
    frame_seconds: Seconds,
    blank: int,
    heard: Callable[[list[Frames]], list[LogProbs]],
    name: str = "The model",
) -> list[LogProbs]:
    """A lattice an utterance; one of more than `longest` frames is taken in windows.

    Args:
        features: each (num_frames, conv_dim).
        heard: what the model makes of pieces of them, in one batch.
        name: of the model, for the message.

    Raises:
        UsageError: what the model makes is NaN: of finite weights, too, where a product overflows.
    """
    overlap = round(OVERLAP / frame_seconds)
    starts = [window_starts(len(item), longest, overlap) for item in features]
    pieces = [
        item if longest is None else item[start : start + longest]
        for item, begins in zip(features, starts, strict=True)
        for start in begins
    ]
    found = heard(pieces)
    if any(np.isnan(row).any() for row in found):
        raise UsageError(
            f"{name} computes values that are no numbers (NaN), of which any text would be made up.",
            "Its weights are too large to compute with, or its config.json belongs to others: fetch the folder again.",
        )
    rows = iter(found)
    return [join([next(rows) for _ in begins], begins, blank) for begins in starts]


def window_starts(length: int, longest: int | None, overlap: int) -> list[int]:
    """Where windows of `longest` frames begin, so that they cover `length` and neighbours share `overlap` at least.

    All are of full length, at even distances; what fits into one window gets one.
    """
    if longest is None or length <= longest:
        return [0]
    overlap = min(overlap, longest // 3)
    count = math.ceil((length - overlap) / (longest - overlap))
    return [round(index * (length - longest) / (count - 1)) for index in range(count)]


def join(lattices: Sequence[LogProbs], starts: Sequence[int], blank: int) -> LogProbs:
    """The lattice of the whole recording from those of its windows.

    Neighbours are joined where both hear nothing: in the middle of the longest run of frames that both give to the
    blank, in the inner half of what they share. So no letter is cut, and none comes twice. Without such a frame it is
    the middle.

    Args:
        lattices: each float32 (num_frames, vocab_size).
        starts: the first frame of each in the recording.

    Returns:
        float32 (num_frames, vocab_size).
    """
    parts: list[LogProbs] = []
    begin = 0
    for index, lattice in enumerate(lattices):
        start, end = starts[index], starts[index] + len(lattice)
        if index + 1 < len(lattices):
            later = starts[index + 1]
            heard = lattice[later - start :].argmax(axis=1), lattices[index + 1][: end - later].argmax(axis=1)
            end = later + _seam((heard[0] == blank) & (heard[1] == blank))
        parts.append(lattice[begin - start : end - start])
        begin = end
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _seam(silent: "np.ndarray[tuple[int], np.dtype[np.bool_]]") -> int:
    """The frame of an overlap at which the later window takes over; `silent`: bool (shared frames,)."""
    quarter, middle = len(silent) // 4, len(silent) // 2
    inner = silent[quarter : len(silent) - quarter]
    edges = np.flatnonzero(np.diff(np.concatenate([[False], inner, [False]]).astype(np.int8)))
    runs = [(int(first), int(last)) for first, last in zip(edges[::2], edges[1::2], strict=True)]
    if not runs:
        return middle
    first, last = min(runs, key=lambda run: (run[0] - run[1], abs(quarter + (run[0] + run[1]) // 2 - middle)))
    return quarter + (first + last) // 2


def batches(lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Groups utterances of like length: each group's padded size (count x longest) stays within `budget` frames.

    A single utterance longer than the budget is a group of its own.
    """
    order = sorted(range(len(lengths)), key=lambda index: (-lengths[index], index))
    groups: list[list[int]] = []
    for index in order:
        if groups and (len(groups[-1]) + 1) * lengths[groups[-1][0]] <= budget:
            groups[-1].append(index)
        else:
            groups.append([index])
    return groups
