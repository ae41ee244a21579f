"""The short table that ends `make repro`."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

from mondegreen.files import read_json
from mondegreen.records import Outcome, RegisteredVersion, RegressionResults
from mondegreen.reports.judgement import Interval, Judgement, shown_slices, slice_label
from mondegreen.reports.numbers import percent, points, probability, span

_COLORS: dict[Outcome, str] = {"pass": "green", "fail": "red", "inconclusive": "yellow"}


class SummaryRow(BaseModel):
    """A slice under both models, rates as fractions."""

    model_config = ConfigDict(frozen=True)

    slice: str
    utterances: int
    baseline_wer: float
    candidate_wer: float
    baseline_cer: float
    candidate_cer: float


class Summary(BaseModel):
    """What came out of `dvc repro`; `model_dump(mode="json")` is the `--json` output."""

    model_config = ConfigDict(frozen=True)

    outcome: Outcome
    reason: str
    rows: list[SummaryRow]
    wer_improvement: float | None
    interval: Interval | None
    p_value: float | None
    regression: str
    registered: RegisteredVersion | None
    report: str


def summary(build: Path = Path("build")) -> Summary:
    """Reads the stage outputs.

    Raises:
        UsageError: validate has not run yet, or one of its files is damaged.
    """
    verdict = read_json(build / "validate" / "verdict.json", Judgement)
    suites, version = build / "regress" / "results.json", build / "register" / "version.json"
    return Summary(
        outcome=verdict.outcome,
        reason=verdict.reason,
        rows=[_row(verdict, name) for name in shown_slices(verdict.slices)],
        wer_improvement=verdict.wer_improvement,
        interval=verdict.interval,
        p_value=verdict.p_value,
        regression=_regression(read_json(suites, RegressionResults)) if suites.exists() else "not run",
        registered=read_json(version, RegisteredVersion) if version.exists() else None,
        report=str(build / "validate" / "report.html"),
    )


def render(found: Summary) -> RenderableType:
    """The table and what to do next, for `rich`."""
    table = Table("slice", title="Error rates on human references", title_justify="left")
    for heading in ("utterances", "WER before", "after", "CER before", "after"):
        table.add_column(heading, justify="right")
    for row in found.rows:
        rates = (row.baseline_wer, row.candidate_wer, row.baseline_cer, row.candidate_cer)
        table.add_row(row.slice, str(row.utterances), *map(percent, rates), style="bold" if row.slice == "all" else "")
    color = _COLORS[found.outcome]
    lines = [f"verdict      [{color} bold]{found.outcome}[/]  {escape(found.reason)}"]
    if found.interval:
        bounds = span(found.interval.low, found.interval.high)
        level = f"{100 * found.interval.level:.0f} %"
        chance = probability(found.p_value)
        lines.insert(0, f"improvement  {points(found.wer_improvement)} WER ({level} interval {bounds}, p = {chance})")
    lines += [
        f"regression   {escape(found.regression)}",
        f"registered   {_registered(found.registered)}",
        f"report       {escape(found.report)}",
        "MLflow       make ui",
    ]
    return Group(table, *lines)


def _row(verdict: Judgement, name: str) -> SummaryRow:
    old, new = verdict.slices[name].baseline, verdict.slices[name].candidate
    return SummaryRow(
        slice=slice_label(name),
        utterances=new.utterances,
        baseline_wer=old.wer.rate,
        candidate_wer=new.wer.rate,
        baseline_cer=old.cer.rate,
        candidate_cer=new.cer.rate,
    )


def _regression(results: RegressionResults) -> str:
    good = sum(suite.outcome == "pass" for suite in results.suites)
    word = "passed" if results.passed else "not passed"
    return f"{word}: {good} of {len(results.suites)} suites pass"


def _registered(version: RegisteredVersion | None) -> str:
    return (
        escape(f"{version.name} version {version.version}, {version.stage}, @{version.alias}") if version else "not yet"
    )
