"""Where MLflow's database is, found without loading MLflow, and the one way to connect to it."""

import logging
import os
import re
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit, urlunsplit

from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

from mondegreen.db import sqlite_url
from mondegreen.errors import RegistryError, UsageError
from mondegreen.files import lock

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

EXPERIMENT, PRODUCTION = "mondegreen", "mondegreen-production"
_REMEMBERED = 10.0  # seconds for which a command does not wait again for what has just not answered
_ASKING = threading.Lock()
_GIVEN_BY = ContextVar("given_by", default="MLFLOW_TRACKING_URI")  # what says where `tracking_uri` is
_AWAY: "dict[str, tuple[float, RegistryAwayError]]" = {}


class RegistryAwayError(RegistryError):
    """MLflow cannot be used just now, or not at all: its database is locked, damaged or gone."""


def tracking_root() -> Path:
    """The project whose mlruns/ and var/ are used.

    DVC sets DVC_ROOT for every stage, and for `dvc exp run --temp` and queued experiments it names the workspace that
    they were started from, not their temporary copy. Outside DVC: the nearest folder above with .dvc or .git.
    """
    if root := os.environ.get("DVC_ROOT"):
        return Path(root).resolve()
    here = Path.cwd().resolve()
    marked = (folder for folder in (here, *here.parents) if any((folder / m).exists() for m in (".dvc", ".git")))
    return next(marked, here)


def experiment_name() -> str:
    """The name of the DVC experiment that runs this stage, "" for `dvc repro`."""
    return os.environ.get("DVC_EXP_NAME", "")


def tracking_uri() -> str:
    """MLFLOW_TRACKING_URI when set, else SQLite in <root>/mlruns (MLflow's folder store no longer takes new runs).

    User and password in the address of a server go where MLflow looks for them, MLFLOW_TRACKING_USERNAME and
    MLFLOW_TRACKING_PASSWORD: errors name addresses as they were given.
    """
    given = os.environ.get("MLFLOW_TRACKING_URI", "")
    if (plain := _without_user(given)) != given:
        os.environ["MLFLOW_TRACKING_URI"] = plain
    return plain or sqlite_url(tracking_root() / "mlruns" / "mlflow.db")


def _without_user(uri: str) -> str:
    """The address of a server without user and password, which are given to MLflow by its variables."""
    if not is_server(uri) or "@" not in (parts := urlsplit(uri)).netloc:
        return uri
    os.environ["MLFLOW_TRACKING_USERNAME"] = unquote(parts.username or "")
    os.environ["MLFLOW_TRACKING_PASSWORD"] = unquote(parts.password or "")
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def address(given: str) -> str:
    """A home that somebody names: a server without its password (see `tracking_uri`), a database with its whole path.

    Raises:
        UsageError: MLflow takes no such address, or what one server is told to let us in would be told to another.
    """
    if is_server(given):
        home, user = tracking_uri(), unquote(urlsplit(given).username or "")
        here = os.environ.get("MLFLOW_TRACKING_USERNAME", "")
        if is_server(home) and (user != here or os.environ.get("MLFLOW_TRACKING_TOKEN")):
            raise UsageError(
                "MLflow tells user and password, or a token, to every server that it asks; these are two.",
                "Move to a file first (--to sqlite:///…), then from there to the other server; or name the user of "
                "both in --to.",
            )
        return _without_user(given).rstrip("/")
    try:
        file = sqlite_file(given)
        make_url(given)
    except ArgumentError:
        raise UsageError(
            f"{given!r} is no address of a registry.", "Write http://SERVER:PORT or sqlite:///FOLDER/mlruns/mlflow.db."
        ) from None
    return sqlite_url(file) if file else given


def shown(uri: str) -> str:
    """An address without a password, for people."""
    return uri if is_server(uri) else make_url(uri).render_as_string(hide_password=True)


def is_server(uri: str) -> bool:
    """Whether an address is that of a tracking server, not of a database."""
    return uri.startswith(("http://", "https://"))


def live_state() -> Path:
    """The folder of live state that belongs to the registry: its ledger and its backups are there."""
    return tracking_root() / "var"


def registry_file() -> Path | None:
    """The registry's SQLite file, which need not be there; None when it is another database or a server."""
    return sqlite_file(tracking_uri())


