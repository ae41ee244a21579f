"""How a suite's rate went over the runs."""

from collections.abc import Sequence

from mondegreen.cases.regression_runs import RegressionRun
from mondegreen.errors import UsageError
from mondegreen.loop.monitoring.trends import summarise
from mondegreen.reports.monitor_records import Trend
from mondegreen.reports.regression_series import SUITE_METRICS, suite_rate


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
