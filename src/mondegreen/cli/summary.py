"""`mondegreen summary`: what the last `dvc repro` found."""

from pathlib import Path
from typing import Annotated

import typer


def summary(
    build: Annotated[Path, typer.Option(help="The folder of the stage outputs.")] = Path("build"),
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object instead of text.")] = False,
) -> None:
    """Print baseline, candidate and verdict of the last `dvc repro`; exits with 0 whatever the verdict is."""
    from mondegreen.reports.summary import render
    from mondegreen.reports.summary import summary as summarise

    found = summarise(build)
    typer.echo(found.model_dump_json() if as_json else render(found))
