"""`mondegreen data`: take in corpora from outside, and see what a data folder is worth before anything is computed."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mondegreen.cli.common import ObjectOption, answer
from mondegreen.errors import UsageError

if TYPE_CHECKING:
    from mondegreen.intake.entries import ImportReport, Reason

app = typer.Typer(help="Recordings and references: import corpora, check what a folder holds.", no_args_is_help=True)


@app.command("import")
def import_(
    kind: Annotated[str, typer.Argument(metavar="FORMAT", help="nemo, kaldi, librispeech or stm.")],
    source: Annotated[Path, typer.Argument(help="The manifest, table or folder.")],
    into: Annotated[Path, typer.Option(help="The data folder; data/retention and data/replay are others.")] = Path(
        "data"
    ),
    audio: Annotated[Path | None, typer.Option(help="Where the recordings lie, if not beside the source.")] = None,
    condition: Annotated[str, typer.Option(help="Folder below INTO/audio; the source's name when not given.")] = "",
    link: Annotated[bool, typer.Option("--link", help="Symbolic links in place of copies; segments are cut.")] = False,
    columns: Annotated[
        list[str] | None,
        typer.Option("--map", metavar="COLUMN=FIELD", help="Which column holds path, text, speaker, source, …"),
    ] = None,
    as_json: ObjectOption = False,
) -> None:
    """Take in a corpus: recordings are copied (or linked, or cut), references.csv gets their rows.

    What is there already stays as it is; a second run goes on where a killed one was. Exit code 0 when every row of the
    source is in the folder now, 1 when some were left out (the answer names them), 2 when the source cannot be read.
    """
    from typing import get_args

    from mondegreen.intake.entries import Corpus, Format
    from mondegreen.intake.importing import import_corpus
    from mondegreen.progress import track

    known: dict[str, Format] = {name: name for name in get_args(Format)}
    if kind not in known:
        raise UsageError(f"{kind} is no format that can be imported.", f"Name one of {', '.join(known)}.")
    corpus = Corpus(source, audio, _columns(columns or []))
    report = import_corpus(known[kind], corpus, into, condition, link=link, track=partial(track, what="import"))
    answer(report, _imported(report), as_json)
    if not report.complete:
        raise typer.Exit(1)


def _columns(written: list[str]) -> dict[str, str]:
    from mondegreen.intake.entries import FIELDS

    found = {}
    for item in written:
        column, equals, name = item.partition("=")
        if not equals or name not in FIELDS:
            raise UsageError(f"--map {item} is no COLUMN=FIELD.", f"A field is one of {', '.join(FIELDS)}.")
        found[column] = name
    return found


def _imported(report: "ImportReport") -> Iterator[str]:
    ways = {"copied": report.copied, "linked": report.linked, "cut from longer recordings": report.cut}
    how = ", ".join(f"{count} {way}" for way, count in ways.items() if count)
    there = f"; {report.there_already} were there already" if report.there_already else ""
    yield (
        f"{report.taken} of {report.rows} rows taken into {report.into}/audio/{report.condition}"
        + (f" ({how})" if how else "")
        + there
    )
    speakers = f"{report.speakers} speakers" + (
        f", {report.without_speaker} rows without" if report.without_speaker else ""
    )
    texts = f"; {report.without_text} rows have no text" if report.without_text else ""
    yield f"{report.recordings} recordings, {speakers}{texts}"
    if report.columns:
        yield "columns: " + ", ".join(f"{column} read as {name}" for column, name in report.columns.items())
    if report.ignored_columns:
        yield f"columns that were not taken: {', '.join(report.ignored_columns)}"
    yield from _named("found by the end of their path", report.moved)
    yield from _named("recordings there that no row names", report.unlisted)
    for reason, rows in report.left_out.items():
        yield from _named(f"left out, {reason}", rows)


def _named(what: str, found: "Reason") -> Iterator[str]:
    if found.count:
        yield f"{what}: {found.count}"
        yield from (f"  {example}" for example in found.examples)
        if found.count > len(found.examples):
            yield f"  … and {found.count - len(found.examples)} more"
