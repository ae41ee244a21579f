"""Figures as SVG that goes into a page, the same bytes each time, in the page's own text colour.

How every report draws them, and those of the validation report.
"""

import io
import re
from collections import Counter
from collections.abc import Sequence
from html import escape
from typing import Any

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from mondegreen.records import Epoch, SweepRow

BETTER, WORSE, SAME, BEFORE = "#2f9e6e", "#d9544d", "#8a8f98", "#4a86d8"
INK = "#010203"  # replaced by currentColor, so that a dark page gets light text
STYLE: dict[Any, Any] = {
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
    INK,
)
WIDTH = 4.2  # inches: on a phone of 360 px the text is then no smaller than 9 px


def new_figure(height: float, width: float = WIDTH) -> tuple[Figure, Axes]:
    """An empty figure, in inches; make and fill it within `matplotlib.rc_context(STYLE)`."""
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots()


def svg(figure: Figure, description: str) -> str:
    """The drawing without its XML head, metadata and namespaces, which HTML does not need.

    Args:
        description: what a reader who does not see it is told.
    """
    stream = io.StringIO()
    figure.savefig(stream, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    text = stream.getvalue()
    text = text[text.index("<svg") :].replace("xlink:href", "href").replace(INK, "currentColor")
    text = re.sub(r'\s+xmlns(:\w+)?="[^"]*"', "", text)
    text = re.sub(r"font-family: [^;\"]*", "font-family: inherit", text)
    text = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->\n?", "", text, flags=re.DOTALL)
    for size in ("width", "height"):
        text = re.sub(rf'(<svg[^>]*?) {size}="[^"]*"', r"\1", text, count=1)
    width = round(90 * figure.get_figwidth())  # points; a quarter larger than on paper
    return text.replace("<svg", f'<svg role="img" aria-label="{escape(description)}" style="max-width:{width}pt"', 1)


_FEW = 300  # distinct points of a scatter; more are gathered on a grid, or the page would hold megabytes of dots
_GRID = 0.04  # WER


def scatter(before: Sequence[float], after: Sequence[float]) -> str:
    """WER of each utterance, baseline against candidate; the area of a dot is the number of utterances there.

    Utterances above the diagonal (rings) got worse, those below (dots) better.
    """
    counts = Counter(zip(before, after, strict=True))
    if len(counts) > _FEW:
        counts = Counter((_on_grid(old, new)) for old, new in zip(before, after, strict=True))
    largest = max(counts.values())
    with mpl.rc_context(STYLE):
        figure, axes = new_figure(4.0)
        limit = 100 * max(*before, *after, 0.1) * 1.05
        axes.plot([0, limit], [0, limit], color=SAME, linewidth=1, linestyle="--")
        for color, filled, sign in ((SAME, True, 0), (BETTER, True, -1), (WORSE, False, 1)):
            points = sorted((old, new, n) for (old, new), n in counts.items() if np.sign(new - old) == sign)
            if points:
                old, new, size = np.array(points).T
                axes.scatter(
                    100 * old, 100 * new, s=16 + 150 * (size - 1) / max(largest, 20), alpha=0.75,
                    facecolors=color if filled else "none", edgecolors=color, linewidths=0 if filled else 1.2,
                )  # fmt: skip
        axes.set(
            xlabel="baseline error rate of an utterance, %", ylabel="candidate error rate, %",
            xlim=(-0.03 * limit, limit), ylim=(-0.03 * limit, limit), aspect="equal",
        )  # fmt: skip
        axes.grid(True)
        return svg(figure, "Error rate of each utterance before and after; below the diagonal the candidate is better")


def _on_grid(old: float, new: float) -> tuple[float, float]:
    """The middle of the cell; what changed never lands on the diagonal, what did not stays there."""
    x, y = (round(rate / _GRID) * _GRID for rate in (old, new))
    if x == y and old != new:
        y += _GRID / 2 if new > old else -_GRID / 2
    return x, max(0.0, y) if x or new <= old else y


def improvements(samples: npt.NDArray[np.float64], low: float, high: float) -> str:
    """The bootstrap distribution of the improvement with its interval and zero.

    Args:
        samples: float64 (num_samples,), absolute WER.
        low: lower end of the interval, absolute WER.
        high: upper end.
    """
    with mpl.rc_context(STYLE):
        figure, axes = new_figure(2.4)
        heights, edges = np.histogram(100 * samples, bins=50)
        axes.stairs(heights, edges, fill=True, color=BEFORE, alpha=0.5)
        axes.axvspan(100 * low, 100 * high, color=BETTER if low > 0 else SAME, alpha=0.2, linewidth=0)
        axes.axvline(0, color=WORSE, linewidth=1.5)
        axes.set(xlabel="improvement, points (right of the line at 0: better)", yticks=[])
        axes.spines["left"].set_visible(False)
        return svg(figure, f"Bootstrap of the improvement: {100 * low:+.2f} to {100 * high:+.2f} points")


def intervals(rows: Sequence[tuple[str, float, float, float, bool]]) -> str:
    """The improvement of each slice with its interval: (label, low, improvement, high, sure), absolute WER.

    Only what is sure has a colour, and a full dot.
    """
    with mpl.rc_context(STYLE):
        figure, axes = new_figure(0.7 + 0.24 * len(rows))
        for height, (_, low, middle, high, sure) in enumerate(rows):
            color = SAME if not sure else BETTER if middle > 0 else WORSE
            axes.plot([100 * low, 100 * high], [height, height], color=color, linewidth=2)
            face = color if sure else "none"
            axes.plot([100 * middle], [height], marker="o", color=color, markerfacecolor=face, markersize=5)
        axes.axvline(0, color=INK, linewidth=0.8)
        axes.set(xlabel="improvement, points", ylim=(len(rows) - 0.5, -0.5))
        axes.set_yticks(range(len(rows)), [_short(label) for label, *_ in rows])
        axes.grid(True, axis="x")
        return svg(figure, "Improvement and interval of each slice")


def _short(label: str, limit: int = 24) -> str:
    return label if len(label) <= limit else f"{label[: limit - 1]}…"


def losses(epochs: Sequence[Epoch]) -> str:
    """The training loss over the epochs."""
    with mpl.rc_context(STYLE):
        figure, axes = new_figure(2.4)
        axes.plot([row.epoch for row in epochs], [row.loss for row in epochs], marker=".", color=BEFORE)
        axes.set(xlabel="epoch", ylabel="training loss (CTC)")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(True)
        return svg(figure, f"Training loss from {epochs[0].loss:.3f} to {epochs[-1].loss:.3f}")


def error_rates(epochs: Sequence[Epoch], best: int | None) -> str:
    """WER and CER on the dev set over the epochs; a line at the epoch that was kept."""
    with mpl.rc_context(STYLE):
        figure, axes = new_figure(2.4)
        numbers = [row.epoch for row in epochs]
        axes.plot(numbers, [100 * row.dev_wer for row in epochs], marker="o", markersize=4, color=BEFORE, label="words")
        axes.plot(
            numbers, [100 * row.dev_cer for row in epochs], marker="s", markersize=4, color=SAME, label="characters"
        )
        if best is not None:
            axes.axvline(best, color=BETTER, linewidth=1.2, linestyle="--", label="kept")
        axes.set(xlabel="epoch", ylabel="dev set, %", ylim=(0, None))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.legend(fontsize=8)
        axes.grid(True)
        return svg(figure, "Error rates on the dev set over the epochs")


def merge_weights(sweep: Sequence[SweepRow], chosen: float | None, budget: float) -> str:
    """What each merge weight changes on dev and retention recordings against the base model, weight 0.

    Args:
        chosen: the weight that was kept.
        budget: WER that retention may lose, absolute.
    """
    with mpl.rc_context(STYLE):
        figure, axes = new_figure(2.4)
        base, weights = min(sweep, key=lambda row: row.weight), [row.weight for row in sweep]
        changes = [100 * (row.dev_wer - base.dev_wer) for row in sweep]
        axes.plot(weights, changes, marker="o", markersize=4, color=BEFORE, label="dev")
        if base.retention_wer is not None:
            losses = [100 * row.retention_loss for row in sweep]
            axes.plot(weights, losses, marker="s", markersize=4, color=WORSE, label="retention")
            bounds = [100 * row.retention_loss_bound for row in sweep]
            axes.plot(weights, bounds, linestyle="--", linewidth=1, color=WORSE, label="retention, at most")
            axes.axhline(100 * budget, color=WORSE, linewidth=1, linestyle=":", label="may be forgotten")
        if chosen is not None:
            axes.axvline(chosen, color=BETTER, linewidth=1.2, linestyle="--", label="chosen")
        axes.axhline(0, color=INK, linewidth=0.8)
        axes.set(xlabel="merge weight (0 = base model)", ylabel="change of the error rate, points", xticks=weights)
        axes.legend(fontsize=8)
        axes.grid(True)
        return svg(figure, "Change of the error rate on dev and retention recordings by merge weight; less is better")
