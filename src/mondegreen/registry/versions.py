"""Versions of the registered model as people see them.

What two versions differ in: tags, the runs that made them, their files.

What stands in the registry and how it came about: as data, as a screen, as Markdown.

Old versions keep their record and lose their files, so that the disk does not fill up.
"""

import shutil
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from pydantic import BaseModel, ConfigDict
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

from mondegreen.config import DeployParams
from mondegreen.errors import UsageError
from mondegreen.registry.aliases import Registry
from mondegreen.registry.backup import Backups
from mondegreen.registry.gate import CHAMPION_TAG, LLM_TAG, NO_VERDICT, OUTCOME_TAG, REGRESSION_TAG
from mondegreen.registry.ledger import ALIASES, CHAMPION, Entry
from mondegreen.registry.package import DIGEST_TAG, FILES_TAG, PRUNED_TAG, from_tag, local_folder, location

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


_RECENT = 5


def status(registry: Registry, notes: Sequence[str]) -> dict[str, Any]:
    """Who holds which alias, where a rollback would lead, what happened last, what was noticed just now."""
    targets = [version for version in registry.ledger.succession().targets() if registry.find(version)]
    entries = registry.ledger.entries()
    return {
        "model_name": registry.name,
        "aliases": {alias: registry.aliases().get(alias) for alias in ALIASES},
        "versions": [version.to_dict() for version in list_versions(registry, _RECENT)],
        "rollback_to": targets[0] if targets else None,
        "history": [entry.model_dump(mode="json") for entry in entries[::-1][:_RECENT]],
        "notes": list(notes),
    }


def render_status(found: dict[str, Any]) -> RenderableType:
    """The screen for `rich`, from `status`."""
    held = [f"@{alias} version {number}" if number else f"no {alias}" for alias, number in found["aliases"].items()]
    target = found["rollback_to"]
    back = f"rollback leads to version {target}" if target else "nothing to roll back to"
    recent = Table.grid(padding=(0, 2))
    for entry in found["history"]:
        recent.add_row(f"{entry['at'][:16].replace('T', ' ')} UTC", entry["action"], escape(line_of(entry)))
    notes = [f"[yellow]{escape(note)}[/]" for note in found["notes"]]
    return Group(f"[bold]{escape(found['model_name'])}[/]  {', '.join(held)}; {back}", *notes, "", recent)


def line_of(entry: dict[str, Any]) -> str:
    """What an entry of the ledger says, on a line: version, who, why."""
    version = f"version {entry['version']}" if entry["version"] else "nobody"
    former = f" in place of {entry['former']}" if entry["former"] and entry["former"] != entry["version"] else ""
    former = former if entry["action"] in ("deploy", "rollback") else ""
    parts = [f"{version}{former}", f"by {entry['who']}", "FORCED" if entry["forced"] else "", entry["reason"]]
    state = "" if entry["state"] == "done" else f"{entry['state']}: {entry['details'].get('note', '')}"
    return ", ".join(part for part in [*parts, state] if part)


def render(registry: Registry, versions: Sequence[Version], config: DeployParams) -> str:
    """The whole record as Markdown."""
    targets = [str(version) for version in registry.ledger.succession().targets() if registry.find(version)]
    backups = Backups(registry.folder, registry.name)
    held = [f"- @{alias}: version {number}" for alias, number in registry.aliases().items()]
    return "\n".join(
        [
            f"# Deployments of {registry.name}",
            "",
            *(held or ["Nobody holds an alias."]),
            f"- rollback leads to: {', '.join(targets) or 'nothing'}",
            f"- files are kept of {config.keep_previous_versions} rollback targets and of the newest versions",
            f"- backups in {backups.folder}: {', '.join(map(str, backups.versions())) or 'none'}",
            "",
            "## Versions",
            "",
            "| version | stage | alias | verdict | regression | WER before | after | model | files |",
            "|---|---|---|---|---|---|---|---|---|",
            *(_version_row(version) for version in versions),
            *(f"\n**Version {version.version}: {version.warning}**" for version in versions if version.warning),
            "",
            "## Ledger",
            "",
            "| when (UTC) | what | version | before | verdict | who | why |",
            "|---|---|---|---|---|---|---|",
            *(_entry_row(entry) for entry in registry.ledger.entries()[::-1]),
            "",
        ]
    )


