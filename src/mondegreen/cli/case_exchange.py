"""`mondegreen cases export | import`: cases as CSV, as Label Studio tasks, or as JSON lines."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from mondegreen.cli.cases import open_store
from mondegreen.cli.options import (
    STORE,
    CorrectedOption,
    ErrorTypeOption,
    JsonOption,
    MethodOption,
    ModelVersionOption,
    SinceOption,
    SourceOption,
    StoreOption,
    TextOption,
    UntilOption,
    UsedOption,
    case_filter,
)

FormatOption = Annotated[
    str | None, typer.Option("--format", help="csv, label-studio or jsonl; by the file's name when not given.")
]


def join(app: typer.Typer) -> None:
    """Adds the commands to `mondegreen cases`."""
    app.command("export")(export_cases)
    app.command("import")(import_cases)


def export_cases(
    file: Annotated[Path, typer.Argument(metavar="FILE", help=".csv, .json (Label Studio) or .jsonl.")],
    file_format: FormatOption = None,
    with_audio: Annotated[
        bool, typer.Option("--with-audio", help="Copy the recordings into audio/ beside FILE, for another machine.")
    ] = False,
    audio_prefix: Annotated[
        str, typer.Option(help="Label Studio: goes before audio/NAME, as in /data/local-files/?d=project/.")
    ] = "",
    model_version: ModelVersionOption = None,
    source: SourceOption = None,
    error_type: ErrorTypeOption = None,
    corrected: CorrectedOption = None,
    method: MethodOption = None,
    used: UsedOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    text: TextOption = None,
    store: StoreOption = STORE,
    as_json: JsonOption = False,
) -> None:
    """Write cases with everything that was written for them into FILE. An existing FILE is replaced."""
    import json

    from mondegreen.cases.exchange.exporting import export_cases as export

    where = case_filter(
        since,
        until,
        model_version=model_version,
        source=source,
        error_type=error_type,
        corrected=corrected,
        method=method,
        used=used,
        text=text,
    )
    with _progress("exporting") as advance:
        number = export(
            open_store(store), file, where=where, file_format=file_format,
            with_audio=with_audio, prefix=audio_prefix, advance=advance,
        )  # fmt: skip
    typer.echo(json.dumps({"file": str(file), "cases": number}) if as_json else f"{number} cases are in {file}.")


def import_cases(
    file: Annotated[Path, typer.Argument(metavar="FILE", help=".csv, .json (Label Studio) or .jsonl.")],
    file_format: FormatOption = None,
    author: Annotated[str, typer.Option(help="Of the corrections that name none.")] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check FILE and count; change nothing.")] = False,
    store: StoreOption = STORE,
    as_json: JsonOption = False,
) -> None:
    """Add new cases from FILE, and to known ones the corrections that they lack: all of it, or on any problem nothing.

    Audio is named relative to FILE's folder. To import a file twice changes nothing.
    """
    from mondegreen.cases.exchange.importing import import_cases as read

    with _progress("importing") as advance:
        found = read(
            open_store(store, new=True), file, file_format=file_format, author=author, dry_run=dry_run, advance=advance
        )
    if as_json:
        typer.echo(found.model_dump_json())
        return
    would = "Nothing was changed. There would be" if dry_run else "Imported"
    typer.echo(
        f"{would} {found.new_cases} new cases and {found.new_corrections} new corrections "
        f"({found.cases} cases in {file}, {found.known_corrections} corrections known already)."
    )


@contextmanager
def _progress(title: str) -> Iterator[Callable[[int], None]]:
    """A count on stderr when that is a terminal. How many will come nobody knows before the end."""
    if not sys.stderr.isatty():
        yield lambda cases: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn(title), BarColumn(), TextColumn("{task.completed} cases"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=None)
        yield lambda cases: bar.advance(task, cases)
