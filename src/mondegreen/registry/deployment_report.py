"""What stands in the registry and how it came about: as data, as a screen, as Markdown."""

from collections.abc import Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

from mondegreen.config import DeployParams
from mondegreen.registry.backup import Backups
from mondegreen.registry.ledger import ALIASES, Entry
from mondegreen.registry.moves import Registry
from mondegreen.registry.versions import Version, list_versions

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
