"""A metric over time: error rates of the rounds from MLflow, the rest by day from the inferences."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

import numpy as np
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from mondegreen.errors import MondegreenError, UsageError
from mondegreen.loop.monitoring.statistics import buckets
from mondegreen.reports.monitor_records import Bucket, Trend

if TYPE_CHECKING:
    from mlflow.entities import Run

Points = list[tuple[datetime, float]]
ROUND_METRICS = ("wer", "cer")
_DAILY: dict[str, Callable[[Bucket], float | None]] = {
    "error_rate": lambda day: day.error_rate,
    "confidence": lambda day: day.mean_confidence,
    "latency": lambda day: day.mean_latency,
}
METRICS = (*ROUND_METRICS, *_DAILY)
_MORE_IS_BETTER = ("confidence",)


def performance_trend(engine: Engine, metric: str, since: datetime, until: datetime) -> Trend:
    """See `MetadataTracker.get_performance_trend`."""
    if metric not in METRICS:
        raise UsageError(f"There is no metric {metric!r}.", f"Choose one of {', '.join(METRICS)}.")
    return performance_trends(engine, [metric], since, until)[0]


def performance_trends(engine: Engine, metrics: Sequence[str], since: datetime, until: datetime) -> list[Trend]:
    """Several of METRICS; the inferences are read once."""
    days = buckets(engine, day_edges(since, until)) if set(metrics) & set(_DAILY) else []
    found = []
    for metric in metrics:
        if metric in ROUND_METRICS:
            values, problem = round_values(metric, since, until)
            too_few = problem or "{count} rounds in the window, two at different times are needed"
        else:
            values = [(day.start, value) for day in days if (value := _DAILY[metric](day)) is not None]
            too_few = "{count} days in the window have a value, two are needed"
        found.append(summarise(metric, values, too_few.replace("{count}", str(len(values)))))
    return found


def summarise(metric: str, values: Points, too_few: str) -> Trend:
    """The trend through the values; without two of them at different times there is none, and `too_few` says so."""
    values = sorted(values)
    heights = np.array([value for _, value in values])
    slope = _slope(values)
    better = 1 if metric in _MORE_IS_BETTER else -1
    return Trend(
        metric=metric,
        values=values,
        latest=float(heights[-1]) if values else None,
        mean=float(heights.mean()) if values else None,
        slope=slope,
        improvement=None if slope is None else better * float(heights[-1] - heights[0]) + 0.0,  # no -0.0
        reason="" if slope is not None else too_few,
    )


def round_values(metric: str, since: datetime, until: datetime) -> tuple[Points, str]:
    """WER or CER of each round's candidate on the test set, at the time its run began; else why there is none."""
    from mondegreen.registry.store import tracking_uri

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
    from mondegreen.registry.store import connect, experiment_id

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


def day_edges(since: datetime, until: datetime) -> list[datetime]:
    """`since`, every midnight (UTC) after it, and `until`."""
    return _edges(since, until, timedelta(days=1))


def bucket_edges(since: datetime, until: datetime) -> list[datetime]:
    """Steps of a window that make a readable curve: 5 minutes, an hour, a day or a week."""
    steps = (timedelta(minutes=5), timedelta(hours=1), timedelta(days=1), timedelta(weeks=1))
    step = next((step for step in steps if (until - since) / step <= 60), steps[-1])
    return _edges(since, until, step)


def _edges(since: datetime, until: datetime, step: timedelta) -> list[datetime]:
    midnight = datetime.combine(since.date(), time(), UTC)
    edge = midnight + step * ((since - midnight) // step + 1)
    edges = [since]
    while edge < until:
        edges.append(edge)
        edge += step
    return [*edges, until]


def _slope(values: Sequence[tuple[datetime, float]]) -> float | None:
    """Least squares, a day; None without two different times."""
    if len({moment for moment, _ in values}) < 2:
        return None
    days = np.array([(moment - values[0][0]) / timedelta(days=1) for moment, _ in values])
    heights = np.array([value for _, value in values])
    centred = days - days.mean()
    return float(centred @ (heights - heights.mean()) / (centred @ centred))
