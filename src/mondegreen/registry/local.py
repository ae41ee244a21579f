"""Where a model's files lie, without asking a hub and without loading MLflow for a plain folder."""

from pathlib import Path

from mondegreen.cases.snapshots.spelling import local_model
from mondegreen.errors import RegistryError


def find_model(name: str) -> Path | None:
    """The folder of a local, cached or registered (`models:/…`) model; None when it is not at hand."""
    if not name.startswith("models:/"):
        return local_model(name)
    from mondegreen.registry.resolving import resolve_uri

    try:
        return resolve_uri(name)
    except RegistryError:
        return None
