"""`mondegreen doctor`: what is wrong, and what to do about each.

`mondegreen status`: the whole system on one screen.

`mondegreen summary`: what the last `dvc repro` found.
"""

import json
from pathlib import Path
from typing import Annotated

import typer

from mondegreen.cli.common import STORE, JsonOption, StoreOption
from mondegreen.cli.jobs import orchestrator
from mondegreen.cli.models import LiveOption, NameOption

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

    findings = examine(*_where(name, store))
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


def _where(name: str | None, store: Path | None) -> tuple[str, Path]:
    """Registered model and live state; a params.yaml that cannot be read is a finding, and no reason to stop."""
    from mondegreen.config import Params, load_params
    from mondegreen.errors import UsageError
    from mondegreen.registry.mlflow_store import live_state, tracking_root

    try:
        params = load_params(tracking_root() / "params.yaml")
    except UsageError:
        params = Params()
    return name or params.register_.model_name, store or live_state()


def _relocate() -> None:
    from mondegreen.registry.doctor import relocate

    changed, backup = relocate()
    if backup is None:
        typer.echo("Every path that leads anywhere leads into this checkout already.", err=True)
        return
    typer.echo(f"{len(changed)} paths were rewritten; the database as it was is {backup}.", err=True)


def status(store: StoreOption = STORE, as_json: JsonOption = False) -> None:
    """Cases, trigger, rounds, registry, errors of the last day, and the next thing to do."""
    from mondegreen.loop.status import system_status

    with orchestrator(store) as found:
        facts = system_status(found)
    if as_json:
        typer.echo(json.dumps(facts))
        return
    from rich.console import Console

    from mondegreen.loop.status import render_status

    Console().print(render_status(facts))


def summary(
    build: Annotated[Path, typer.Option(help="The folder of the stage outputs.")] = Path("build"),
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object instead of text.")] = False,
) -> None:
    """Print baseline, candidate and verdict of the last `dvc repro`.

    Exits with 0 whatever the verdict is, as long as there is one.
    """
    from rich.console import Console

    from mondegreen.reports.outputs import render
    from mondegreen.reports.outputs import summary as summarise

    found = summarise(build)
    if as_json:
        typer.echo(found.model_dump_json())
    else:
        Console().print(render(found))
