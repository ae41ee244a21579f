"""What the monitor found, in words and on one screen; and the WER in production, a line a version."""

from collections import Counter
from collections.abc import Callable, Iterator
from datetime import timedelta

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

from mondegreen.monitoring.records import (
    Check,
    CheckStatus,
    InferenceStatistics,
    MonitorReport,
    ProductionReport,
    ProductionWer,
    Traffic,
    Trend,
    VersionDifference,
    WerEstimate,
)
from mondegreen.scoring.wording import many, percent, points, span, version_name

_COLORS: dict[CheckStatus, str] = {"ok": "green", "alert": "red bold", "not measured": "yellow", "off": "dim"}
RATES = ("wer", "cer", "corrected_wer", "error_rate")  # fractions, shown in percent
HINT = (
    "Log what is transcribed: `mondegreen transcribe --log RECORDING…` (needs a model: --model, or model.base of "
    "params.yaml)."
)
UNKNOWN = "No alert, but nothing was measured against a threshold that says how well it hears"
HEAR = "`mondegreen review --audit`"
_MODELS = 3  # that have a column


def render(report: MonitorReport) -> RenderableType:
    """Traffic, checks and trends, for `rich`."""
    s = report.statistics
    lines: list[RenderableType] = [headline(report)]
    if report.outcome == "unknown" and s.count:
        lines.append(f"[yellow]{UNKNOWN}.[/]")
    if s.in_future:
        lines.append(f"[yellow]{future(report)}[/]")
    if s.count:
        lines.append(_traffic(report))
        lines += [f"corrections    {corrections(report)}"]
        lines += [escape(text) for text in production_lines(report.production)]
    if weeks := weeks_table(report.production):
        lines.append(weeks)
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
        heard = f"{many(s.count, 'inference')}, {hours:.1f} hours of audio"
        return f"{heard}, {many(len(s.models), 'model version')}, {window}."
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
    """Rate and interval, or that nobody measured it. A score that is not calibrated is no share of anything."""
    if traffic.error_interval is None:
        return "not calibrated" if traffic.uncalibrated else "not measured"
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


def model_names(found: InferenceStatistics) -> dict[str, str]:
    """What the models of a window are called, by digest: "version 4", or as the digest begins where it was no version.

    With phrases of a request's own a version has another digest: those that share a name are told apart by it.
    """
    names = {model: version_name(label) for model, label in found.served.items()}
    shared = {name for name, count in Counter(names.values()).items() if count > 1}
    names = {model: f"{name} ({model[:12]})" if name in shared else name for model, name in names.items()}
    return {model: names.get(model, model[:12]) for model in found.models}


def _traffic(report: MonitorReport) -> Table:
    """A column a model, the busiest first; the rest of many are in --json."""
    s = report.statistics
    names = model_names(s)
    groups: list[tuple[str, Traffic]] = [(names[model], traffic) for model, traffic in s.models.items()]
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


def production_lines(report: ProductionReport) -> Iterator[str]:
    """What the monitor says."""
    if len(report.versions) > 1:
        yield f"production {_wer_line(report.total)}"
    yield f"production {present_line(report)}"
    if not report.total.inferences:
        return
    for wer in reversed(report.versions[:-1]):
        yield f"production {_wer_line(wer)}"
    if report.difference:
        yield _version_change(report.difference)
    if report.outside:
        yield f"{report.outside:,} more inferences of the window were logged without a draw and are not spoken of."


def present_line(report: ProductionReport) -> str:
    """What is known of the version that answers now."""
    if not report.total.inferences:
        missing = f" ({report.outside:,} inferences were logged without a draw)" if report.outside else ""
        return f"WER is not measured: no inference was offered to the audit{missing}; see audit.rate."
    return _wer_line(report.versions[-1])


def _wer_line(found: ProductionWer) -> str:
    """WER 23.1 % (20.9–25.3), 120 audited of 3,412, last 7 days, version 4."""
    place = f"{_length(found.until - found.since)}, {version_name(found.label)}"
    waiting = found.drawn - found.audited
    if found.wer is None:
        more = f", {waiting:,} wait to be heard ({HEAR})" if waiting else ""
        return f"WER is not measured, {place}: {found.reason}{more}."
    text = f"WER {_wer_rate(found.wer)}, {found.audited:,} audited of {found.inferences:,}, {place}"
    if found.reason:
        text += f"; {found.reason}"
    elif found.plain:
        text += f"; without the detector's help {_wer_rate(found.plain)}"
    if found.without_speech:
        text += f"; {found.without_speech:,} of the audited hold no speech that could be judged"
    return f"{text}{f'; {waiting:,} wait to be heard' if waiting else ''}."


def _wer_rate(wer: WerEstimate) -> str:
    """23.1 % (20.9–25.3)."""
    return f"{percent(wer.value)} ({100 * wer.interval.low:.1f}–{100 * wer.interval.high:.1f})"


def _version_change(found: VersionDifference) -> str:
    """What the version that answers now changed."""
    pair = f"{version_name(found.after)} against {version_name(found.before)}"
    if found.difference is None or found.interval is None:
        return f"{pair}: no difference is measured, {found.reason}."
    interval = span(found.interval.low, found.interval.high)
    return f"{pair}: {points(found.difference)} WER in production (95 % interval {interval}; positive is worse)."


def _length(window: timedelta) -> str:
    """7 days as "last 7 days"."""
    days = window / timedelta(days=1)
    return f"last {days:g} days" if days != 1 else "last day"


def weeks_table(report: ProductionReport) -> Table | None:
    """The weeks, None when none was measured."""
    if not any(week.wer for week in report.weeks):
        return None
    table = Table("week from", "WER in production (95 %)")
    table.add_column("audited", justify="right")
    table.add_column("of", justify="right")
    for week in report.weeks:
        shown = _wer_rate(week.wer) if week.wer else week.reason
        table.add_row(f"{week.since:%Y-%m-%d}", shown, f"{week.audited:,}", f"{week.inferences:,}")
    return table