def sqlite_file(uri: str) -> Path | None:
    """The file of an SQLite registry; None of another database or a server."""
    if not re.match(r"sqlite(\+\w+)?://", uri):
        return None
    return Path(make_url(uri).database or "").absolute()  # read as MLflow will: `%20` in a URL is a blank


def lock_path(name: str) -> Path:
    """A lock file beside the registry's SQLite file, or in var/locks when it is something else."""
    database = registry_file()
    folder = database.parent if database else live_state() / "locks"
    return folder / f".{name}.lock"


def connect() -> "MlflowClient":
    """A client of `tracking_uri()`, whose database and experiment exist; also makes it the process's default.

    Raises:
        RegistryAwayError: MLflow cannot be used.
    """
    uri = tracking_uri()
    check_answers()
    import mlflow

    mlflow.set_tracking_uri(uri)
    with _remembering(uri):
        _initialise(uri)
    return mlflow.MlflowClient(uri)


@contextmanager
def elsewhere(uri: str, make: bool = True, given_by: str = "MLFLOW_TRACKING_URI") -> "Iterator[MlflowClient]":
    """Another home for a while: everything that asks for `tracking_uri` means this one. Not for several threads.

    Args:
        make: see to it that its experiment is there; else nothing is written.
        given_by: the option or variable with the address, to be checked where it does not answer.

    Raises:
        RegistryError: it refuses, or cannot be used.
    """
    import mlflow

    before, given = tracking_uri(), os.environ.get("MLFLOW_TRACKING_URI")
    os.environ["MLFLOW_TRACKING_URI"] = uri
    said = _GIVEN_BY.set(given_by)
    try:
        mlflow.set_tracking_uri(uri)
        with answered():
            yield connect() if make else mlflow.MlflowClient(uri)
    finally:
        _GIVEN_BY.reset(said)
        mlflow.set_tracking_uri(before)  # which sets the variable as well
        os.environ["MLFLOW_TRACKING_URI"] = given or ""
        if given is None:
            del os.environ["MLFLOW_TRACKING_URI"]


def require_reach(client: "MlflowClient") -> None:
    """Raises RegistryError where a server keeps files in a folder that only its own machine has."""
    experiment, uri = client.get_experiment(experiment_id(client)), tracking_uri()
    parts = urlsplit(experiment.artifact_location)
    if is_server(uri) and parts.scheme in ("", "file") and not Path(unquote(parts.path)).is_dir():
        raise RegistryError(
            f"MLflow at {uri} keeps files in its own {experiment.artifact_location}, which is not on this machine.",
            "Start it with `--serve-artifacts` and an experiment `mondegreen` that was made then.",
        )


def check_answers(at_once: bool = False) -> None:
    """Asks an MLflow server whether it is there, before MLflow is loaded, which alone takes seconds.

    Only where somebody waits for a screen (MLFLOW_HTTP_REQUEST_MAX_RETRIES is 0); else MLflow's patience counts.

    Args:
        at_once: also where nobody waits.

    Raises:
        RegistryAwayError: it is not there, or says nothing.
    """
    uri = tracking_uri()
    if not is_server(uri) or not (at_once or os.environ.get("MLFLOW_HTTP_REQUEST_MAX_RETRIES") == "0"):
        return
    import requests

    with _ASKING, _remembering(uri):
        try:
            patience = float(os.environ.get("MLFLOW_HTTP_REQUEST_TIMEOUT") or 5)
            requests.get(f"{uri.rstrip('/')}/health", timeout=patience, stream=True).close()
        except requests.exceptions.SSLError:
            return  # it is there; MLflow knows which certificates are trusted
        except (requests.exceptions.ConnectionError, requests.exceptions.Timeout) as error:
            raise _away(uri, str(error)) from error


@contextmanager
def impatient() -> Iterator[None]:
    """For what there is a way around: who does not answer MLflow at once is not asked again for minutes."""
    wanted = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "10", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value


def ask_early() -> None:
    """Begins to ask while libraries are still being loaded; whoever needs the answer waits for the rest."""

    def ask() -> None:
        with suppress(RegistryAwayError):
            check_answers()

    if is_server(tracking_uri()):
        threading.Thread(target=ask, daemon=True).start()


