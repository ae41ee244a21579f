"""Where MLflow keeps runs and models, and the one way to connect to it."""

import logging
import os
from functools import cache

# Set before mlflow is imported: tracking experiments on this machine must not report to another one.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")

import mlflow
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from mondegreen.errors import RegistryError
from mondegreen.files import lock
from mondegreen.registry.location import lock_path, registry_file, tracking_root, tracking_uri

__all__ = ["EXPERIMENT", "connect", "experiment_id", "lock_path", "tracking_root", "tracking_uri"]
EXPERIMENT = "mondegreen"


class RegistryAwayError(RegistryError):
    """MLflow cannot be used just now, or not at all: its database is locked, damaged or gone."""


def connect() -> MlflowClient:
    """A client of `tracking_uri()`, whose database and experiment exist; also makes it the process's default."""
    uri = tracking_uri()
    mlflow.set_tracking_uri(uri)
    _initialise(uri)
    return MlflowClient(uri)


def experiment_id(client: MlflowClient) -> str:
    """The id of the experiment that `connect` made."""
    experiment = client.get_experiment_by_name(EXPERIMENT)
    if experiment is None:
        raise RegistryError(
            f"MLflow has no experiment {EXPERIMENT}.", "Restore it in the MLflow UI, or rename it back."
        )
    return str(experiment.experiment_id)


@cache
def _initialise(uri: str) -> None:
    """Creates what is missing. Under a lock: two processes that create the tables at once both crash."""
    database = registry_file()
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.WARNING)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    try:
        with lock(lock_path("initialise")):
            client = MlflowClient(uri)
            if client.get_experiment_by_name(EXPERIMENT) is None:
                artifacts = str(database.parent / "artifacts") if database else None
                client.create_experiment(EXPERIMENT, artifact_location=artifacts)
    except MlflowException as error:
        raise RegistryAwayError(
            f"MLflow at {uri} cannot be used: {error.message}",
            "Check MLFLOW_TRACKING_URI; for a database of an older MLflow run `mlflow db upgrade URI`.",
        ) from error
