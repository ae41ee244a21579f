"""Where MLflow's database is, found without loading MLflow."""

import os
from pathlib import Path
from urllib.parse import unquote, urlsplit


def tracking_root() -> Path:
    """The project whose mlruns/ and var/ are used.

    DVC sets DVC_ROOT for every stage, and for `dvc exp run --temp` and queued experiments it names the workspace that
    they were started from, not their temporary copy. Outside DVC: the nearest folder above with .dvc or .git.
    """
    if root := os.environ.get("DVC_ROOT"):
        return Path(root).resolve()
    here = Path.cwd().resolve()
    return next(
        (folder for folder in (here, *here.parents) if any((folder / m).exists() for m in (".dvc", ".git"))), here
    )


def tracking_uri() -> str:
    """MLFLOW_TRACKING_URI when set, else SQLite in <root>/mlruns (MLflow's folder store no longer takes new runs)."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{tracking_root() / 'mlruns' / 'mlflow.db'}"


def live_state() -> Path:
    """The folder of live state that belongs to the registry: its ledger and its backups are there."""
    return tracking_root() / "var"


def registry_file() -> Path | None:
    """The registry's SQLite file, which need not be there; None when it is another database or a server."""
    parts = urlsplit(tracking_uri())
    return Path(unquote(parts.path[1:])).absolute() if parts.scheme == "sqlite" else None


def lock_path(name: str) -> Path:
    """A lock file beside the registry's SQLite file, or in var/locks when it is something else."""
    database = registry_file()
    folder = database.parent if database else live_state() / "locks"
    return folder / f".{name}.lock"
