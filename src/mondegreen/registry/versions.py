"""Versions of the registered model as people see them: listed, compared, on a screen, and as a report in Markdown."""

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from pydantic import BaseModel, ConfigDict
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

from mondegreen.config import DeployParams
from mondegreen.registry.aliases import OUTCOME_TAG, Registry
from mondegreen.registry.ledger import ALIASES, Aliases, LedgerEntry
from mondegreen.registry.package import DIGEST_TAG, FILES_TAG, PRUNED_TAG, from_tag
from mondegreen.registry.record import (
    CHAMPION_TAG,
    FORGETTING_TAG,
    LLM_TAG,
    NO_VERDICT,
    PROBLEM,
    REGRESSION_TAG,
    facts,
)
from mondegreen.scoring.wording import many, percent

# Of a version that was moved here: the time at which it was registered first, and the number that it was to get.
REGISTERED_TAG, NUMBER_TAG = "mondegreen.registered", "mondegreen.number"
_NOT_SHOWN = (FILES_TAG, REGISTERED_TAG, NUMBER_TAG)
_RECENT = 5
_DIGEST = re.compile(r"\b([0-9a-f]{12})[0-9a-f]{28,}\b")  # twelve digits name it on a screen


class Version(BaseModel):
    """One version: its aliases and stage, and what is known of it."""

    model_config = ConfigDict(frozen=True)

    version_id: str  # name/number, as deploy_model takes it
    name: str
    version: int
    status: str  # MLflow's stage: Production, Staging, Archived, None
    aliases: tuple[str, ...]
    outcome: str  # of the verdict: pass, fail, inconclusive, none
    regression: str  # pass, fail, none (the project has no suites), or "" when none was run before it was registered
    digest: str
    created: datetime
    run_id: str
    uri: str
    wer_before: float | None
    wer_after: float | None
    warning: str  # in capital letters when a language model wrote references, or nothing shows what was forgotten
    pruned: str  # the day on which its files were removed, "" while they are there
    judged_beside: str  # the champion when the verdict was registered
    tags: dict[str, str]  # and what its record says

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return self.model_dump(mode="json")


def list_versions(registry: Registry, limit: int | None = None) -> list[Version]:
    """Versions, newest first."""
    aliases = registry.aliases(everyone=True)
    return [describe(registry, version, aliases) for version in registry.versions()[:limit]]


def describe(registry: Registry, version: ModelVersion, aliases: Aliases) -> Version:
    """A version of MLflow with what its tags and its record say."""
    number, tags = int(version.version), facts(registry, version)
    return Version(
        version_id=f"{registry.name}/{number}",
        name=registry.name,
        version=number,
        status=version.current_stage,
        aliases=tuple(alias for alias, holder in aliases.items() if holder == number),
        outcome=tags.get(OUTCOME_TAG, NO_VERDICT),
        regression=tags.get(REGRESSION_TAG, ""),
        digest=tags.get(DIGEST_TAG, ""),
        created=_created(version),
        run_id=version.run_id or "",
        uri=f"models:/{registry.name}/{number}",
        wer_before=_number(tags.get("wer_before")),
        wer_after=_number(tags.get("wer_after")),
        warning="; ".join(tags[name] for name in (LLM_TAG, FORGETTING_TAG, PROBLEM) if tags.get(name)),
        pruned=tags.get(PRUNED_TAG, ""),
        judged_beside=tags.get(CHAMPION_TAG, ""),
        tags={key: value for key, value in sorted(tags.items()) if key not in _NOT_SHOWN},
    )


def _created(version: ModelVersion) -> datetime:
    """When it was registered first: MLflow says when it was moved here."""
    try:
        return datetime.fromisoformat(version.tags[REGISTERED_TAG])
    except (KeyError, ValueError):
        return datetime.fromtimestamp(version.creation_timestamp / 1000, UTC)


def _number(text: str | None) -> float | None:
    try:
        return float(text) if text else None
    except ValueError:
        return None


class Difference(BaseModel):
    """A value that is not the same in both; "" where one has none."""

    model_config = ConfigDict(frozen=True)

    name: str
    first: str
    second: str

    @property
    def is_detail(self) -> bool:
        """Of a slice, of training or of the machine, or a file: not what people ask for first."""
        return self.name.startswith("file ") or (self.name.startswith("metric ") and "/" in self.name)


def diff(registry: Registry, first: int, second: int) -> list[Difference]:
    """Tags and records, parameters and metrics of the runs, and files whose bytes differ."""
    one, other = _facts(registry, first), _facts(registry, second)
    return [
        Difference(name=name, first=one.get(name, ""), second=other.get(name, ""))
        for name in one | other
        if one.get(name) != other.get(name)
    ]


def _facts(registry: Registry, number: int) -> dict[str, str]:
    """Stage, tags, the run's parameters and metrics, and files; not the run's id, which always is another one."""
    version = registry.version(number)
    found = {"stage": str(version.current_stage)}
    found |= {key: value for key, value in facts(registry, version).items() if key not in (*_NOT_SHOWN, "run")}
    try:
        run = registry.client.get_run(version.run_id) if version.run_id else None
    except MlflowException:
        run = None  # it was deleted
    if run:
        found |= {f"param {name}": value for name, value in sorted(run.data.params.items())}
        found |= {f"metric {name}": f"{value:.6g}" for name, value in sorted(run.data.metrics.items())}
    files = from_tag(version.tags.get(FILES_TAG, "")) or {}
    return found | {f"file {name}": digest[:12] for name, digest in sorted(files.items())}


