"""The monitor on one screen.

Curves of the monitor's page, in the style of the validation report.

The monitor as a page that needs nothing else.
"""

import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from markupsafe import Markup
from matplotlib import dates
from matplotlib.axes import Axes
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

from mondegreen.files import write_text
from mondegreen.monitoring.records import Check, CheckStatus, ConfidenceDrift, MonitorReport, TimeStep, Traffic, Trend
from mondegreen.reports.figures import BEFORE, SAME, STYLE, WORSE, new_figure, svg
from mondegreen.reports.page import templates
from mondegreen.scoring.wording import percent

_COLORS: dict[CheckStatus, str] = {"ok": "green", "alert": "red bold", "not measured": "yellow"}
RATES = ("wer", "cer", "error_rate")  # fractions, shown in percent
HINT = (
    "Log what is transcribed: `mondegreen transcribe --log RECORDING…` (needs a model: --model, or model.base of "
    "params.yaml)."
)

_MODELS = 3


def render(report: MonitorReport) -> RenderableType:
    """Traffic, checks and trends, for `rich`."""
    s = report.statistics
    lines: list[RenderableType] = [headline(report)]
    if s.in_future:
        lines.append(f"[yellow]{future(report)}[/]")
    if s.count:
        lines.append(_traffic(report))
        lines += [f"corrections    {corrections(report)}"]
    lines.append(_checks(report.checks))
    lines += [f"[red]alert[/] {escape(check.metric)}: {escape(check.next_step)}" for check in report.alerts]
    lines.append(_trends(report.trends))
    if text := delivery(report):
        lines.append(f"webhook        {escape(text)}")
    return Group(*lines)


def headline(report: MonitorReport) -> str:
    """How much there is to look at, or what to do when there is nothing."""
    s = report.statistics
    window = f"{s.since:%Y-%m-%d %H:%M} to {s.until:%Y-%m-%d %H:%M} UTC"
    if s.count:
        hours = s.audio_seconds / 3600
        return f"{s.count:,} inferences, {hours:.1f} hours of audio, {len(s.models)} model version(s), {window}."
    if s.last:
        last = f"{s.last:%Y-%m-%d %H:%M}"
        return f"No inferences from {window}; the last one was at {last} UTC. Look further back: --since 7d. {HINT}"
    return f"No inferences yet in {report.database}. {HINT}"


def future(report: MonitorReport) -> str:
    """A clock that was wrong."""
    return f"{report.statistics.in_future:,} inferences lie in the future and are left out: the clock was moved back."


def corrections(report: MonitorReport) -> str:
    """What became of the window's failed cases."""
    s = report.statistics
    if s.correction_rate is None:
        return "no failed cases in the window"
    return f"{s.corrected:,} of {s.cases:,} failed cases are corrected ({percent(s.correction_rate)})"


def delivery(report: MonitorReport) -> str:
    """What became of the alerts, "" when nothing was to be sent."""
    if report.delivery is None:
        return ""
    found = report.delivery
    if found.problem:
        return f"NOT DELIVERED: {found.problem}"
    parts = [f"sent {', '.join(found.sent)}"] if found.sent else []
    parts += [f"sent before, cooling down: {', '.join(found.cooling_down)}"] if found.cooling_down else []
    return "; ".join(parts)


def seconds(value: float | None) -> str:
    """0.1234 as "0.12 s"."""
    return "–" if value is None else f"{value:.2f} s"


def number(value: float | None) -> str:
    """Three digits after the point."""
    return "–" if value is None else f"{value:.3f}"


def error_rate(traffic: Traffic) -> str:
    """Rate and interval, or that nobody measured it."""
    if traffic.error_interval is None:
        return "not measured"
    low, high = (100 * bound for bound in (traffic.error_interval.low, traffic.error_interval.high))
    return f"{percent(traffic.error_detection_rate)} ({low:.1f}–{high:.1f})"


def trend_value(trend: Trend, value: float | None) -> str:
    """A value of a metric with its unit."""
    if trend.metric in RATES:
        return percent(value)
    return seconds(value) if trend.metric == "latency" else number(value)


