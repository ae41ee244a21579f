"""Runs of the regression suites in words: for the terminal, as Markdown, as a fragment of a page, as JSON."""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

from mondegreen.records import Outcome, RegressionResults, SuiteResult
from mondegreen.reports.numbers import percent
from mondegreen.reports.regression_series import Series, series, sparkline, suite_rate

if TYPE_CHECKING:
    from mondegreen.cases.regression_runs import RegressionRun  # brings SQLAlchemy

_COLORS: dict[Outcome, str] = {"pass": "green", "fail": "red bold", "inconclusive": "yellow"}
NOTHING = "No run of the regression suites is on record yet: `mondegreen regression run`, or `dvc repro`."


def render_results(results: RegressionResults) -> RenderableType:
    """One run, for `rich`."""
    table = Table()
    for name in ("suite", "type", "outcome", "before", "after"):
        table.add_column(name, justify="right" if name in ("before", "after") else "left", no_wrap=True)
    table.add_column("why", overflow="fold")
    for suite in results.suites:
        color = _COLORS[suite.outcome]
        before, after = rates(suite)
        table.add_row(escape(suite.name), suite.kind, f"[{color}]{suite.outcome}[/]", before, after, escape(why(suite)))
    word = "[green]passed[/]" if results.passed else "[red bold]not passed[/]"
    return Group(*([table] if results.suites else []), f"{word}: {escape(results.reason)}")


def render_history(runs: "Sequence[RegressionRun]") -> RenderableType:
    """The last run of each model and every suite over them, for `rich`; runs oldest first."""
    if not runs:
        return NOTHING
    table = Table()
    for name in ("suite", "type", "over the versions", "first", "last", "outcome"):
        table.add_column(name, justify="right" if name in ("first", "last") else "left", no_wrap=True)
    for item in series(runs):
        last = item.points[-1]
        ends = (percent(item.points[0].rate), percent(last.rate))
        outcome = f"[{_COLORS[last.outcome]}]{last.outcome}[/]"
        table.add_row(escape(item.name), item.kind, sparkline(item.rates), *ends, outcome)
    return Group(table, *(escape(headline(run)) for run in runs[-3:][::-1]))


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

    from mondegreen.reports.regression_figures import rates_svg
    from mondegreen.reports.templating import templates

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
    """What the baseline (heard now, else stored) and the candidate reached, as text."""
    stored = suite.details.get("stored_baseline", {})
    if suite.kind == "behaviour":
        before = suite.details.get("baseline_violation_rate", stored.get("violation_rate"))
        return percent(before), percent(suite_rate(suite, "violation_rate"))
    before = suite.baseline.wer.rate if suite.baseline else stored.get("wer")
    return percent(before), percent(suite_rate(suite, "wer"))


def why(suite: SuiteResult) -> str:
    """The reason, and the guards that the baseline breaks as well."""
    excused = suite.details.get("guards", {}).get("not_met_by_baseline", [])
    note = f" {len(excused)} guard(s) not met, nor by the baseline: {', '.join(excused[:3])}." if excused else ""
    return suite.reason + note


def metric_name(item: Series) -> str:
    """What the rates of a series are."""
    return "violations" if item.metric == "violation_rate" else item.metric.upper()


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
