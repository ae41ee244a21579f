"""The monitor as a page that needs nothing else, with its curves in the style of the validation report."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from markupsafe import Markup
from matplotlib import dates
from matplotlib.axes import Axes

from mondegreen.files import write_text
from mondegreen.monitoring.records import ConfidenceDrift, MonitorReport, TimeStep, Trend, WerEstimate
from mondegreen.reports import monitor
from mondegreen.reports.figures import BEFORE, SAME, STYLE, WORSE, new_figure, svg
from mondegreen.reports.page import templates

Days = npt.NDArray[np.float64]
MomentRows = Sequence[tuple[datetime, float]]


def write_page(path: Path, report: MonitorReport) -> None:
    """Writes the page; the same report gives the same bytes."""
    page = templates(escape=True).get_template("monitor.html.j2")
    text = page.render(
        report=report,
        headline=monitor.headline(report),
        future=monitor.future(report) if report.statistics.in_future else "",
        corrections=monitor.corrections(report),
        delivery=monitor.delivery(report),
        production=list(monitor.production_lines(report.production)) if report.statistics.count else [],
        figures={title: Markup(svg) for title, svg in _figures(report) if svg},
        show=monitor,
    )
    write_text(path, text + "\n")


def _figures(report: MonitorReport) -> list[tuple[str, str]]:
    """Title and SVG of each figure that there is data for."""
    thresholds = {check.metric: check.threshold for check in report.checks}
    drawn = []
    if report.statistics.count:
        steps = report.buckets
        errors = _curve(
            steps, lambda step: step.error_rate, "Error rate over the window, %", scale=100,
            threshold=thresholds.get("error_rate"),
        )  # fmt: skip
        confidence = _curve(
            steps, lambda step: step.mean_confidence, "Mean confidence over the window",
            threshold=thresholds.get("confidence") or None,  # 0 is no threshold
        )  # fmt: skip
        latency = _curve(steps, lambda step: step.mean_latency, "Mean latency over the window, seconds")
        drawn = [
            ("Inferences", _traffic(steps)),
            ("Error rate, % of the measured; the dashed line is the threshold", errors),
            ("Mean confidence", confidence),
            ("Mean latency, seconds", latency),
        ]
    if weeks := [(week.since, week.wer) for week in report.production.weeks if week.wer]:
        band = _band(weeks, report.production.max_wer)
        drawn.insert(0, ("WER in production by week, %, with its 95 % interval", band))
    if report.drift.confidence:
        drawn.append(("Confidence against the model's first week", _confidences(report.drift.confidence)))
    for shown in report.trends:
        if shown.metric in ("wer", "cer"):
            name = shown.metric.upper()
            drawing = _trend(shown, f"{name} over the rounds, %", 100)
            drawn.append((f"{name} of each round's candidate on the test set, %", drawing))
    return drawn


def _traffic(steps: Sequence[TimeStep]) -> str:
    """Inferences of each step of the window."""
    with mpl.rc_context(STYLE):
        figure, axes = new_figure(2.2, 6.0)
        starts, counts = _days([step.start for step in steps]), [step.count for step in steps]
        axes.step(starts, counts, where="post", color=BEFORE)
        axes.fill_between(starts, counts, step="post", color=BEFORE, alpha=0.25, linewidth=0)
        axes.set_ylim(bottom=0)
        _time_axis(axes, starts)
        return svg(figure, "Inferences over the window")


def _curve(
    steps: Sequence[TimeStep],
    value: Callable[[TimeStep], float | None],
    description: str,
    *,
    scale: float = 1.0,
    threshold: float | None = None,
) -> str:
    """A number of each step that has it; "" when none has. The threshold is a line."""
    points = [(step.start, found) for step in steps if (found := value(step)) is not None]
    return _line(points, description, scale, threshold) if points else ""


def _trend(found: Trend, description: str, scale: float = 1.0) -> str:
    """A metric over time, "" without values."""
    return _line(found.values, description, scale, None) if found.values else ""


def _band(weeks: Sequence[tuple[datetime, WerEstimate]], threshold: float | None) -> str:
    """The estimates of the weeks with their intervals."""
    with mpl.rc_context(STYLE):
        figure, axes = new_figure(2.6, 6.0)
        times = _days([moment for moment, _ in weeks])
        low, high = ([100 * getattr(wer.interval, end) for _, wer in weeks] for end in ("low", "high"))
        axes.fill_between(times, low, high, color=BEFORE, alpha=0.25, linewidth=0)
        axes.vlines(times, low, high, color=BEFORE, alpha=0.5, linewidth=1)
        axes.plot(times, [100 * wer.value for _, wer in weeks], marker=".", color=BEFORE)
        if threshold is not None:
            axes.axhline(100 * threshold, color=WORSE, linewidth=1, linestyle="--")
        axes.grid(True, color=SAME)
        _time_axis(axes, times)
        return svg(figure, "WER in production by week, %")


def _confidences(drift: ConfidenceDrift) -> str:
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


def _line(points: MomentRows, description: str, scale: float, threshold: float | None) -> str:
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
