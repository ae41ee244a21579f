"""The monitor as a page that needs nothing else."""

from pathlib import Path

from markupsafe import Markup

from mondegreen.files import write_text
from mondegreen.reports import monitor, monitor_figures
from mondegreen.reports.monitor_records import MonitorReport
from mondegreen.reports.templating import templates


def write_page(path: Path, report: MonitorReport) -> None:
    """Writes the page; the same report gives the same bytes."""
    page = templates(escape=True).get_template("monitor.html.j2")
    text = page.render(
        report=report,
        outcome="alert" if report.alerts else "ok" if report.statistics.count else "unknown",
        headline=monitor.headline(report),
        future=monitor.future(report) if report.statistics.in_future else "",
        corrections=monitor.corrections(report),
        delivery=monitor.delivery(report),
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
        errors = monitor_figures.curve(
            steps, lambda step: step.error_rate, "Error rate over the window, %", scale=100,
            threshold=thresholds.get("error_rate"),
        )  # fmt: skip
        confidence = monitor_figures.curve(
            steps, lambda step: step.mean_confidence, "Mean confidence over the window",
            threshold=thresholds.get("confidence") or None,  # 0 is no threshold
        )  # fmt: skip
        latency = monitor_figures.curve(steps, lambda step: step.mean_latency, "Mean latency over the window, seconds")
        drawn = [
            ("Inferences", monitor_figures.traffic(steps)),
            ("Error rate, % of the measured; the dashed line is the threshold", errors),
            ("Mean confidence", confidence),
            ("Mean latency, seconds", latency),
        ]
    if report.drift.confidence:
        drawn.append(
            ("Confidence against the model's first week", monitor_figures.confidences(report.drift.confidence))
        )
    for trend in report.trends:
        if trend.metric in ("wer", "cer"):
            name = trend.metric.upper()
            drawn.append(
                (
                    f"{name} of each round's candidate on the test set, %",
                    monitor_figures.trend(trend, f"{name} over the rounds, %", 100),
                )
            )
    return drawn
