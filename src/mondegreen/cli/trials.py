"""`mondegreen trials`: which experiment to judge."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from mondegreen.cli.common import Column, ObjectOption, answer, table
from mondegreen.scoring.wording import percent, points, span

if TYPE_CHECKING:
    from rich.console import RenderableType

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
    answer(found, _lines(found), as_json, width=160)


def _lines(found: "Trials") -> "Iterator[str | RenderableType]":
    rows = found.trials
    if not rows:
        yield "No trials yet: `dvc exp run -S train.lora_rank=4 -n smaller` is one."
        return
    yield table(
        rows,
        Column("trial", lambda row: row.name, no_wrap=True),
        Column("dev WER", lambda row: percent(row.dev_wer), "right", no_wrap=True),
        Column("CER", lambda row: percent(row.dev_cer), "right", no_wrap=True),
        Column("improvement, points", _improvement, "right", no_wrap=True),
        Column("lost on retention dev", _loss, "right", no_wrap=True),
        Column("parameters that differ", lambda row: ", ".join(f"{k}={v}" for k, v in row.params.items()) or "–"),
        Column("judged", lambda row: row.verdict or "no", no_wrap=True),
    )
    if found.others:
        yield f"{found.others} on another dev set or against another baseline are not shown: --all."
    yield (
        "Dev chose every epoch and merge weight, and the best of several was lucky too: these numbers flatter. "
        f"Judge one on test: dvc exp apply {rows[0].name} && dvc repro"
    )


def _improvement(row: "TrialRun") -> str:
    if row.wer_improvement is None:
        return "–"
    return f"{100 * row.wer_improvement:+.2f}" + (f" ({span(*row.interval)})" if row.interval else "")


def _loss(row: "TrialRun") -> str:
    if row.retention_loss is None:
        return "not measured"
    bound = f", at most {points(row.retention_upper_bound)}" if row.retention_upper_bound is not None else ""
    return f"{points(row.retention_loss)}{bound}"
