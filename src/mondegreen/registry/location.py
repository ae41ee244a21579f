"""Where MLflow's database is, found without loading MLflow."""

import os
from pathlib import Path


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
