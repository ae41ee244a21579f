"""`mondegreen llm`: the language model that suggests labels: check it, see what is installed, get one.

`mondegreen labels bench`: how fast a server suggests.
"""

import json
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mondegreen.cli.common import JsonOption
from mondegreen.progress import Bar

if TYPE_CHECKING:
    from mondegreen.config import LabelParams
    from mondegreen.labels.llm_check import BenchRow, CheckStep
    from mondegreen.labels.prompt import Question, Shot

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
        typer.echo(report.model_dump_json())
    if not report.ok:
        raise typer.Exit(1)


def _show_step(step: "CheckStep") -> None:
    typer.echo(f"{'ok    ' if step.ok else 'failed'}  {step.name}: {step.found}")
    if step.remedy:
        typer.echo(f"  What now: {step.remedy}")


@app.command()
def models(url: UrlOption = None, as_json: JsonOption = False) -> None:
    """What is installed, how large, what is recommended, and how to get it."""
    from mondegreen.labels.ollama import OllamaServer, model_rows

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


def join(app: typer.Typer) -> None:
    """Adds the command to `mondegreen labels`."""
    app.command("bench")(bench_labels)


def bench_labels(
    limit: Annotated[int, typer.Option(min=1, help="Transcripts for each row.")] = 8,
    concurrency: Annotated[list[int], typer.Option(min=1, max=64, help="Once for each.")] = [1, 2, 4],  # noqa: B006
    url: UrlOption = None,
    model: ModelOption = None,
    timeout: TimeoutOption = None,
    build: Annotated[Path, typer.Option("--build", help="The folder of the stage outputs.")] = Path("build"),
    as_json: JsonOption = False,
) -> None:
    """Seconds per transcript and transcripts per second, at each concurrency, in the normal and the fast mode.

    Asks about hypotheses of the `transcribe` stage, or about examples where there are none, and keeps no answer.
    Exits with 1 when the server gave not one usable answer.
    """
    from mondegreen.labels.llm_check import bench

    params = label_params(url, model, timeout)
    questions, shots = _material(build, limit * len(concurrency), params.few_shot)
    rows = []
    for row in bench(questions, params, shots, concurrency):
        rows.append(row)
        typer.echo(f"{_mode(row)}, concurrency {row.concurrency}: {row.transcripts_per_second:.2f} a second", err=True)
    if as_json:
        typer.echo(json.dumps([row.model_dump() for row in rows]))
    else:
        _print_table(rows)
    if not any(row.suggestions for row in rows):
        typer.echo(
            f"error: {params.model} gave no usable answer.\n  What now: `mondegreen llm check` says why.", err=True
        )
        raise typer.Exit(1)


def _material(build: Path, limit: int, few_shot: int) -> "tuple[list[Question], tuple[Shot, ...]]":
    """Hypotheses with a word in them, and the examples that the `label` stage would show."""
    from mondegreen.files import read_jsonl
    from mondegreen.labels.gold import gold_labels
    from mondegreen.labels.prompt import Question, choose_shots
    from mondegreen.records import Hypothesis, Utterance

    path = build / "transcribe" / "hypotheses.jsonl"
    if not path.is_file():
        return _examples(limit), ()
    heard = read_jsonl(path, Hypothesis)
    utterances = read_jsonl(build / "prepare" / "manifest.jsonl", Utterance)
    shots = choose_shots(utterances, heard, gold_labels(utterances), few_shot)
    shown = {shot.id for shot in shots}  # a question that lacks its own example has another prompt than the rest
    different = {item.text: item for item in heard if item.text.strip() and item.id not in shown}
    questions = [Question.of(item) for item in list(different.values())[:limit]]
    return questions or _examples(limit), shots


def _examples(count: int) -> "list[Question]":
    """Different ones: what was asked once is not asked again."""
    from itertools import cycle

    from mondegreen.labels.llm_check import EXAMPLES

    numbered = zip(range(count), cycle(EXAMPLES), strict=False)
    return [item.model_copy(update={"text": f"{item.text} number {place}", "nbest": ()}) for place, item in numbered]


def _mode(row: "BenchRow") -> str:
    return "fast" if row.fast_mode else "normal"


def _print_table(rows: "list[BenchRow]") -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table("mode", "concurrency", "transcripts", "usable", "seconds each", "a second", box=box.SIMPLE)
    for row in rows:
        table.add_row(
            _mode(row),
            str(row.concurrency),
            str(row.transcripts),
            str(row.suggestions),
            f"{row.seconds_per_transcript:.2f}",
            f"{row.transcripts_per_second:.2f}",
        )
    Console(width=None if sys.stdout.isatty() else 100).print(table)