def render_diff(first: str, second: str, rows: Sequence[Difference], whole: bool) -> RenderableType:
    """The screen for `rich`, from `diff`; without what is a detail unless it is to be `whole`."""
    if not rows:
        return f"Versions {first} and {second} do not differ."
    shown = Table("", f"version {first}", f"version {second}")
    for row in rows:
        if whole or not row.is_detail:
            shown.add_row(escape(row.name), *(escape(_DIGEST.sub(r"\1", text)) for text in (row.first, row.second)))
    left_out = 0 if whole else sum(row.is_detail for row in rows)
    more = f"{many(left_out, 'more row')}, of slices, training, machine and files: --all" if left_out else ""
    return Group(shown, *filter(None, [more]))


def status(registry: Registry, notes: Sequence[str]) -> dict[str, Any]:
    """Who holds which alias, where a rollback would lead, what happened last, what was noticed just now."""
    aliases, targets = registry.aliases(), registry.rollback_targets()
    return {
        "model_name": registry.name,
        "aliases": {alias: aliases.get(alias) for alias in ALIASES},
        "versions": [version.to_dict() for version in list_versions(registry, _RECENT)],
        "rollback_to": targets[0] if targets else None,
        "history": [entry.model_dump(mode="json") for entry in registry.ledger.entries()[::-1][:_RECENT]],
        "notes": list(notes),
    }


def render_status(found: Mapping[str, Any]) -> RenderableType:
    """The screen for `rich`, from `status`."""
    held = [f"@{alias} version {number}" if number else f"no {alias}" for alias, number in found["aliases"].items()]
    target = found["rollback_to"]
    back = f"rollback leads to version {target}" if target else "nothing to roll back to"
    recent = Table.grid(padding=(0, 2))
    for entry in found["history"]:
        recent.add_row(f"{entry['at'][:16].replace('T', ' ')} UTC", entry["action"], escape(_line(entry)))
    notes = [f"[yellow]{escape(note)}[/]" for note in found["notes"]]
    return Group(f"[bold]{escape(found['model_name'])}[/]  {', '.join(held)}; {back}", *notes, "", recent)


def _line(entry: Mapping[str, Any]) -> str:
    """What an entry of the ledger says, on a line: version, who, why."""
    version = f"version {entry['version']}" if entry["version"] else "nobody"
    if entry["action"] in ("deploy", "rollback") and entry["former"] not in (None, entry["version"]):
        version += f" in place of {entry['former']}"
    return ", ".join(filter(None, [version, f"by {entry['who']}", entry["forced"] and "FORCED", entry["reason"]]))


def render_report(registry: Registry, config: DeployParams) -> str:
    """Aliases, versions, backups and the whole ledger as Markdown."""
    versions, backups = list_versions(registry), registry.backups
    held = [f"- @{alias}: version {number}" for alias, number in registry.aliases(everyone=True).items()]
    lines = [
        f"# Deployments of {registry.name}",
        "",
        *(held or ["Nobody holds an alias."]),
        f"- rollback leads to: {', '.join(map(str, registry.rollback_targets())) or 'nothing'}",
        f"- files are kept of {config.keep_previous_versions} rollback targets and of the newest versions",
        f"- backups in {backups.folder}: {', '.join(map(str, backups.versions())) or 'none'}",
        "",
        "## Versions",
        "",
        _row("version", "stage", "alias", "verdict", "regression", "WER before", "after", "model", "files"),
        "|---|---|---|---|---|---|---|---|---|",
        *(_version_row(version) for version in versions),
        *(f"\n**Version {version.version}: {version.warning}**" for version in versions if version.warning),
        "",
        "## Ledger",
        "",
        _row("when (UTC)", "what", "version", "before", "verdict", "who", "why"),
        "|---|---|---|---|---|---|---|",
        *(_entry_row(entry) for entry in registry.ledger.entries()[::-1]),
        "",
    ]
    return "\n".join(lines)


def _version_row(version: Version) -> str:
    before, after = ("" if rate is None else percent(rate) for rate in (version.wer_before, version.wer_after))
    aliases = " ".join(f"@{alias}" for alias in version.aliases)
    pruned = f"pruned {version.pruned}" if version.pruned else ""
    digest = version.digest[:12]
    return _row(
        version.version, version.status, aliases, version.outcome, version.regression, before, after, digest, pruned
    )


def _entry_row(entry: LedgerEntry) -> str:
    action = f"{entry.action} (FORCED)" if entry.forced else entry.action
    why = "; ".join([entry.reason, *entry.details.get("overridden", [])]).strip("; ")
    versions = entry.version or "", entry.former or ""
    return _row(f"{entry.at:%Y-%m-%d %H:%M}", action, *versions, entry.outcome, entry.who, why)


def _row(*cells: object) -> str:
    return f"| {' | '.join(str(cell).replace('|', '/').replace(chr(10), ' ') for cell in cells)} |"
