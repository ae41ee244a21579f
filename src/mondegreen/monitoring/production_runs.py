"""The WER in production as a curve in MLflow: one run of an experiment of its own, a step a calendar week."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from mondegreen.errors import MondegreenError
from mondegreen.monitoring.records import ProductionWer
from mondegreen.registry.mlflow_store import PRODUCTION, connect, ensured_experiment, registry_file

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric

_TAG = "mondegreen.production"
_MONDAY = datetime(1970, 1, 5, tzinfo=UTC)  # of step 0


def log_weeks(weeks: Sequence[ProductionWer]) -> str:
    """Logs `production/wer`, its interval and how many were heard, of the weeks that have changed since.

    Returns:
        Why it could not be, "" when it was.
    """
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        client = connect()
        run = _run(client)
        known = {item.step: item.value for item in client.get_metric_history(run, "production/wer")}
        for week in weeks:
            step = (week.since - _MONDAY).days // 7
            if week.wer and known.get(step) != week.wer.value:
                client.log_batch(run, metrics=_metrics(week, step))
    except (MlflowException, MondegreenError, SQLAlchemyError) as error:
        return str(error).splitlines()[0]
    return ""


def _metrics(week: ProductionWer, step: int) -> "list[Metric]":
    from mlflow.entities import Metric

    values = {"audited": float(week.audited), "inferences": float(week.inferences)}
    if week.wer:
        values |= {"wer": week.wer.value, "wer_low": week.wer.interval.low, "wer_high": week.wer.interval.high}
    moment = round(1000 * week.until.timestamp())
    return [Metric(f"production/{name}", value, moment, step) for name, value in values.items()]


def _run(client: "MlflowClient") -> str:
    """The id of the run; it is made when it is first needed."""
    number = ensured_experiment(client, PRODUCTION, registry_file())
    for run in client.search_runs([number], f"tags.`{_TAG}` = 'wer'", max_results=1):
        return str(run.info.run_id)
    return str(client.create_run(number, run_name="WER in production", tags={_TAG: "wer"}).info.run_id)
