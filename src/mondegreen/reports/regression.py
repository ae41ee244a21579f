"""Runs of the regression suites, and each suite over the versions: for the terminal, Markdown, a page, JSON."""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

from mondegreen.records import Outcome, RegressionResults, SuiteResult
from mondegreen.scoring.wording import many, percent

if TYPE_CHECKING:
    from mondegreen.registry.regression_runs import RegressionRun

SUITE_METRICS = ("wer", "cer", "violation_rate")
NOTHING = "No run of the regression suites is on record yet: `mondegreen regression run`, or `dvc repro`."
_BARS = "▁▂▃▄▅▆▇█"
_LABELS = 12  # versions that are named below the axis
_COLORS: dict[Outcome, str] = {"pass": "green", "fail": "red bold", "inconclusive": "yellow"}


class Point(BaseModel):
    """A suite in one run. `rate` is None when the suite did not run."""

    model_config = ConfigDict(frozen=True)

    run: int
    version: str
    at: str  # ISO 8601, UTC
    outcome: Outcome
    rate: float | None


class Series(BaseModel):
    """A suite over the runs, oldest first. The rate is a WER, or a behaviour's share of violations; fractions."""

    model_config = ConfigDict(frozen=True)

    name: str
    kind: str
    metric: str
    points: tuple[Point, ...]

    @property
    def rates(self) -> list[float | None]:
        return [point.rate for point in self.points]


def render_results(results: RegressionResults) -> RenderableType:
    """One run, for `rich`."""
    table = _table("suite", "type", "outcome", "before", "after")
    table.add_column("why", overflow="fold")
    for suite in results.suites:
        table.add_row(escape(suite.name), suite.kind, _colored(suite.outcome), *rates(suite), escape(why(suite)))
    words = {"pass": "[green]passed[/]", "fail": "[red bold]not passed[/]", "none": "not run"}
    word = words[results.outcome]
    return Group(*([table] if results.suites else []), f"{word}: {escape(results.reason)}")


def render_history(runs: "Sequence[RegressionRun]") -> RenderableType:
    """The last run of each model and every suite over them, for `rich`; runs oldest first."""
    if not runs:
        return NOTHING
    table = _table("suite", "type", "over the versions", "first", "last", "outcome")
    table.columns[2].no_wrap = False  # where the screen is too narrow, this one's heading gives way, and no word is cut
    for item in series(runs):
        first, last = item.points[0], item.points[-1]
        ends = (percent(first.rate), percent(last.rate))
        table.add_row(escape(item.name), item.kind, sparkline(item.rates), *ends, _colored(last.outcome))
    return Group(table, *(escape(headline(run)) for run in runs[-3:][::-1]))


def series(runs: "Sequence[RegressionRun]") -> list[Series]:
    """Every suite of the runs, in the order of the newest run, those that it lacks behind.

    Args:
        runs: oldest first.
    """
    found: dict[str, tuple[str, list[Point]]] = {}
    for run in reversed(runs):
        for suite in run.results.suites:
            kind, points = found.setdefault(suite.name, (suite.kind, []))
            point = Point(
                run=run.id,
                version=run.model_version or run.model_digest[:12],
                at=run.at.isoformat(timespec="seconds"),
                outcome=suite.outcome,
                rate=suite_rate(suite, _metric(kind)),
            )
            points.insert(0, point)
    return [
        Series(name=name, kind=kind, metric=_metric(kind), points=tuple(points))
        for name, (kind, points) in found.items()
    ]


def suite_rate(suite: SuiteResult, metric: str) -> float | None:
    """One of SUITE_METRICS of a suite, a fraction; None when it did not run or has no such rate."""
    if metric == "violation_rate":
        found = suite.details.get(metric)
        return float(found) if isinstance(found, int | float) else None
    rates = suite.candidate
    return None if rates is None else (rates.wer if metric == "wer" else rates.cer).rate


def sparkline(rates: Sequence[float | None]) -> str:
    """A bar for each rate, the lowest for the smallest and the highest for the largest; a dot where there is none."""
    known = [rate for rate in rates if rate is not None]
    low, width = min(known, default=0.0), max(known, default=0.0) - min(known, default=0.0)
    top = len(_BARS) - 1
    return "".join("·" if rate is None else _BARS[round(top * (rate - low) / width) if width else 0] for rate in rates)


