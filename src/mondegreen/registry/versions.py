"""Versions of the registered model as people see them."""

from datetime import UTC, datetime
from typing import Any

from mlflow.entities.model_registry import ModelVersion
from pydantic import BaseModel, ConfigDict

from mondegreen.errors import UsageError
from mondegreen.registry.checks import CHAMPION_TAG, REGRESSION_TAG
from mondegreen.registry.moves import Registry
from mondegreen.registry.packages import DIGEST_TAG, FILES_TAG, PRUNED_TAG
from mondegreen.registry.proof import LLM_TAG, NO_VERDICT, OUTCOME_TAG

_HIDDEN = (FILES_TAG,)


class Version(BaseModel):
    """One version: where it stands, and what is known of it."""

    model_config = ConfigDict(frozen=True)

    version_id: str  # name/number, as deploy_model takes it
    name: str
    version: int
    status: str  # MLflow's stage: Production, Staging, Archived, None
    aliases: tuple[str, ...]
    outcome: str  # of the verdict: pass, fail, inconclusive, none
    regression: str  # pass, fail, or "" when no suite was run before it was registered
    digest: str
    created: datetime
    run_id: str
    uri: str
    wer_before: float | None
    wer_after: float | None
    warning: str  # in capital letters when a language model wrote references
    pruned: str  # the day on which its files were removed, "" while they are there
    judged_beside: str  # the champion when the verdict was registered
    tags: dict[str, str]

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return self.model_dump(mode="json")


def describe(registry: Registry, version: ModelVersion, aliases: dict[str, int]) -> Version:
    """A version of MLflow with what its tags say."""
    number, tags = int(version.version), version.tags
    return Version(
        version_id=f"{registry.name}/{number}",
        name=registry.name,
        version=number,
        status=version.current_stage,
        aliases=tuple(alias for alias, holder in aliases.items() if holder == number),
        outcome=tags.get(OUTCOME_TAG, NO_VERDICT),
        regression=tags.get(REGRESSION_TAG, ""),
        digest=tags.get(DIGEST_TAG, ""),
        created=datetime.fromtimestamp(version.creation_timestamp / 1000, UTC),
        run_id=version.run_id or "",
        uri=f"models:/{registry.name}/{number}",
        wer_before=_number(tags.get("wer_before")),
        wer_after=_number(tags.get("wer_after")),
        warning=tags.get(LLM_TAG, ""),
        pruned=tags.get(PRUNED_TAG, ""),
        judged_beside=tags.get(CHAMPION_TAG, ""),
        tags={key: value for key, value in sorted(tags.items()) if key not in _HIDDEN},
    )


def list_versions(registry: Registry, limit: int | None = None) -> list[Version]:
    """Versions, newest first."""
    aliases = registry.aliases()
    return [describe(registry, version, aliases) for version in registry.versions()[:limit]]


def parse_version(text: str | int, model_name: str, aliases: dict[str, int]) -> int:
    """3, "3", "v3", "name/3", "models:/name/3", "@challenger" as the number of a version.

    Raises:
        UsageError: it is none, it is of another model, or nobody holds the alias.
    """
    given = str(text).strip().removeprefix("models:/")
    prefix = f"{model_name}/"
    rest = given.removeprefix(prefix) if given.startswith(prefix) else given.removeprefix(model_name)
    if rest.startswith("@"):
        if rest[1:] not in aliases:
            raise UsageError(f"Nobody is {rest} of {model_name}.", "`mondegreen models list` shows who holds what.")
        return aliases[rest[1:]]
    number = rest.removeprefix("v")
    if not (number.isascii() and number.isdigit()):
        raise UsageError(
            f"{text!r} is no version of {model_name}.",
            f"Give its number, {model_name}/NUMBER, or an alias (@champion).",
        )
    return int(number)


def model_of(text: str | int, default: str) -> str:
    """The registered model that a version's id names, the default when it names none."""
    given = str(text).strip().removeprefix("models:/")
    if "/" in given:
        return given.rsplit("/", 1)[0]
    return given.split("@", 1)[0] or default if "@" in given else default


def _number(text: str | None) -> float | None:
    try:
        return float(text) if text else None
    except ValueError:
        return None
