"""Figures as SVG that goes into a page: the same bytes each time, the page's own text colour, nothing to fetch."""

import io
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

BETTER, WORSE, SAME, BEFORE = "#2f9e6e", "#d9544d", "#8a8f98", "#4a86d8"
_INK = "#010203"  # replaced by currentColor, so that a dark page gets light text
_STYLE: dict[Any, Any] = {
    "svg.hashsalt": "mondegreen",
    "svg.fonttype": "none",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.alpha": 0.25,
    "legend.frameon": False,
    "savefig.transparent": True,
} | dict.fromkeys(
    ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color", "grid.color", "axes.titlecolor"),
    _INK,
)


def scatter(before: Sequence[float], after: Sequence[float]) -> str:
    """WER of each utterance, baseline against candidate; the area of a dot is the number of utterances there."""
    counts = Counter(zip(before, after, strict=True))
    with mpl.rc_context(_STYLE):
        figure, axes = _figure(4.6, 4.4)
        limit = 100 * max([*before, *after, 0.1]) * 1.05
        axes.plot([0, limit], [0, limit], color=SAME, linewidth=1, linestyle="--")
        for (old, new), count in sorted(counts.items()):
            color = BETTER if new < old else WORSE if new > old else SAME
            axes.scatter([100 * old], [100 * new], s=14 * count**0.7, color=color, alpha=0.7, linewidths=0)
        axes.set(
            xlabel="baseline WER of an utterance, %", ylabel="candidate WER, %", xlim=(-2, limit), ylim=(-2, limit)
        )
        axes.grid(True)
        return _svg(figure, "WER of each utterance before and after; below the diagonal the candidate is better")


def improvements(samples: npt.NDArray[np.float64], low: float, high: float) -> str:
    """The bootstrap distribution of the improvement with its interval and zero.

    Args:
        samples: float64 (num_samples,), absolute WER.
        low: lower end of the interval, absolute WER.
        high: upper end.
    """
    with mpl.rc_context(_STYLE):
        figure, axes = _figure(5.6, 2.6)
        heights, edges = np.histogram(100 * samples, bins=50)
        axes.stairs(heights, edges, fill=True, color=BEFORE, alpha=0.5)
        axes.axvspan(100 * low, 100 * high, color=BETTER if low > 0 else SAME, alpha=0.2, linewidth=0)
        axes.axvline(0, color=WORSE, linewidth=1.5)
        axes.set(xlabel="WER improvement, points (right of the line: better)", yticks=[])
        return _svg(figure, f"Bootstrap of the improvement: {100 * low:+.2f} to {100 * high:+.2f} points")


def intervals(rows: Sequence[tuple[str, float, float, float]]) -> str:
    """The improvement of each slice with its interval: (label, low, improvement, high), absolute WER."""
    with mpl.rc_context(_STYLE):
        figure, axes = _figure(5.6, 0.8 + 0.4 * len(rows))
        for height, (_, low, middle, high) in enumerate(rows):
            color = BETTER if low > 0 else WORSE if high < 0 else SAME
            axes.plot([100 * low, 100 * high], [height, height], color=color, linewidth=2)
            axes.plot([100 * middle], [height], marker="o", color=color)
        axes.axvline(0, color=_INK, linewidth=0.8)
        axes.set(xlabel="WER improvement, points", ylim=(len(rows) - 0.5, -0.5))
        axes.set_yticks(range(len(rows)), [label for label, *_ in rows])
        return _svg(figure, "Improvement and interval of each slice")


def curves(history: Sequence[Mapping[str, float | int | None]]) -> str:
    """Losses and error rates over the epochs, "" when the history has neither."""
    names = sorted({name for row in history for name, value in row.items() if isinstance(value, int | float)})
    panels = [
        ("loss", [name for name in names if "loss" in name], 1.0),
        ("error rate, %", [name for name in names if name.endswith(("wer", "cer"))], 100.0),
    ]
    panels = [panel for panel in panels if panel[1]]
    if not panels:
        return ""
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(3.4 * len(panels), 2.8), layout="constrained")
        for axes, (label, members, scale) in zip(
            figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True
        ):
            for name in members:
                points = [
                    (row.get("epoch") or number, scale * float(value))
                    for number, row in enumerate(history, 1)
                    if (value := row.get(name)) is not None
                ]
                axes.plot(*zip(*points, strict=True), marker=".", label=name.replace("_", " "))
            axes.set(xlabel="epoch", title=label)
            axes.legend(fontsize=8)
            axes.grid(True)
        return _svg(figure, "Learning curves")


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots()


def _svg(figure: Figure, description: str) -> str:
    """The drawing without its XML head, metadata and namespaces, which HTML does not need."""
    stream = io.StringIO()
    figure.savefig(stream, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    text = stream.getvalue()
    text = text[text.index("<svg") :].replace("xlink:href", "href").replace(_INK, "currentColor")
    text = re.sub(r'\s+xmlns(:\w+)?="[^"]*"', "", text)
    text = re.sub(r"font-family: [^;\"]*", "font-family: inherit", text)
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(
        r'(<svg[^>]*?) width="[^"]*"', r"\1", re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", text, count=1), count=1
    )
    width = round(72 * figure.get_figwidth())
    return text.replace("<svg", f'<svg role="img" aria-label="{description}" style="max-width:{width}pt"', 1)
