"""`mondegreen llm`: the language model that suggests labels: check it, see what is installed, get one."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mondegreen.cli.options import JsonOption

if TYPE_CHECKING:
    from rich.progress import TaskID

    from mondegreen.config import LabelParams
    from mondegreen.labels.llm_check import Step
    from mondegreen.labels.ollama_server import PullStep

app = typer.Typer(help="The language model that suggests labels, on an Ollama server.", no_args_is_help=True)

UrlOption = Annotated[str | None, typer.Option(help="Of the server; label.url, OLLAMA_HOST or localhost otherwise.")]
ModelOption = Annotated[str | None, typer.Option(help="label.model of ./params.yaml when not given.")]
TimeoutOption = Annotated[float | None, typer.Option(min=0.1, help="Seconds for one answer; label.timeout otherwise.")]


def label_params(url: str | None = None, model: str | None = None, timeout: float | None = None) -> "LabelParams":
    """`label` of ./params.yaml where there is one, with what the options say."""
    from mondegreen.config import Params, load_params

    params = load_params() if Path("params.yaml").is_file() else Params()
    given = {"url": url, "model": model, "timeout": timeout}
    return params.label.model_copy(update={name: value for name, value in given.items() if value is not None})


@app.command()
def check(
    url: UrlOption = None,
    model: ModelOption = None,
    timeout: TimeoutOption = None,
    fast: Annotated[bool | None, typer.Option("--fast/--no-fast", help="label.fast_mode otherwise.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Is the server reachable, the model there, does it answer by the schema, and how fast?

    Exits with 1 at the first that fails, with its remedy.
    """
    from mondegreen.labels.llm_check import check as examine
    from mondegreen.labels.ollama_server import OllamaServer
    from mondegreen.labels.prompt import Prompt

    params = label_params(url, model, timeout)
    prompt = Prompt(domain_words=params.domain_words, fast=params.fast_mode if fast is None else fast)
    server = OllamaServer(params.url, params.timeout)
    report = examine(server, params.model, prompt, None if as_json else _show_step)
    if as_json:
        typer.echo(report.model_dump_json())
    if not report.ok:
        raise typer.Exit(1)


def _show_step(step: "Step") -> None:
    typer.echo(f"{'ok    ' if step.ok else 'failed'}  {step.name}: {step.found}")
    if step.remedy:
        typer.echo(f"  What now: {step.remedy}")


@app.command()
def models(url: UrlOption = None, as_json: JsonOption = False) -> None:
    """What is installed, how large, what is recommended, and how to get it."""
    from mondegreen.labels.llm_models import model_rows
    from mondegreen.labels.ollama_server import OllamaServer

    params = label_params(url)
    rows = model_rows(OllamaServer(params.url, params.timeout).models(), params.model)
    if as_json:
        typer.echo(json.dumps([row.model_dump() for row in rows]))
        return
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table("model", "size", "installed", "", box=box.SIMPLE)
    for row in rows:
        table.add_row(row.name, row.size, row.digest if row.installed else f"no: {row.pull}", row.note)
    Console(width=None if sys.stdout.isatty() else 160).print(table)


@app.command()
def pull(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Such as llama3.2:3b.")], url: UrlOption = None
) -> None:
    """Download a model to the server. Broken off, the same command goes on with it."""
    from mondegreen.labels.ollama_server import OllamaServer

    server = OllamaServer(label_params(url).url)
    with _Download() as shown:
        for step in server.pull(name):
            shown.add(step)
    typer.echo(f"{name} is there, {server.digest(name)[:12]}.")


class _Download:
    """A bar for each layer on a terminal, else a line for each new status."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn
        from rich.progress import TransferSpeedColumn as Speed

        columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), Speed(), TimeRemainingColumn())
        self._bar = Progress(*columns, console=Console(stderr=True)) if sys.stderr.isatty() else None
        self._tasks: dict[str, TaskID] = {}
        self._last = ""

    def __enter__(self) -> "_Download":
        if self._bar:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar:
            self._bar.stop()

    def add(self, step: "PullStep") -> None:
        """Shows one step."""
        if self._bar and step.total:
            if step.layer not in self._tasks:
                self._tasks[step.layer] = self._bar.add_task(step.status, total=step.total)
            self._bar.update(self._tasks[step.layer], completed=step.completed)
        elif step.status != self._last:
            self._last = step.status
            typer.echo(step.status, err=True)
