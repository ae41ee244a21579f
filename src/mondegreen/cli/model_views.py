"""What `mondegreen models` shows."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

from mondegreen.reports.numbers import percent

if TYPE_CHECKING:
    from mondegreen.registry.checks import Refusal
    from mondegreen.registry.deployment_records import FileCheck
    from mondegreen.registry.ledger import Entry
    from mondegreen.registry.version_diff import Difference
    from mondegreen.registry.versions import Version

_COLOURS = {"pass": "green", "fail": "red", "inconclusive": "yellow", "none": "yellow"}


def versions_table(model_name: str, versions: Sequence["Version"]) -> RenderableType:
    """One row a version."""
    if not versions:
        return f"{escape(model_name)} has no version yet: `dvc repro` registers the first."
    table = Table("", "stage", "alias", "verdict", "suites", "WER, %", "registered", box=SIMPLE_HEAD, pad_edge=False)
    for column in table.columns:
        column.no_wrap = True  # it fits a terminal of eighty columns
    for version in versions:
        colour = _COLOURS.get(version.outcome, "white")
        table.add_row(
            str(version.version),
            version.status + (", pruned" if version.pruned else ""),
            " ".join(f"@{alias}" for alias in version.aliases),
            f"[{colour}]{escape(version.outcome)}[/]" + (" [bold red](LLM)[/]" if version.warning else ""),
            version.regression or "-",
            f"{_rate(version.wer_before)} -> {_rate(version.wer_after)}".replace(" %", ""),
            f"{version.created:%Y-%m-%d}",
        )
    return Group(f"[bold]{escape(model_name)}[/]", table)


def version_screen(version: "Version", refusals: Sequence["Refusal"]) -> RenderableType:
    """Everything that is known of a version."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold", no_wrap=True)
    held = " ".join(f"@{alias}" for alias in version.aliases)
    for name, value in {
        "version": f"{version.version_id}  {version.status} {held}",
        "registered": f"{version.created:%Y-%m-%d %H:%M} UTC",
        "load it as": version.uri,
        "run": version.run_id,
        **version.tags,
    }.items():
        table.add_row(escape(name), escape(str(value)))
    lines = [f"[bold red]{escape(version.warning)}[/]"] if version.warning else []
    if "champion" in version.aliases:
        lines.append("It is in production.")
    elif not refusals:
        lines.append(f"Nothing is against deploying it: `mondegreen models deploy {version.version}`.")
    else:
        lines += ["[bold]Against deploying it[/]", *(f"- {escape(refusal.problem)}" for refusal in refusals)]
    return Group(table, "", *lines)


def history_table(entries: Sequence["Entry"]) -> RenderableType:
    """One row an entry of the ledger."""
    if not entries:
        return "Nothing has been moved yet."
    table = Table("when (UTC)", "what", "version", "before", "verdict", "who", "why")
    for entry in entries:
        why = [entry.reason, *entry.details.get("overridden", []), entry.details.get("note", "")]
        action = entry.action + (" [bold red]FORCED[/]" if entry.forced else "")
        table.add_row(
            f"{entry.at:%Y-%m-%d %H:%M}",
            action + ("" if entry.state == "done" else f" [yellow]{entry.state}[/]"),
            str(entry.version or "nobody"),
            str(entry.former or ""),
            entry.outcome,
            escape(entry.who),
            escape("; ".join(filter(None, why))),
        )
    return table


def diff_table(first: str, second: str, rows: Sequence["Difference"]) -> RenderableType:
    """One row a difference."""
    if not rows:
        return f"Versions {first} and {second} do not differ."
    table = Table("", f"version {first}", f"version {second}")
    for row in rows:
        table.add_row(escape(row.name), escape(row.first), escape(row.second))
    return table


def checks_table(checks: Sequence["FileCheck"]) -> RenderableType:
    """One row a version."""
    if not checks:
        return "Nobody holds an alias: there is nothing to verify."
    table = Table("version", "files", "backup")
    for check in checks:
        files = "restored, whole" if check.restored and check.ok else "; ".join(check.problems) or "whole"
        colour = "green" if check.ok else "red"
        table.add_row(str(check.version), f"[{colour}]{escape(files)}[/]", escape("; ".join(check.backup) or "whole"))
    return table


def _rate(value: float | None) -> str:
    return "-" if value is None else percent(value)
