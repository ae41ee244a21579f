"""`mondegreen summary`: what the last `dvc repro` found."""

from pathlib import Path
from typing import Annotated

import typer


def summary(
    build: Annotated[Path, typer.Option(help="The folder of the stage outputs.")] = Path("build"),
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object instead of text.")] = False,
) -> None:
    """Print baseline, candidate and verdict of the last `dvc repro`.

    Exits with 0 whatever the verdict is, as long as there is one.
    """
    from rich.console import Console

    from mondegreen.reports.summary import render
    from mondegreen.reports.summary import summary as summarise

    found = summarise(build)
    if as_json:
        typer.echo(found.model_dump_json())
    else:
        Console().print(render(found))
