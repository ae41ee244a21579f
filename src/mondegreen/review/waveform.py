"""What a recording looks like: its loudness over time, drawn as one path of an SVG."""

from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mondegreen.config import Seconds
from mondegreen.speech.audio import SAMPLE_RATE, stream_windows

WIDTH, HEIGHT = 600, 100  # of the drawing's own units
_SLICE = SAMPLE_RATE // 200  # samples of one measurement, 5 ms
_WINDOW: Seconds = 30.0
_LOUD = 0.05  # quieter recordings are not drawn larger than as if this were their peak


class Drawing(NamedTuple):
    """A waveform; `path` fits WIDTH x HEIGHT."""

    path: str
    duration: Seconds


@lru_cache(maxsize=256)
def draw(recording: Path) -> Drawing:
    """Reads a recording window by window. Raises AudioError.

    Args:
        recording: named after its content, so that what was drawn once need not be read again.
    """
    peaks: list[np.ndarray[tuple[int], np.dtype[np.float32]]] = []
    samples = 0
    for _, window in stream_windows(recording, _WINDOW, 0.0):
        padded = np.pad(np.abs(window), (0, -len(window) % _SLICE))
        peaks.append(padded.reshape(-1, _SLICE).max(axis=1))  # (num_slices,)
        samples += len(window)
    return Drawing(_path(np.concatenate(peaks)), samples / SAMPLE_RATE)


def _path(levels: np.ndarray[tuple[int], np.dtype[np.float32]]) -> str:
    """One upright bar for every second unit of the width, mirrored about the middle."""
    columns = min(WIDTH // 2, len(levels))
    edges = np.linspace(0, len(levels), columns + 1).astype(int)
    highest = np.maximum.reduceat(levels, edges[:-1]) / max(_LOUD, float(levels.max(initial=0.0)))
    step = WIDTH / columns
    bars = []
    for column, level in enumerate(np.nan_to_num(highest)):
        half = max(1.0, float(level) * (HEIGHT / 2 - 2))
        bars.append(f"M{(column + 0.5) * step:.1f} {HEIGHT / 2 - half:.1f}v{2 * half:.1f}")
    return "".join(bars)
