"""Runs of the suites over time: the last one of each model, and how a suite's rate went."""

from collections.abc import Sequence

from sqlalchemy import Engine

from mondegreen.cases.regression_runs import RegressionRun, list_runs
from mondegreen.errors import UsageError
from mondegreen.loop.trends import summarise
from mondegreen.reports.monitor_records import Trend
from mondegreen.reports.regression_series import SUITE_METRICS, suite_rate


def last_of_each_model(engine: Engine, limit: int | None = None) -> list[RegressionRun]:
    """The last run of each model, oldest first.

    Args:
        limit: that many models, the newest ones.
    """
    found: dict[str, RegressionRun] = {}
    for run in list_runs(engine):
        found.setdefault(run.model_digest or f"version {run.model_version}", run)
    newest = list(found.values())[:limit]
    return newest[::-1]


def suite_trend(runs: Sequence[RegressionRun], name: str, metric: str) -> Trend:
    """The trend of a suite's rate over runs; a run that gave no rate is left out.

    Raises:
        UsageError: there is no such metric.
    """
    if metric not in SUITE_METRICS:
        raise UsageError(f"There is no metric {metric!r} of suites.", f"Choose one of {', '.join(SUITE_METRICS)}.")
    values = [
        (run.at, value)
        for run in runs
        for suite in run.results.suites
        if suite.name == name and (value := suite_rate(suite, metric)) is not None
    ]
    too_few = f"{len(values)} runs of suite {name} have a value, two at different times are needed"
    return summarise(metric, values, too_few)