def change(trend: Trend) -> str:
    """By how much it got better, or why nobody can tell."""
    if trend.improvement is None:
        return trend.reason
    if not trend.improvement:
        return "no change"
    size = abs(trend.improvement)
    shown = f"{100 * size:.2f} points" if trend.metric in RATES else trend_value(trend, size)
    return f"{shown} {'better' if trend.improvement > 0 else 'worse'}"


def _traffic(report: MonitorReport) -> Table:
    """A column a model, the busiest first; the rest of many are in --json."""
    s = report.statistics
    groups: list[tuple[str, Traffic]] = [(name[:12], traffic) for name, traffic in s.models.items()]
    groups = groups[:_MODELS] + ([("all", s)] if len(groups) > 1 else [])
    table = Table("model", *(escape(name) for name, _ in groups))
    for label, value in _ROWS.items():
        table.add_row(label, *(value(traffic) for _, traffic in groups))
    return table


def _checks(checks: list[Check]) -> Table:
    table = Table("check", "status", "found")
    table.add_column("threshold", justify="right")
    for check in checks:
        status = f"[{_COLORS[check.status]}]{check.status}[/]"
        table.add_row(check.metric, status, escape(check.detail), f"{check.threshold:g}")
    return table


def _trends(trends: list[Trend]) -> Table:
    table = Table("trend")
    table.add_column("values", justify="right")
    table.add_column("latest", justify="right")
    table.add_column("from first to latest")
    for trend in trends:
        table.add_row(trend.metric, str(len(trend.values)), trend_value(trend, trend.latest), escape(change(trend)))
    return table


_ROWS: dict[str, Callable[[Traffic], str]] = {
    "inferences": lambda traffic: f"{traffic.count:,}",
    "errors (95 %)": error_rate,
    "confidence": lambda traffic: number(traffic.mean_confidence),
    "latency p50": lambda traffic: seconds(traffic.latency.p50 if traffic.latency else None),
    "latency p95": lambda traffic: seconds(traffic.latency.p95 if traffic.latency else None),
    "latency p99": lambda traffic: seconds(traffic.latency.p99 if traffic.latency else None),
    "real-time factor": lambda traffic: number(traffic.real_time_factor),
}


Days = npt.NDArray[np.float64]
Points = Sequence[tuple[datetime, float]]


def traffic(buckets: Sequence[TimeStep]) -> str:
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
    buckets: Sequence[TimeStep],
    value: Callable[[TimeStep], float | None],
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


def write_page(path: Path, report: MonitorReport) -> None:
    """Writes the page; the same report gives the same bytes."""
    page = templates(escape=True).get_template("monitor.html.j2")
    text = page.render(
        report=report,
        outcome="alert" if report.alerts else "ok" if report.statistics.count else "unknown",
        headline=headline(report),
        future=future(report) if report.statistics.in_future else "",
        corrections=corrections(report),
        delivery=delivery(report),
        figures={title: Markup(svg) for title, svg in _figures(report) if svg},
        show=sys.modules[__name__],
    )
    write_text(path, text + "\n")


def _figures(report: MonitorReport) -> list[tuple[str, str]]:
    """Title and SVG of each figure that there is data for."""
    thresholds = {check.metric: check.threshold for check in report.checks}
    drawn = []
    if report.statistics.count:
        steps = report.buckets
        errors = curve(
            steps, lambda step: step.error_rate, "Error rate over the window, %", scale=100,
            threshold=thresholds.get("error_rate"),
        )  # fmt: skip
        confidence = curve(
            steps, lambda step: step.mean_confidence, "Mean confidence over the window",
            threshold=thresholds.get("confidence") or None,  # 0 is no threshold
        )  # fmt: skip
        latency = curve(steps, lambda step: step.mean_latency, "Mean latency over the window, seconds")
        drawn = [
            ("Inferences", traffic(steps)),
            ("Error rate, % of the measured; the dashed line is the threshold", errors),
            ("Mean confidence", confidence),
            ("Mean latency, seconds", latency),
        ]
    if report.drift.confidence:
        drawn.append(("Confidence against the model's first week", confidences(report.drift.confidence)))
    for shown in report.trends:
        if shown.metric in ("wer", "cer"):
            name = shown.metric.upper()
            drawn.append(
                (
                    f"{name} of each round's candidate on the test set, %",
                    trend(shown, f"{name} over the rounds, %", 100),
                )
            )
    return drawn