def _version_row(version: Version) -> str:
    cells = [
        str(version.version),
        version.status,
        " ".join(f"@{alias}" for alias in version.aliases),
        version.outcome,
        version.regression,
        _percent(version.wer_before),
        _percent(version.wer_after),
        version.digest[:12],
        f"pruned {version.pruned}" if version.pruned else "",
    ]
    return _row(cells)


def _entry_row(entry: Entry) -> str:
    action = f"{entry.action} (FORCED)" if entry.forced else entry.action
    why = "; ".join([entry.reason, *entry.details.get("overridden", [])]).strip("; ")
    former = str(entry.former or "")
    return _row([f"{entry.at:%Y-%m-%d %H:%M}", action, str(entry.version or ""), former, entry.outcome, entry.who, why])


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '/').replace(chr(10), ' ') for cell in cells)} |"


def _percent(rate: float | None) -> str:
    return "" if rate is None else f"{rate:.1%}"


def protected(registry: Registry, keep: int, newest: bool = True) -> dict[int, str]:
    """Version to why its files stay: it holds an alias, a rollback leads there, or it is one of the newest.

    Args:
        keep: how many rollback targets, and how many of the newest versions.
        newest: whether being new counts.
    """
    found: dict[int, str] = {}
    if newest:
        found |= {int(v.version): "is one of the newest" for v in registry.versions()[: max(keep, 1)]}
    targets = [version for version in registry.ledger.succession().targets() if registry.find(version)]
    found |= dict.fromkeys(targets[: max(keep, 1)], "is a version that rollback leads to")
    return found | {version: f"is @{alias}" for alias, version in registry.aliases().items()}


def prune(registry: Registry, keep: int) -> list[int]:
    """Removes the files of every version that is not `protected`, and says so in its tags and in the ledger.

    The tag comes first: what a crash leaves is called pruned, and the next prune removes the rest.

    Returns:
        The versions that were pruned now.
    """
    stays = protected(registry, keep)
    versions = registry.versions()
    needed = {location(registry, number) for number in stays if registry.find(number)}
    entered = {entry.version for entry in registry.ledger.entries() if entry.action == "prune"}
    pruned = []
    for version in versions:
        number = int(version.version)
        if number in stays or number in entered:
            continue
        tags = registry.version(number).tags
        if not tags.get(FILES_TAG):
            continue  # not of our making: its files may be somebody's own folder
        if not tags.get(PRUNED_TAG):
            registry.tag(number, {PRUNED_TAG: f"{datetime.now(UTC):%Y-%m-%d}"})
        remove_files(registry, number, needed)
        aliases = registry.aliases()
        registry.ledger.note(
            "prune", number, former=aliases.get(CHAMPION), reason=f"keep_previous_versions: {keep}",
            digest=tags.get(DIGEST_TAG, ""), details={"before": aliases, "after": aliases},
        )  # fmt: skip
        pruned.append(number)
    return pruned


def remove_files(registry: Registry, number: int, needed: set[str]) -> None:
    """Removes the backup of a version and, where we made it and no other version is of it, its package.

    Args:
        needed: locations of other versions.
    """
    Backups(registry.folder, registry.name).delete(number)
    uri = location(registry, number)
    if uri in needed or not registry.version(number).tags.get(FILES_TAG):
        return
    folder = local_folder(uri)
    if folder is None:
        get_artifact_repository(uri).delete_artifacts()  # type: ignore[no-untyped-call]
    else:
        shutil.rmtree(folder, ignore_errors=True)
