"""MLflow servers of our own on 127.0.0.1: one on SQLite, one on PostgreSQL that asks for user and password."""

import os
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests

from tests import postgres
from tests.support.ports import closed_port

USER, PASSWORD = "admin", "quite-Secret-7"


@dataclass(frozen=True)
class Server:
    uri: str
    artifacts: Path  # where it keeps what is sent to it
    user: str = ""
    password: str = ""

    def enter(self, patch: pytest.MonkeyPatch) -> None:
        """Makes it the registry of everything."""
        patch.setenv("MLFLOW_TRACKING_URI", self.uri)
        for name, value in (("USERNAME", self.user), ("PASSWORD", self.password)):
            patch.setenv(f"MLFLOW_TRACKING_{name}", value)


@contextmanager
def on_sqlite(folder: Path, database: Path) -> Iterator[Server]:
    """A server on a copy of a database with MLflow's tables."""
    folder.mkdir(parents=True)
    shutil.copy(database, folder / "mlflow.db")
    with sqlite3.connect(folder / "mlflow.db") as connection:
        connection.execute("update experiments set artifact_location = 'mlflow-artifacts:/' || experiment_id")
    with _running(folder, f"sqlite:///{folder}/mlflow.db") as uri:
        yield Server(uri, folder / "artifacts")


@contextmanager
def on_postgresql(folder: Path) -> Iterator[Server]:
    """A server with basic auth on a PostgreSQL; skips where there is none."""
    folder.mkdir(parents=True)
    users = folder / "auth.ini"
    users.write_text(
        f"[mlflow]\ndefault_permission = READ\ndatabase_uri = sqlite:///{folder}/users.db\n"
        f"admin_username = {USER}\nadmin_password = {PASSWORD}\n"
        "authorization_function = mlflow.server.auth:authenticate_request_basic_auth\n"
        "auth_cache_ttl_seconds = 60\n"  # else every request hashes the password anew, for half a second
    )
    with ExitStack() as stack:
        database = postgres.fresh_database(stack.enter_context(postgres.server()), "mlflow")
        backend = database.replace("postgresql://", "postgresql+psycopg2://")
        secrets = {"MLFLOW_AUTH_CONFIG_PATH": str(users), "MLFLOW_FLASK_SERVER_SECRET_KEY": "of the test"}
        uri = stack.enter_context(_running(folder, backend, "--app-name", "basic-auth", **secrets))
        yield Server(uri, folder / "artifacts", USER, PASSWORD)


@contextmanager
def _running(folder: Path, backend: str, *options: str, **environment: str) -> Iterator[str]:
    port = closed_port()
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", backend, "--serve-artifacts", "--artifacts-destination", f"{folder}/artifacts"]
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    plain = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_TRACKING")}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [*command, *options], stdout=log, stderr=log, start_new_session=True,
            # its jobs for chat and agents would be nine processes more
            env=plain | environment | {"PATH": path, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
        )  # fmt: skip
    try:
        _wait(f"http://127.0.0.1:{port}/health", process, folder / "log")
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(process.pid, 9)  # nobody needs its data any more
        process.wait(30)


def _wait(url: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    for _ in range(3000):  # minutes, where other work takes the machine
        try:
            requests.get(url, timeout=5).raise_for_status()
            return
        except requests.RequestException:
            if process.poll() is not None:
                break
            time.sleep(0.1)
    raise RuntimeError(f"the MLflow server does not start: {log.read_text()[-2000:]}")
