"""`mondegreen status`: the whole system on one screen."""

import json

import typer

from mondegreen.cli.jobs import orchestrator
from mondegreen.cli.options import STORE, JsonOption, StoreOption


def status(store: StoreOption = STORE, as_json: JsonOption = False) -> None:
    """Cases, trigger, rounds, registry, errors of the last day, and the next thing to do."""
    from mondegreen.loop.status import system_status

    with orchestrator(store) as found:
        facts = system_status(found)
    if as_json:
        typer.echo(json.dumps(facts))
        return
    from rich.console import Console

    from mondegreen.loop.status_screen import render_status

    Console().print(render_status(facts))