@contextmanager
def _remembering(uri: str) -> Iterator[None]:
    """A command that asks twice waits once."""
    since, problem = _AWAY.get(uri, (0.0, None))
    if problem and time.monotonic() - since < _REMEMBERED:
        raise problem
    try:
        yield
    except RegistryAwayError as error:
        _AWAY[uri] = time.monotonic(), error
        raise


def experiment_id(client: "MlflowClient") -> str:
    """The id of the experiment that `connect` made. Raises RegistryError when somebody removed it since."""
    experiment = client.get_experiment_by_name(EXPERIMENT)
    if experiment is None:
        raise RegistryError(
            f"MLflow has no experiment {EXPERIMENT}.", "Restore it in the MLflow UI, or rename it back."
        )
    return str(experiment.experiment_id)


@cache
def _initialise(uri: str) -> None:
    """Creates what is missing. Under a lock: two processes that create the tables at once both crash."""
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    for noisy in ("mlflow.store.db.utils", "alembic"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    try:
        with lock(lock_path("initialise")):
            file = sqlite_file(uri)
            if file and not file.exists():
                _make_database(file)
            ensured_experiment(MlflowClient(uri), EXPERIMENT, file)
    except MlflowException as error:
        raise denied(error) or _away(uri, str(error.message)) from error


def _make_database(file: Path) -> None:
    """Whole or not at all: one that was stopped amid its migrations, which take seconds, MLflow would take no more."""
    from mlflow import MlflowClient

    file = file.resolve()  # a link may point to where it is to be
    with tempfile.TemporaryDirectory(prefix=".new-", dir=file.parent) as folder:
        new = Path(folder) / file.name
        MlflowClient(sqlite_url(new)).search_experiments(max_results=1)
        new.replace(file)


def ensured_experiment(client: "MlflowClient", name: str, database: Path | None) -> str:
    """The id of an experiment, which is made when it is not there; its files lie beside an SQLite database."""
    if (found := client.get_experiment_by_name(name)) is not None:
        return str(found.experiment_id)
    artifacts = (database.parent / "artifacts").as_uri() if database else None
    created = str(client.create_experiment(name, artifact_location=artifacts))
    # MLflow 3 opens an experiment that nobody described on its pages for chat and agents.
    client.set_experiment_tag(created, "mlflow.experimentKind", "custom_model_development")
    return created


def refused(error: "MlflowException", problem: str, next_step: str) -> RegistryError:
    """An error of MLflow's in a sentence: `problem`, or that the server wants other credentials."""
    return denied(error) or RegistryError(f"{problem}: {error.message}", next_step)


@contextmanager
def answered() -> "Iterator[None]":
    """Errors of MLflow's as RegistryError; also a decorator, of functions that write runs."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        raise refused(
            error, f"MLflow at {tracking_uri()} refused", "Look at its log, and run the command again."
        ) from error


def denied(error: "MlflowException") -> RegistryAwayError | None:
    """What to say of 401 and 403, None of any other error."""
    user = os.environ.get("MLFLOW_TRACKING_USERNAME", "")
    server = f"MLflow at {tracking_uri()}"
    if error.error_code in ("UNAUTHENTICATED", "CUSTOMER_UNAUTHORIZED"):
        why = f"does not know user {user} with that password" if user else "wants to know who asks"
        return RegistryAwayError(
            f"{server} {why} (401).",
            "Set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN.",
        )
    if error.error_code == "PERMISSION_DENIED":
        return RegistryAwayError(
            f"{server} does not allow that to {f'user {user}' if user else 'somebody without a name'} (403).",
            "Have its administrator give that user the right (EDIT on the experiment, MANAGE on the model), or set "
            "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD of another.",
        )
    return None


def _away(uri: str, message: str) -> RegistryAwayError:
    return RegistryAwayError(
        f"MLflow at {uri} cannot be used: {_brief(message)}",
        f"Check {_GIVEN_BY.get()} and that its server runs; for a database of an older MLflow run "
        "`mlflow db upgrade URI`.",
    )


def _brief(message: str) -> str:
    """What urllib3 found, of a message that also tells how often and where it looked."""
    if found := re.search(r"\w+Error\(\d+, '([^']+)'\)", message):
        return found[1]
    found = re.search(r"Caused by \w+\((?P<said>.*)\)\)$", message) or re.search(r"Pool\(.*?\)(?P<said>: .*)", message)
    return found["said"].strip("\"'").rpartition(": ")[2] if found else message
