"""`mondegreen labels bench`: how fast a server suggests."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mondegreen.cli.llm import ModelOption, TimeoutOption, UrlOption, label_params
from mondegreen.cli.options import JsonOption

if TYPE_CHECKING:
    from mondegreen.labels.llm_bench import BenchRow
    from mondegreen.labels.prompt import Shot
    from mondegreen.labels.suggestion import Question


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
    from mondegreen.labels.llm_bench import bench

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
    from mondegreen.labels.few_shot import choose_shots
    from mondegreen.labels.gold import gold_labels
    from mondegreen.labels.suggestion import Question
    from mondegreen.records import Hypothesis, Utterance

    path = build / "transcribe" / "hypotheses.jsonl"
    if not path.is_file():
        return _examples(limit), ()
    heard = read_jsonl(path, Hypothesis)
    utterances = read_jsonl(build / "prepare" / "manifest.jsonl", Utterance)
    shots = choose_shots(utterances, heard, gold_labels(utterances), few_shot)
    shown = {shot.id for shot in shots}  # a question that lacks its own example has another prompt than the rest
    different = {item.text: item for item in heard if item.text.strip() and item.id not in shown}
    asked = list(different.values())[:limit]
    questions = [
        Question(
            id=item.id,
            text=item.text,
            confidence=item.confidence,
            words=tuple(item.words),
            nbest=tuple(item.nbest),
        )
        for item in asked
    ]
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
