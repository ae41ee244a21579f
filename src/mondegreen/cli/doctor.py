"""`mondegreen doctor`: what is wrong, and what to do about each."""

import json
from typing import Annotated

import typer

from mondegreen.cli.models import LiveOption, NameOption, deployer
from mondegreen.cli.options import JsonOption

_COLOURS = {"ok": "green", "warning": "yellow", "problem": "red"}


def doctor(
    relocate: Annotated[
        bool, typer.Option("--relocate", help="The checkout was moved: rewrite MLflow's absolute paths.")
    ] = False,
    name: NameOption = None,
    store: LiveOption = None,
    as_json: JsonOption = False,
) -> None:
    """Look at environment, databases, registry, files, backups, locks and disk; nothing is changed.

    The exit code is 1 when there is a problem; warnings alone leave it 0.
    """
    if relocate:
        _relocate()
    from mondegreen.registry.doctor import examine

    found = deployer(name, store)
    findings = examine(found.model_name, found.folder)
    if as_json:
        typer.echo(json.dumps([finding.model_dump() for finding in findings]))
    else:
        from rich.console import Console
        from rich.markup import escape
        from rich.table import Table

        table = Table.grid(padding=(0, 2))
        for finding in findings:
            remedy = f"\n[bold]What now:[/] {escape(finding.remedy)}" if finding.remedy else ""
            level = f"[{_COLOURS[finding.level]}]{finding.level}[/]"
            table.add_row(level, finding.check, escape(finding.text) + remedy)
        Console().print(table)
    if any(finding.level == "problem" for finding in findings):
        raise typer.Exit(1)


def _relocate() -> None:
    from mondegreen.registry.relocation import relocate

    changed, backup = relocate()
    if backup is None:
        typer.echo("Every path that leads anywhere leads into this checkout already.", err=True)
        return
    typer.echo(f"{len(changed)} paths were rewritten; the database as it was is {backup}.", err=True)