def rates_svg(found: Sequence[Series]) -> str:
    """A line for each suite, a cross where it did not pass; "" without a rate."""
    import matplotlib as mpl

    from mondegreen.reports.figures import STYLE, WORSE, new_figure, svg

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


def headline(run: "RegressionRun") -> str:
    """A run in a line."""
    digest = f" ({run.model_digest[:12]})" if run.model_digest and run.model_digest[:12] != run.model_version else ""
    who = f"{run.model_version or 'unnamed model'}{digest}"
    return f"{run.at:%Y-%m-%d %H:%M} UTC, {who}: {run.reason.splitlines()[0]}"


def markdown(runs: "Sequence[RegressionRun]") -> str:
    """The newest run, then every suite over the versions, for a pull request; runs oldest first."""
    if not runs:
        return f"# Regression suites\n\n{NOTHING}\n"
    newest = runs[-1]
    lines = ["# Regression suites", "", _cell(headline(newest)), ""]
    lines += [
        "| suite | type | severity | owner | outcome | before | after | why |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for suite in newest.results.suites:
        cells = (suite.name, suite.kind, suite.severity, suite.owner, suite.outcome, *rates(suite), why(suite))
        lines.append(f"| {' | '.join(map(_cell, cells))} |")
    lines += ["", "## Over the versions", "", "| suite | rate | trend | versions, oldest first |", "|---|---|---|---|"]
    for item in series(runs):
        steps = ", ".join(f"{point.version} {percent(point.rate)}" for point in item.points)
        lines.append(f"| {_cell(item.name)} | {metric_name(item)} | {sparkline(item.rates)} | {_cell(steps)} |")
    return "\n".join(lines) + "\n"


def html(runs: "Sequence[RegressionRun]") -> str:
    """The same with a plot, as a fragment for a page; needs nothing from the network."""
    from markupsafe import Markup

    from mondegreen.reports.page import templates

    found = series(runs)
    return (
        templates(escape=True)
        .get_template("regression.html.j2")
        .render(
            runs=runs,
            nothing=NOTHING,
            headline=headline(runs[-1]) if runs else "",
            rows=[(suite, *rates(suite), why(suite)) for suite in runs[-1].results.suites] if runs else [],
            plot=Markup(rates_svg(found)),
            lines=[(item, metric_name(item), sparkline(item.rates)) for item in found],
        )
    )


def as_json(runs: "Sequence[RegressionRun]") -> str:
    """Runs and series as plain data."""
    found = {
        "runs": [run.model_dump(mode="json") for run in runs],
        "series": [item.model_dump(mode="json") for item in series(runs)],
    }
    return json.dumps(found, ensure_ascii=False)


def rates(suite: SuiteResult) -> tuple[str, str]:
    """What the baseline (transcribed now, else stored) and the candidate reached, as text."""
    stored = suite.details.get("stored_baseline", {})
    if suite.kind == "behaviour":
        before = suite.details.get("baseline_violation_rate", stored.get("violation_rate"))
        return percent(before), percent(suite_rate(suite, "violation_rate"))
    before = suite.baseline.wer.rate if suite.baseline else stored.get("wer")
    return percent(before), percent(suite_rate(suite, "wer"))


def why(suite: SuiteResult) -> str:
    """The reason, and the rules of phrases that the baseline breaks as well."""
    excused = suite.details.get("guards", {}).get("not_met_by_baseline", [])
    note = f" {many(len(excused), 'guard')} not met, nor by the baseline: {', '.join(excused[:3])}." if excused else ""
    return suite.reason + note


def metric_name(item: Series) -> str:
    """What the rates of a series are."""
    return "violations" if item.metric == "violation_rate" else item.metric.upper()


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _metric(kind: str) -> str:
    return "violation_rate" if kind == "behaviour" else "wer"


def _table(*headings: str) -> Table:
    table = Table()
    for heading in headings:
        right = heading in ("before", "after", "first", "last")
        table.add_column(heading, justify="right" if right else "left", no_wrap=True)
    return table


def _colored(outcome: Outcome) -> str:
    return f"[{_COLORS[outcome]}]{outcome}[/]"
