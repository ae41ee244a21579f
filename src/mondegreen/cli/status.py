"""`mondegreen status | monitor | doctor | summary`: how the loop, the service and the project do."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mondegreen.cli.common import (
    BUILD,
    GRID,
    STORE,
    BuildOption,
    Column,
    JsonOption,
    ObjectOption,
    StoreOption,
    answer,
    duration,
    require_outputs,
    require_project,
    table,
)
from mondegreen.cli.jobs import orchestrator
from mondegreen.cli.models import LiveOption, NameOption

if TYPE_CHECKING:
    from rich.console import RenderableType

    from mondegreen.registry.doctor import CheckResult

_COLOURS = {"ok": "green", "warning": "yellow", "problem": "red"}


def status(
    settle: Annotated[
        bool, typer.Option("--settle", help="Ask the gate about what was promoted by hand; end what was cut off.")
    ] = False,
    store: StoreOption = STORE,
    as_json: JsonOption = False,
) -> None:
    """Cases, trigger, rounds, registry, errors of the last day, and the next thing to do."""
    from mondegreen.loop.status import render_status, system_status

    with orchestrator(store) as found:
        if settle:
            from mondegreen.config import params_of
            from mondegreen.monitoring.guard import settle as ask_the_gate

            for sentence in ask_the_gate(found.jobs.engine, params_of(found.project), found.data_manager.folder):
                typer.echo(f"note: {sentence}", err=True)
        facts = system_status(found)
    answer(facts, [render_status(facts)], as_json)


def monitor(
    since: Annotated[str, typer.Option(help="Length of the window: 30m, 24h, 7d.")] = "24h",
    as_json: ObjectOption = False,
    html: Annotated[Path | None, typer.Option(help="Write a page with plots to this file as well.")] = None,
    fail: Annotated[bool, typer.Option("--fail/--no-fail", help="Exit with 1 when an alert fires.")] = True,
    notify: Annotated[
        bool, typer.Option("--notify/--no-notify", help="Send alerts to monitor.webhook of params.yaml.")
    ] = True,
) -> None:
    """Traffic, latency, errors, the WER in production, drift, alerts, and the WER over the rounds.

    The exit code is 1 when an alert fires (see --no-fail) or when the webhook does not take it.
    """
    window = duration(since, "--since", "mhd", "Give minutes, hours or days: 30m, 24h, 7d.")

    from mondegreen.config import params_of
    from mondegreen.files import require_writable, writing
    from mondegreen.monitoring.tracker import MetadataTracker
    from mondegreen.reports.monitor import render

    require_project()
    if html:
        require_writable(html)
    params = params_of()
    report = MetadataTracker("var").monitor(
        window, params.monitor, audit=params.audit, normalizer=params.score.normalizer, send=notify
    )
    if any(week.wer for week in report.production.weeks):
        from mondegreen.monitoring.production import log_weeks

        if problem := log_weeks(report.production.weeks):
            typer.echo(f"warning: the WER in production is not in MLflow: {problem}", err=True)
    if html:
        from mondegreen.reports.monitor_page import write_page

        with writing(html):
            write_page(html, report)
    answer(report, [render(report)], as_json)
    if html:
        typer.echo(f"The page is {html}.", err=True)
    undelivered = report.delivery is not None and report.delivery.problem
    if undelivered or (fail and report.alerts):
        raise typer.Exit(1)


def doctor(
    relocate: Annotated[
        bool, typer.Option("--relocate", help="The checkout was moved: rewrite MLflow's absolute paths.")
    ] = False,
    name: NameOption = None,
    store: LiveOption = None,
    as_json: JsonOption = False,
) -> None:
    """Look at environment, databases, registry, files, backups, locks and disk; only --relocate changes anything.

    The exit code is 1 when there is a problem; warnings alone leave it 0.
    """
    if relocate:
        _relocate()
    from mondegreen.registry.doctor import examine

    findings = examine(*_where(name, store))
    answer([finding.model_dump() for finding in findings], _findings(findings), as_json)
    if any(finding.level == "problem" for finding in findings):
        raise typer.Exit(1)


def summary(build: BuildOption = BUILD, as_json: ObjectOption = False) -> None:
    """Print baseline, candidate and verdict of the last `dvc repro`.

    Exits with 0 whatever the verdict is, as long as there is one.
    """
    from mondegreen.reports.outputs import render
    from mondegreen.reports.outputs import summary as summarise

    require_outputs(build)
    found = summarise(build)
    answer(found, [render(found)], as_json)


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


def _findings(findings: "list[CheckResult]") -> "Iterator[RenderableType]":
    from rich.text import Text

    def text(finding: "CheckResult") -> Text:
        found = Text(finding.text)
        return found.append("\nWhat now: ", "bold").append(finding.remedy) if finding.remedy else found

    yield table(
        findings,
        Column("", lambda finding: Text(finding.level, _COLOURS[finding.level])),
        Column("", lambda finding: finding.check),
        Column("", text),
        **GRID,
    )
