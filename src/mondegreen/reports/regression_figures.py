"""The rates of the regression suites over the versions, drawn."""

from collections.abc import Sequence

import matplotlib as mpl

from mondegreen.reports.drawing import STYLE, WORSE, new_figure, svg
from mondegreen.reports.regression_series import Series

_LABELS = 12  # versions that are named below the axis


def rates_svg(found: Sequence[Series]) -> str:
    """A line for each suite, a cross where it did not pass; "" without a rate."""
    runs = sorted({(point.run, point.version) for item in found for point in item.points})
    places = {run: place for place, (run, _) in enumerate(runs)}
    if not any(point.rate is not None for item in found for point in item.points):
        return ""
    with mpl.rc_context(STYLE):
        figure, axes = new_figure(2.8, 6.0)
        for item in found:
            known = [(places[p.run], 100 * p.rate, p.outcome) for p in item.points if p.rate is not None]
            if known:
                x, y, _ = zip(*known, strict=True)
                axes.plot(x, y, marker=".", label=f"{item.name}{' (violations)' if item.kind == 'behaviour' else ''}")
            shut = [(place, rate) for place, rate, outcome in known if outcome != "pass"]
            if shut:
                axes.scatter(*zip(*shut, strict=True), marker="x", color=WORSE, zorder=3)
        step = -(-len(runs) // _LABELS)
        named = list(enumerate(version for _, version in runs))[::step]
        axes.set_xticks([place for place, _ in named], [version for _, version in named], rotation=30, ha="right")
        axes.set(ylabel="WER or violations, %", ylim=(0, None))
        axes.legend(fontsize=8)
        axes.grid(True)
        return svg(figure, "Rate of each regression suite over the versions; a cross where it did not pass")
