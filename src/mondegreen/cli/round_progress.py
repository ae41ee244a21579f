"""Live progress of a round on stderr."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from mondegreen.loop.rounds import OnProgress, Progress


@contextmanager
def round_progress(stream: bool) -> Iterator["OnProgress | None"]:
    """A bar of the stages above the time taken, with the output running through above it.

    Args:
        stream: without a terminal, hand the output on line by line; else say nothing.
    """
    if not sys.stderr.isatty():
        yield _hand_on if stream else None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar

    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    bar = Bar(*columns, console=Console(stderr=True), transient=True, redirect_stdout=sys.stdout.isatty())
    task = bar.add_task("", total=None)

    def show(progress: "Progress") -> None:
        bar.start()  # with the first line: a watch that only looks shows no bar
        bar.console.print(progress.line, markup=False, highlight=False)
        done = max(progress.number - 1, 0)
        bar.update(task, description=progress.stage or "starting", completed=done, total=progress.stages or None)

    try:
        yield show
    finally:
        bar.stop()


def _hand_on(progress: "Progress") -> None:
    typer.echo(progress.line, err=True)
