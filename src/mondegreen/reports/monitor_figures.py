"""Curves of the monitor's page, in the style of the validation report."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib import dates
from matplotlib.axes import Axes

from mondegreen.reports.drawing import BEFORE, SAME, STYLE, WORSE, new_figure, svg
from mondegreen.reports.monitor_records import Bucket, ConfidenceDrift, Trend

Days = npt.NDArray[np.float64]
Points = Sequence[tuple[datetime, float]]


def traffic(buckets: Sequence[Bucket]) -> str:
    """Inferences of each step of the window."""
    with mpl.rc_context(STYLE):
        figure, axes = new_figure(2.2, 6.0)
        starts, counts = _days([bucket.start for bucket in buckets]), [bucket.count for bucket in buckets]
        axes.step(starts, counts, where="post", color=BEFORE)
        axes.fill_between(starts, counts, step="post", color=BEFORE, alpha=0.25, linewidth=0)
        axes.set_ylim(bottom=0)
        _time_axis(axes, starts)
        return svg(figure, "Inferences over the window")


def curve(
    buckets: Sequence[Bucket],
    value: Callable[[Bucket], float | None],
    description: str,
    *,
    scale: float = 1.0,
    threshold: float | None = None,
) -> str:
    """A number of each step that has it; "" when none has. The threshold is a line."""
    points = [(bucket.start, found) for bucket in buckets if (found := value(bucket)) is not None]
    return _line(points, description, scale, threshold) if points else ""


def trend(found: Trend, description: str, scale: float = 1.0) -> str:
    """A metric over time, "" without values."""
    return _line(found.values, description, scale, None) if found.values else ""


def confidences(drift: ConfidenceDrift) -> str:
    """The window's share in each tenth of the first week's confidences; without drift all bars end at the line."""
    with mpl.rc_context(STYLE):
        figure, axes = new_figure(2.6, 6.0)
        places = range(len(drift.window_shares))
        axes.bar(places, [100 * share for share in drift.window_shares], color=BEFORE, alpha=0.6, label="window")
        axes.step(
            [place - 0.5 for place in (*places, len(places))],
            [100 * share for share in (*drift.reference_shares, drift.reference_shares[-1])],
            where="post", color=WORSE, label="first week",
        )  # fmt: skip
        labels = [f"{low:.2f}–{high:.2f}" for low, high in zip(drift.edges, drift.edges[1:], strict=False)]
        axes.set_xticks(list(places), labels, rotation=45, ha="right")
        axes.set(xlabel="confidence", ylabel="share, %")
        axes.legend(fontsize=8)
        return svg(figure, f"Confidence against the first week, PSI {drift.psi:.3f}")


def _line(points: Points, description: str, scale: float, threshold: float | None) -> str:
    with mpl.rc_context(STYLE):
        figure, axes = new_figure(2.2, 6.0)
        times = _days([moment for moment, _ in points])
        axes.plot(times, [scale * value for _, value in points], marker=".", color=BEFORE)
        if threshold is not None:
            axes.axhline(scale * threshold, color=WORSE, linewidth=1, linestyle="--")
        axes.grid(True, color=SAME)
        _time_axis(axes, times)
        return svg(figure, description)


def _days(moments: Sequence[datetime]) -> Days:
    """Matplotlib's dates: float64 (num_moments,), days since 1970."""
    return np.array([moment.timestamp() / 86_400 for moment in moments])


def _time_axis(axes: Axes, days: Days) -> None:
    locator = dates.AutoDateLocator(tz=UTC, maxticks=7)  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(dates.ConciseDateFormatter(locator, tz=UTC))  # type: ignore[no-untyped-call]
    if len(np.unique(days)) == 1:  # the locator would show a span of years around it
        axes.set_xticks(days[:1], [f"{datetime.fromtimestamp(86_400 * days[0], UTC):%Y-%m-%d %H:%M}"])
