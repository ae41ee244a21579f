"""`mondegreen audit plan | status`: the random sample that people hear to measure the WER in production."""

from collections.abc import Iterator
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mondegreen.cli.common import STORE, ObjectOption, StoreOption, answer, duration, require_project

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import RenderableType

    from mondegreen.monitoring.records import ProductionReport, ProductionWer

app = typer.Typer(help="The random sample that people hear, for the WER in production.", no_args_is_help=True)
WindowOption = Annotated[str, typer.Option(help="Length of the window: 7d, 84d.")]


@app.command()
def plan(
    half_width: Annotated[
        float | None, typer.Option(min=0.1, max=50, help="The half width that is wanted, in points of WER.")
    ] = None,
    since: WindowOption = "84d",
    store: StoreOption = STORE,
    as_json: ObjectOption = False,
) -> None:
    """How many references give which interval, by what was heard so far."""
    from mondegreen.monitoring.sampling import plan_audit

    total = _report(store, since).total
    found = plan_audit(total, half_width / 100 if half_width else None)
    answer(found, _plan(found, total), as_json)


@app.command()
def status(since: WindowOption = "84d", store: StoreOption = STORE, as_json: ObjectOption = False) -> None:
    """How many inferences were drawn, heard and wait, by version, and what follows from them."""
    from mondegreen.reports.monitor import production_lines

    report = _report(store, since)
    answer(report, [_table(report), *production_lines(report)], as_json)


def _report(store: "Path", since: str) -> "ProductionReport":
    from mondegreen.cli.cases import open_store
    from mondegreen.config import params_of
    from mondegreen.monitoring.tracker import MetadataTracker

    require_project(store)
    window, params = duration(since, "--since", "hd", "Give hours or days: 24h, 84d."), params_of()
    audit = params.audit.model_copy(update={"window_days": window / timedelta(days=1)})
    manager = open_store(store, new=store == STORE)  # a plan is welcome before anything was logged
    return MetadataTracker(store, data_manager=manager).production_wer(window, audit, params.score.normalizer)


def _table(report: "ProductionReport") -> "RenderableType":
    from rich.table import Table

    from mondegreen.scoring.wording import version_name

    table = Table("version")
    for name in ("inferences", "drawn", "heard", "wait", "without speech"):
        table.add_column(name, justify="right")
    for found in [*report.versions, *([report.total] if len(report.versions) != 1 else [])]:
        waiting = found.drawn - found.audited
        counts = (found.inferences, found.drawn, found.audited, waiting, found.without_speech)
        table.add_row(version_name(found.label), *(f"{count:,}" for count in counts))
    return table


def _plan(found: dict[str, Any], total: "ProductionWer") -> "Iterator[RenderableType]":
    from rich.table import Table

    from mondegreen.reports.monitor import HEAR
    from mondegreen.scoring.wording import unsigned

    if found["assumed"]:
        yield f"Assumed, for want of references: {found['reason']}. Services differ: plan again when there are some."
    table = Table("references")
    columns = {"best": found["method"] + " estimate" if not found["assumed"] else "", "plain": "plain estimate"}
    shown = {key: title for key, title in columns.items() if title and (key == "plain" or found["method"] != "plain")}
    for title in shown.values():
        table.add_column(f"half width, {title}", justify="right")
    for row in found["half_widths"]:
        table.add_row(f"{row['references']:,}", *(f"± {unsigned(row[key])}" for key in shown))
    yield table
    for key, title in shown.items() if found["wanted"] else ():
        needed = found["needed"][key]
        amount = f"{needed:,} references" if needed else "more than a million references"
        yield f"± {unsigned(found['wanted'])}, {title}: {amount}."
    yield (
        f"{found['drawn_a_week']:,.0f} of {found['inferences_a_week']:,.0f} inferences a week are drawn (audit.rate)"
        f"{_paced(found['traffic_days'], total.inferences)}; {total.drawn - total.audited:,} wait ({HEAR})."
    )


def _paced(days: float, inferences: int) -> str:
    """What the week's number is computed from."""
    if not inferences:
        return ""
    shown = f"{days:,.1f}".removesuffix(".0")
    return f", by the {inferences:,} in {shown} {'day' if shown == '1' else 'days'} of traffic"
