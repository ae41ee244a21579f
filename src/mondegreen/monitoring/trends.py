"""A metric over time: error rates of the rounds from MLflow, the rest by day from the inferences."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import StatisticsError, fmean, linear_regression
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from mondegreen.errors import MondegreenError, UsageError
from mondegreen.monitoring.records import TimeStep, Trend

if TYPE_CHECKING:
    from mlflow.entities import Run

Moments = list[tuple[datetime, float]]
ROUND_METRICS = ("wer", "cer")
_DAILY: dict[str, Callable[[TimeStep], float | None]] = {
    "error_rate": lambda day: day.error_rate,
    "confidence": lambda day: day.mean_confidence,
    "latency": lambda day: day.mean_latency,
}
METRICS = (*ROUND_METRICS, *_DAILY)
_MORE_IS_BETTER = ("confidence",)


def performance_trends(engine: Engine, metrics: Sequence[str], since: datetime, until: datetime) -> list[Trend]:
    """Trends of several of METRICS; the inferences are read once.

    Raises:
        UsageError: there is no such metric.
    """
    from mondegreen.monitoring.statistics import day_edges, time_steps

    if unknown := [metric for metric in metrics if metric not in METRICS]:
        raise UsageError(f"There is no metric {unknown[0]!r}.", f"Choose one of {', '.join(METRICS)}.")
    days = time_steps(engine, day_edges(since, until)) if set(metrics) & set(_DAILY) else []
    found = []
    for metric in metrics:
        if metric in ROUND_METRICS:
            values, problem = round_values(metric, since, until)
            too_few = problem or f"{len(values)} rounds in the window, two at different times are needed"
        else:
            values = [(day.start, value) for day in days if (value := _DAILY[metric](day)) is not None]
            too_few = f"{len(values)} days in the window have a value, two are needed"
        found.append(trend_through(metric, values, too_few))
    return found


def trend_through(metric: str, values: Moments, too_few: str) -> Trend:
    """The trend through the values; without two of them at different times there is none, and `too_few` says so."""
    values = sorted(values)
    heights = [value for _, value in values]
    days = [(moment - values[0][0]) / timedelta(days=1) for moment, _ in values]
    try:
        slope = linear_regression(days, heights).slope
    except StatisticsError:
        slope = None
    gain = 0.0 if slope is None else heights[-1] - heights[0]
    return Trend(
        metric=metric,
        values=values,
        latest=heights[-1] if heights else None,
        mean=fmean(heights) if heights else None,
        slope=slope,
        improvement=None if slope is None else (gain if metric in _MORE_IS_BETTER else -gain) + 0.0,  # no -0.0
        reason="" if slope is not None else too_few,
    )


def round_values(metric: str, since: datetime, until: datetime) -> tuple[Moments, str]:
    """WER or CER of each round's candidate on the test set, at the time its run began; else why there is none."""
    from mondegreen.registry.mlflow_store import tracking_uri

    parts = urlsplit(tracking_uri())
    if parts.scheme == "sqlite" and not Path(unquote(parts.path[1:])).exists():
        return [], "no round has run yet (`dvc repro`)"
    from mlflow.exceptions import MlflowException

    name = f"candidate/test/{metric}"
    try:
        runs = _runs(name, since, until)
    except (MlflowException, MondegreenError, SQLAlchemyError) as error:
        return [], f"MLflow cannot be read: {str(error).splitlines()[0]}"
    known = {run.info.run_id for run in runs}
    return [
        (datetime.fromtimestamp(run.info.start_time / 1000, UTC), float(run.data.metrics[name]))
        for run in runs
        # A run that stands in for another one repeats its numbers.
        if run.data.tags.get("mondegreen.resumes") not in known
    ], ""


def _runs(metric: str, since: datetime, until: datetime) -> "list[Run]":
    """The runs of the experiment that hold the metric and began in the window."""
    from mondegreen.registry.mlflow_store import connect, experiment_id

    client = connect()
    start, end = (round(1000 * moment.timestamp()) for moment in (since, until))
    query = f"metrics.`{metric}` >= 0 and attributes.start_time >= {start} and attributes.start_time <= {end}"
    runs: list[Run] = []
    token: str | None = None
    while True:
        page = client.search_runs([experiment_id(client)], query, max_results=1000, page_token=token)
        runs += page
        token = page.token
        if not token:
            return runs
