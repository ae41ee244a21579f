"""`mondegreen models`: what stands in the registry, deploying, rolling back, and the ledger of it.

What `mondegreen models` shows.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

from mondegreen.cli.common import JsonOption
from mondegreen.scoring.wording import percent

if TYPE_CHECKING:
    from mondegreen.registry.deployer import Deployment, FileCheck, ModelDeployer
    from mondegreen.registry.gate import Refusal
    from mondegreen.registry.ledger import Entry
    from mondegreen.registry.versions import Difference, Version

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


app = typer.Typer(help="Registered models: deploy, roll back, and why.", no_args_is_help=True)

NameOption = Annotated[str | None, typer.Option("--name", help="Registered model; register.model_name when not given.")]
LiveOption = Annotated[Path | None, typer.Option("--store", help="Folder of live state; var/ of the project.")]
VersionArgument = Annotated[str, typer.Argument(metavar="VERSION", help="A number, NAME/NUMBER, or @challenger.")]
ReasonOption = Annotated[str, typer.Option(help="Why, for the ledger.")]
LimitOption = Annotated[int | None, typer.Option(min=1, help="Only the newest so many.")]


def deployer(name: str | None, store: Path | None) -> "ModelDeployer":
    """The deployer that params.yaml asks for."""
    from mondegreen.config import params_of
    from mondegreen.registry.deployer import DeploymentConfig, ModelDeployer

    params = params_of()
    return ModelDeployer(
        DeploymentConfig.from_params(params),
        model_name=name or params.register_.model_name,
        local_storage_dir=store,
    )


@app.command("list")
def list_models(
    limit: LimitOption = None, name: NameOption = None, store: LiveOption = None, as_json: JsonOption = False
) -> None:
    """The versions, newest first: stage, alias, verdict, error rates."""
    found = deployer(name, store)
    versions = found.list_versions(limit)
    _say(found)
    if as_json:
        typer.echo(json.dumps([version.to_dict() for version in versions]))
        return

    _print(versions_table(found.model_name, versions))


@app.command()
def show(
    version: VersionArgument, name: NameOption = None, store: LiveOption = None, as_json: JsonOption = False
) -> None:
    """One version: its proof, its lineage, and what would keep it from production now."""
    found = deployer(name, store)
    shown, refusals = found.get_version(version), found.refusals(version)
    _say(found)
    if as_json:
        against = [asdict(refusal) for refusal in refusals]
        typer.echo(json.dumps(shown.to_dict() | {"refusals": against}))
        return

    _print(version_screen(shown, refusals))


@app.command()
def deploy(
    version: VersionArgument,
    force: Annotated[bool, typer.Option("--force", help="Also when it is refused; needs --reason.")] = False,
    reason: ReasonOption = "",
    name: NameOption = None,
    store: LiveOption = None,
    as_json: JsonOption = False,
) -> None:
    """To production, if its proof holds: verdict, regression suites, files, and the champion it was judged beside.

    The exit code is 1 when it is refused; then nothing was moved.
    """
    found = deployer(name, store)
    _tell(found, found.deploy_model(version, force=force, reason=reason), as_json)


@app.command()
def rollback(
    to: Annotated[str | None, typer.Option("--to", help="A version that was in production once.")] = None,
    reason: ReasonOption = "",
    name: NameOption = None,
    store: LiveOption = None,
    as_json: JsonOption = False,
) -> None:
    """Back to the version in production before; a second time, one further back."""
    found = deployer(name, store)
    _tell(found, found.rollback(to, reason=reason), as_json)


@app.command()
def history(
    limit: LimitOption = None, name: NameOption = None, store: LiveOption = None, as_json: JsonOption = False
) -> None:
    """The ledger, newest first: who moved what, when and why; also what was moved by hand."""
    found = deployer(name, store)
    entries = found.history(limit)
    _say(found)
    if as_json:
        typer.echo(json.dumps([entry.model_dump(mode="json") for entry in entries]))
        return

    _print(history_table(entries))


@app.command()
def diff(
    first: VersionArgument,
    second: VersionArgument,
    name: NameOption = None,
    store: LiveOption = None,
    as_json: JsonOption = False,
) -> None:
    """What two versions differ in: parameters, metrics, lineage, files."""
    found = deployer(name, store)
    rows = found.diff(first, second)
    _say(found)
    if as_json:
        typer.echo(json.dumps({row.name: [row.first, row.second] for row in rows}))
        return

    _print(diff_table(first, second, rows))


@app.command()
def verify(
    version: Annotated[str | None, typer.Argument(help="All that hold an alias when not given.")] = None,
    restore: Annotated[bool, typer.Option("--restore", help="Put damaged files back from their backup.")] = False,
    back_up: Annotated[bool, typer.Option("--back-up", help="Back up what has no whole backup.")] = False,
    name: NameOption = None,
    store: LiveOption = None,
    as_json: JsonOption = False,
) -> None:
    """Hash the files again, and those of the backups. The exit code is 1 when files are damaged."""
    found = deployer(name, store)
    checks = found.verify(version, restore=restore, back_up=back_up)
    _say(found)
    if as_json:
        typer.echo(json.dumps([check.model_dump(mode="json") | {"ok": check.ok} for check in checks]))
    else:
        _print(checks_table(checks))
    if not all(check.ok for check in checks):
        if not as_json:
            typer.echo("Put them back: `mondegreen models verify --restore`; or go back: `mondegreen models rollback`.")
        raise typer.Exit(1)


@app.command()
def delete(
    version: VersionArgument,
    reason: ReasonOption = "",
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    name: NameOption = None,
    store: LiveOption = None,
    as_json: JsonOption = False,
) -> None:
    """Delete a version with its files; refused for one that holds an alias or that rollback leads to."""
    found = deployer(name, store)
    if not yes and not typer.confirm(f"Delete {found.model_name} version {version} and its files for good?", err=True):
        raise typer.Exit(1)
    entry = found.delete_version(version, reason=reason)
    _say(found)
    typer.echo(entry.model_dump_json() if as_json else f"{entry.model_name} version {entry.version} is deleted.")


@app.command()
def status(name: NameOption = None, store: LiveOption = None, as_json: JsonOption = False) -> None:
    """Who holds which alias, where a rollback leads, and what happened last."""
    found = deployer(name, store)
    if as_json:
        typer.echo(json.dumps(found.get_status()))
    else:
        found.print_status()


@app.command()
def report(
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write it to this file.")] = None,
    name: NameOption = None,
    store: LiveOption = None,
) -> None:
    """Versions, backups and the whole ledger as Markdown."""
    text = deployer(name, store).generate_deployment_report(output)
    typer.echo(f"The report is {output}." if output else text, err=output is not None)


def _tell(found: "ModelDeployer", deployment: "Deployment", as_json: bool) -> None:
    _say(found)
    typer.echo(json.dumps(deployment.to_dict() | {"notes": found.notes}) if as_json else deployment.text)


def _say(found: "ModelDeployer") -> None:
    """What was repaired or noticed goes beside the answer, not into it."""
    for note in found.notes:
        typer.echo(f"note: {note}", err=True)


def _print(screen: Any) -> None:
    from rich.console import Console

    Console().print(screen)
