"""`mondegreen llm`: the language model that suggests labels: check it, see what is installed, get one."""

from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Annotated

import typer

from mondegreen.cli.common import Column, JsonOption, answer, json_text, table
from mondegreen.progress import Bar

if TYPE_CHECKING:
    from rich.console import RenderableType

    from mondegreen.config import LabelParams
    from mondegreen.labels.llm_check import CheckStep
    from mondegreen.labels.ollama import ModelRow

app = typer.Typer(help="The language model that suggests labels, on an Ollama server.", no_args_is_help=True)

UrlOption = Annotated[str | None, typer.Option(help="Of the server; label.url, OLLAMA_HOST or localhost otherwise.")]
ModelOption = Annotated[str | None, typer.Option(help="label.model of ./params.yaml when not given.")]
TimeoutOption = Annotated[float | None, typer.Option(min=0.1, help="Seconds for one answer; label.timeout otherwise.")]


def label_params(url: str | None = None, model: str | None = None, timeout: float | None = None) -> "LabelParams":
    """`label` of ./params.yaml where there is one, with what the options say."""
    from mondegreen.config import params_of

    params = params_of()
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
    from mondegreen.labels.ollama import OllamaServer
    from mondegreen.labels.prompt import Prompt

    params = label_params(url, model, timeout)
    prompt = Prompt(domain_words=params.domain_words, fast=params.fast_mode if fast is None else fast)
    server = OllamaServer(params.url, params.timeout)
    report = examine(server, params.model, prompt, None if as_json else _show_step)
    if as_json:
        typer.echo(json_text(report))
    if not report.ok:
        raise typer.Exit(1)


@app.command()
def models(url: UrlOption = None, as_json: JsonOption = False) -> None:
    """What is installed, how large, what is recommended, and how to get it."""
    from mondegreen.labels.ollama import OllamaServer, model_rows

    params = label_params(url)
    rows = model_rows(OllamaServer(params.url, params.timeout).models(), params.model)
    answer([row.model_dump() for row in rows], _models(rows), as_json, width=160)


@app.command()
def pull(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Such as llama3.2:3b.")], url: UrlOption = None
) -> None:
    """Download a model to the server. Broken off, the same command goes on with it."""
    from mondegreen.labels.ollama import OllamaServer

    server = OllamaServer(label_params(url).url)
    status = ""
    with closing(Bar(in_bytes=True)) as bar:
        for step in server.pull(name):
            if bar.on_terminal and step.total:
                bar.show(step.status or "", step.completed or 0, step.total, step.digest or "")
            elif step.status and step.status != status:
                status = step.status
                typer.echo(status, err=True)
    typer.echo(f"{name} is there, {server.digest(name)[:12]}.")


def _models(rows: "Sequence[ModelRow]") -> "Iterator[RenderableType]":
    from rich import box

    yield table(
        rows,
        Column("model", lambda row: row.name),
        Column("size", lambda row: row.size),
        Column("installed", lambda row: row.digest if row.installed else f"no: {row.pull}"),
        Column("", lambda row: row.note),
        box=box.SIMPLE,
    )


def _show_step(step: "CheckStep") -> None:
    typer.echo(f"{'ok    ' if step.ok else 'failed'}  {step.name}: {step.found}")
    if step.remedy:
        typer.echo(f"  What now: {step.remedy}")
