"""`mondegreen trials`: which experiment to judge."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from mondegreen.cli.common import Column, ObjectOption, answer, table
from mondegreen.scoring.wording import percent, span

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.text import Text

    from mondegreen.registry.trials import TrialRun, Trials


def trials(
    everything: Annotated[
        bool, typer.Option("--all", help="Those on another dev set or against another baseline as well.")
    ] = False,
    as_json: ObjectOption = False,
) -> None:
    """The experiments (`dvc exp run`) side by side, by what they hear in the dev set; the best first.

    A trial spends no look at the test set and is not registered. To judge one: `dvc exp apply NAME && dvc repro`.
    """
    from mondegreen.registry.mlflow_store import registry_file
    from mondegreen.registry.trials import Trials, list_trials

    file = registry_file()
    found = list_trials(everything) if file is None or file.is_file() else Trials(trials=[], others=0)
    answer(found, _lines(found), as_json, width=80)


def _lines(found: "Trials") -> "Iterator[str | RenderableType]":
    rows = found.trials
    if not rows:
        yield "No trials yet: `dvc exp run -S train.lora_rank=4 -n smaller` is one."
        return
    yield table(
        rows,
        Column("trial,\nwhat differs", _told),
        Column("dev WER,\nCER", lambda row: f"{percent(row.dev_wer)}\n{percent(row.dev_cer)}", "right", no_wrap=True),
        Column("improvement,\npoints", _improvement, "right", no_wrap=True),
        Column("retention dev\nlost, points", _loss, "right", no_wrap=True),
        box=None,
        padding=(0, 2, 1, 0),
        pad_edge=False,
    )
    if found.others:
        yield f"{found.others} on another dev set or against another baseline are not shown: --all."
    yield (
        "Dev chose every epoch and merge weight, and the best of several was lucky too: these numbers flatter. "
        f"Judge one on test: dvc exp apply {rows[0].name} && dvc repro"
    )


def _told(row: "TrialRun") -> "Text":
    """Whole names, a parameter a line, and how it was judged, if it was."""
    from rich.text import Text

    lines = [row.name, *(f"{name}={value}" for name, value in row.params.items())]
    return Text("\n".join([*lines, *([f"judged: {row.verdict}"] if row.verdict else [])]), overflow="fold")


def _improvement(row: "TrialRun") -> str:
    if row.wer_improvement is None:
        return "–"
    return f"{100 * row.wer_improvement:+.2f}" + (f"\n{span(*row.interval)}" if row.interval else "")


def _loss(row: "TrialRun") -> str:
    if row.retention_loss is None:
        return "not measured"
    bound = f"\nat most {100 * row.retention_upper_bound:+.2f}" if row.retention_upper_bound is not None else ""
    return f"{100 * row.retention_loss:+.2f}{bound}"
