"""`mondegreen monitor`: how the service does, on one screen, as JSON, or as a page."""

import re
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer

_UNITS = {"m": "minutes", "h": "hours", "d": "days"}


def monitor(
    since: Annotated[str, typer.Option(help="Length of the window: 30m, 24h, 7d.")] = "24h",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object instead of text.")] = False,
    html: Annotated[Path | None, typer.Option(help="Write a page with plots to this file as well.")] = None,
    fail: Annotated[bool, typer.Option("--fail/--no-fail", help="Exit with 1 when an alert fires.")] = True,
    notify: Annotated[
        bool, typer.Option("--notify/--no-notify", help="Send alerts to monitor.webhook of params.yaml.")
    ] = True,
) -> None:
    """Traffic, latency, errors, drift, alerts, and the WER over the rounds.

    The exit code is 1 when an alert fires (see --no-fail) or when the webhook does not take it.
    """
    window = parse_window(since)

    from mondegreen.config import Params, load_params
    from mondegreen.loop.monitoring.tracker import MetadataTracker
    from mondegreen.reports.monitor import render

    params = load_params() if Path("params.yaml").is_file() else Params()
    report = MetadataTracker("var").monitor(window, params.monitor, send=notify)
    if html:
        from mondegreen.reports.monitor_html import write_page

        write_page(html, report)
    if as_json:
        typer.echo(report.model_dump_json())
    else:
        from rich.console import Console

        Console().print(render(report))
    if html:
        typer.echo(f"The page is {html}.", err=True)
    undelivered = report.delivery is not None and report.delivery.problem
    if undelivered or (fail and report.alerts):
        raise typer.Exit(1)


def parse_window(text: str) -> timedelta:
    """30m, 24h or 7d as a length of time."""
    from mondegreen.errors import UsageError

    found = re.fullmatch(r"([0-9]{1,6})([mhd])", text.strip())
    length = timedelta(**{_UNITS[found[2]]: int(found[1])}) if found else timedelta()
    if not timedelta() < length <= timedelta(days=36_525):
        raise UsageError(f"--since {text} is no length of time.", "Give minutes, hours or days: 30m, 24h, 7d.")
    return length
