"""`mondegreen watch`: looks after the loop, once for cron and CI, or for ever."""

import re
from typing import Annotated

import typer

from mondegreen.cli.options import STORE, StoreOption

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def watch(
    once: Annotated[bool, typer.Option("--once", help="One look, for cron, systemd timers and CI.")] = False,
    interval: Annotated[str | None, typer.Option(help="Look so often: 30s, 5m, 1h. Without --once: 5m.")] = None,
    store: StoreOption = STORE,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a look, one a line.")] = False,
) -> None:
    """Check, ask for a round, and run it when it is approved; go on with one that was interrupted.

    Prints a line a look. With --once it exits with 1 when the round that it ran failed or found the gate closed. A
    database that is away is waited for. SIGTERM and ctrl-C stop a round that runs; the next look goes on with it.
    """
    from mondegreen.cli.jobs import orchestrator
    from mondegreen.cli.round_progress import round_progress
    from mondegreen.cli.stopping import terminable
    from mondegreen.errors import UsageError
    from mondegreen.loop.watch import watch as looks

    if once and interval:
        raise UsageError("--once and --interval exclude each other.", "Give one of them.")
    pause = None if once else seconds(interval or "5m")
    try:
        with terminable():
            found = None
            for found in looks(lambda: orchestrator(store), pause, _warn, lambda: round_progress(stream=False)):
                text = f"{found.at:%Y-%m-%d %H:%M:%S} {found.text}"
                typer.echo(found.model_dump_json() if as_json else text)
    except KeyboardInterrupt as stop:
        typer.echo(f"stopped ({stop or 'ctrl-C'})", err=True)
        return
    if found and not found.ok:
        raise typer.Exit(1)


def seconds(text: str) -> float:
    """30s, 5m, 1h or 1d in seconds; raises UsageError for anything else."""
    from mondegreen.errors import UsageError

    found = re.fullmatch(r"([0-9]{1,6})([smhd])", text.strip())
    if not found or not int(found[1]):
        raise UsageError(f"--interval {text} is no length of time.", "Give seconds, minutes or hours: 30s, 5m, 1h.")
    return float(int(found[1]) * _SECONDS[found[2]])


def _warn(text: str) -> None:
    typer.echo(text, err=True)
