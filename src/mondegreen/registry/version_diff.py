"""What two versions differ in: tags, the runs that made them, their files."""

from collections.abc import Mapping

from mlflow.exceptions import MlflowException
from pydantic import BaseModel, ConfigDict

from mondegreen.registry.checksums import from_tag
from mondegreen.registry.moves import Registry
from mondegreen.registry.packages import FILES_TAG

_TRIVIAL = {"run"}  # always another one
_ABSENT = ""


class Difference(BaseModel):
    """A value that is not the same in both."""

    model_config = ConfigDict(frozen=True)

    name: str
    first: str
    second: str


def diff(registry: Registry, first: int, second: int) -> list[Difference]:
    """Tags, parameters and metrics of the runs, and files whose bytes differ."""
    one, other = _facts(registry, first), _facts(registry, second)
    names = [*one, *(name for name in other if name not in one)]
    return [
        Difference(name=name, first=one.get(name, _ABSENT), second=other.get(name, _ABSENT))
        for name in names
        if one.get(name) != other.get(name)
    ]


def _facts(registry: Registry, number: int) -> dict[str, str]:
    version = registry.version(number)
    files = from_tag(version.tags.get(FILES_TAG, "")) or {}
    tags = {key: value for key, value in version.tags.items() if key not in {FILES_TAG, *_TRIVIAL}}
    return {
        "stage": str(version.current_stage),
        **tags,
        **_run(registry, version.run_id),
        **_short({f"file {name}": digest for name, digest in sorted(files.items())}),
    }


def _run(registry: Registry, run_id: str | None) -> dict[str, str]:
    """Parameters and metrics; nothing when the run was deleted."""
    try:
        run = registry.client.get_run(run_id) if run_id else None
    except MlflowException:
        return {}
    if run is None:
        return {}
    metrics = {f"metric {name}": f"{value:.6g}" for name, value in sorted(run.data.metrics.items())}
    return {f"param {name}": value for name, value in sorted(run.data.params.items())} | metrics


def _short(digests: Mapping[str, str]) -> dict[str, str]:
    return {name: digest[:12] for name, digest in digests.items()}
