"""`mondegreen ui`: MLflow's pages, and where in them the runs, the last run and the registered model are."""

import os
import signal
import subprocess
import sys
from contextlib import suppress
from typing import Annotated

import typer

from mondegreen.cli.common import JsonOption, answer
from mondegreen.errors import UsageError
from mondegreen.progress import until_stopped

PORT = 5000
_TRAINING = "?workflowType=machine_learning"  # MLflow 3 opens its menu for chat and agents
_TRIED = 20  # ports, where nobody asked for one


def ui(
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help=f"{PORT} or the next free one when not given; 0 takes any.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Open MLflow's pages on 127.0.0.1: runs, comparisons, the registered model. ctrl-C stops them.

    With MLFLOW_TRACKING_URI=http://… nothing is started: the server's own addresses are printed.
    """
    from mondegreen.config import params_of
    from mondegreen.loop.pipeline import end_group
    from mondegreen.registry.mlflow_store import is_server, tracking_uri

    uri, name = tracking_uri(), params_of().register_.model_name
    if is_server(uri):
        answer(found := addresses(uri.rstrip("/"), name), _shown(found), as_json)
        return
    chosen = _free(port)
    found = addresses(f"http://127.0.0.1:{chosen}", name)
    answer(found, f"{_shown(found)}\nIt takes some seconds to start; ctrl-C stops it.", as_json)
    command = (sys.executable, "-m", "mlflow", "ui", "--host", "127.0.0.1", "--port", str(chosen), "--workers", "1")
    with until_stopped():
        # not as an argument, which everybody on this machine can read: it may hold a password
        environment = os.environ | {"MLFLOW_BACKEND_STORE_URI": uri}
        child = subprocess.Popen(command, env=environment, start_new_session=True)
        try:
            raise typer.Exit(child.wait())
        finally:
            # MLflow's workers, which outlive it and hold the port; of ctrl-C they print a traceback
            end_group(child, signal.SIGTERM)


def addresses(server: str, model: str) -> dict[str, str]:
    """Where in MLflow's pages things are: runs, last_run, model; those that exist.

    Args:
        server: address of the pages, without a slash at its end.
        model: name of the registered model.

    Raises:
        RegistryError: MLflow cannot be used.
    """
    from mlflow.exceptions import MlflowException

    from mondegreen.registry.mlflow_store import answered, connect, experiment_id

    with answered():
        client = connect()
        experiment = experiment_id(client)
        found = {"runs": f"{server}/#/experiments/{experiment}/runs{_TRAINING}"}
        for run in client.search_runs([experiment], order_by=["attributes.start_time DESC"], max_results=1):
            found["last_run"] = f"{server}/#/experiments/{experiment}/runs/{run.info.run_id}{_TRAINING}"
    with suppress(MlflowException):  # nothing is registered yet
        found["model"] = f"{server}/#/models/{client.get_registered_model(model).name}{_TRAINING}"
    return found


def _shown(found: dict[str, str]) -> str:
    names = {"runs": "runs", "last_run": "last run", "model": "model"}
    return "\n".join(f"{names[name]:<9} {address}" for name, address in found.items())


def _free(port: int | None) -> int:
    """The port that was asked for, or the first free one. Raises UsageError when there is none."""
    from mondegreen.listening import bound

    if port is not None:
        with bound("127.0.0.1", port) as listening:
            return int(listening.getsockname()[1])
    for candidate in range(PORT, PORT + _TRIED):
        try:
            return _free(candidate)
        except UsageError:
            continue
    return _free(0)
