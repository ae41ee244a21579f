"""The rates of the regression suites over the versions, as data for tables, sparklines and plots."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

from mondegreen.records import Outcome, SuiteResult

if TYPE_CHECKING:
    from mondegreen.cases.regression_runs import RegressionRun  # brings SQLAlchemy

SUITE_METRICS = ("wer", "cer", "violation_rate")
_BARS = "▁▂▃▄▅▆▇█"


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


def series(runs: "Sequence[RegressionRun]") -> list[Series]:
    """Every suite of the runs, in the order of the newest run, those that it lacks behind.

    Args:
        runs: oldest first.
    """
    newest_first = [suite for run in reversed(runs) for suite in run.results.suites]
    found = []
    for name, kind in {suite.name: suite.kind for suite in reversed(newest_first)}.items():
        metric = "violation_rate" if kind == "behaviour" else "wer"
        points = [
            Point(
                run=run.id,
                version=run.model_version or run.model_digest[:12],
                at=run.at.isoformat(timespec="seconds"),
                outcome=suite.outcome,
                rate=suite_rate(suite, metric),
            )
            for run in runs
            for suite in run.results.suites
            if suite.name == name
        ]
        found.append(Series(name=name, kind=kind, metric=metric, points=tuple(points)))
    order = list(dict.fromkeys(suite.name for suite in newest_first))
    return sorted(found, key=lambda item: order.index(item.name))


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
