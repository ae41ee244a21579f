"""`mondegreen cases export | import | snapshot | versions | diff | checkout`: in files, in versions."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mondegreen.cli.cases import open_store
from mondegreen.cli.common import (
    STORE,
    Column,
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
    answer,
    case_filter,
    lacking_characters,
    local,
    table,
)
from mondegreen.progress import adding, progress, track
from mondegreen.scoring.wording import many

if TYPE_CHECKING:
    from rich.console import RenderableType

    from mondegreen.cases.versions import DatasetVersion, VersionDiff
    from mondegreen.delimited import Notice

app = typer.Typer()  # joins that of `mondegreen cases`
FileArgument = Annotated[Path, typer.Argument(metavar="FILE", help=".csv, .tsv, .json (Label Studio) or .jsonl.")]
_CARD = {"number", "tag", "commit", "date", "cases", "new", "parent"}  # what a version is in JSON
CaseVersionArgument = Annotated[str, typer.Argument(metavar="VERSION", help="v3, 3 or failed-cases/v3.")]
FormatOption = Annotated[
    str | None, typer.Option("--format", help="csv, label-studio or jsonl; by the file's name when not given.")
]


@app.command("export")
def export_cases(
    file: FileArgument,
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
    from mondegreen.cases.exchange import export_cases as export

    where = case_filter(model_version, source, error_type, corrected, method, used, since, until, text)
    notices: list[Notice] = []
    with progress("exporting") as advance:
        number = export(
            open_store(store), file, where=where, file_format=file_format,
            with_audio=with_audio, prefix=audio_prefix, advance=adding(advance), notices=notices,
        )  # fmt: skip
    lines = [f"{file} has {many(number, 'case')}.", *(f"Note: {notice}" for notice in notices)]
    answer({"file": str(file), "cases": number, "notices": list(map(asdict, notices))}, lines, as_json)


@app.command("import")
def import_cases(
    file: FileArgument,
    file_format: FormatOption = None,
    author: Annotated[str, typer.Option(help="Of the corrections that name none.")] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check FILE and count; change nothing.")] = False,
    text_area: Annotated[
        str, typer.Option(help="Label Studio: the TextArea of the transcript; else as the export tells.")
    ] = "",
    silence: Annotated[
        bool,
        typer.Option("--empty-is-silence", help="Label Studio: an annotation without a transcript: nothing was said."),
    ] = False,
    store: StoreOption = STORE,
    as_json: JsonOption = False,
) -> None:
    """Add new cases from FILE, and to known ones the corrections and metadata that they lack.

    On any problem nothing is added. Audio is named relative to FILE's folder. To import a file twice changes nothing.
    """
    from mondegreen.cases.exchange import import_cases as read

    with progress("importing") as advance:
        found = read(
            open_store(store, new=True),
            file,
            file_format=file_format,
            author=author,
            dry_run=dry_run,
            text_area=text_area,
            silence=silence,
            lacking=lacking_characters(),
            advance=adding(advance),
        )
    would = "Nothing was changed. There would be" if dry_run else "Imported"
    lines = [
        f"{would} {many(found.new_cases, 'new case')}, {many(found.new_corrections, 'new correction')} and "
        f"{many(found.new_metadata, 'case')} with new metadata ({many(found.cases, 'case')} in {file}, "
        f"{many(found.known_corrections, 'correction')} known already).",
        *(f"Note: {notice}" for notice in found.notices),
    ]
    answer(found, lines, as_json)


@app.command()
def snapshot(
    message: Annotated[str, typer.Option("--message", "-m", help="For the commit, instead of the counts.")] = "",
    store: StoreOption = STORE,
    as_json: JsonOption = False,
) -> None:
    """Freeze the corrected cases into data/failed_cases: `dvc add`, a commit of data.dvc, a tag failed-cases/vN.

    Exits with 1 when a quality gate of params.yaml (section cases) stays shut; data/ is then what it was. When there
    is nothing new it says so and exits with 0. After a crash the same command goes on.
    """
    from mondegreen.cases.snapshots import take_snapshot
    from mondegreen.config import load_params
    from mondegreen.registry.resolving import find_model

    found = take_snapshot(
        open_store(store),
        load_params(),
        message=message,
        find_model=find_model,
        track=partial(track, what="checking cases"),
    )
    answer(found, _snapshot(found), as_json)


@app.command()
def versions(as_json: JsonOption = False) -> None:
    """List the dataset versions, oldest first."""
    from mondegreen.cases.versions import list_versions

    found = list_versions()
    answer([version.model_dump(mode="json", include=_CARD) for version in found], _versions(found), as_json)


@app.command()
def diff(before: CaseVersionArgument, after: CaseVersionArgument, as_json: JsonOption = False) -> None:
    """Show which cases AFTER has, has not, or has with other corrections than BEFORE. Nothing is checked out."""
    from mondegreen.cases.versions import diff_versions

    found = diff_versions(before, after)
    answer(found, _diff(found), as_json)


@app.command()
def checkout(version: CaseVersionArgument, as_json: JsonOption = False) -> None:
    """Bring data/ back to a version, byte for byte: `git checkout TAG -- data.dvc && dvc checkout data.dvc`.

    Refused when changes in data/ would be lost.
    """
    from mondegreen.cases.versions import checkout_version

    found = checkout_version(version)
    lines = (
        f"data/ is what it was in v{found.number} ({many(found.cases, 'failed case')}).",
        "Back again: `git checkout HEAD -- data.dvc && dvc checkout data.dvc`; or commit data.dvc to stay.",
    )
    answer(found.model_dump_json(include=_CARD), lines, as_json)


def _snapshot(found: "DatasetVersion") -> Iterator[str]:
    if found.created:
        after = f" after v{found.parent}" if found.parent else ""
        yield f"v{found.number}: {many(found.cases, 'case')}, {found.new} new{after}, commit {found.commit[:10]}."
    else:
        yield f"Nothing new since v{found.number} ({many(found.cases, 'case')}, {local(found.date)})."
    if found.left_out:
        yield f"Left out: {', '.join(f'{count} {reason}' for reason, count in found.left_out.items())}."
    yield from (f"Note: {note}" for note in found.notes)
    if found.created:
        yield "Next: `dvc repro` trains on it; `dvc push && git push --follow-tags` shares it."


def _versions(found: "Sequence[DatasetVersion]") -> "Iterator[str | RenderableType]":
    if not found:
        yield "There is no dataset version yet; `mondegreen cases snapshot` makes one."
        return
    yield table(
        found,
        Column("version", lambda item: f"v{item.number}" + ("" if item.tag else " (no tag)"), no_wrap=True),
        Column("date", lambda item: local(item.date), no_wrap=True),
        Column("cases", lambda item: item.cases, "right", no_wrap=True),
        Column("new", lambda item: item.new, "right", no_wrap=True),
        Column("parent", lambda item: f"v{item.parent}" if item.parent else "", no_wrap=True),
        Column("commit", lambda item: item.commit[:10], no_wrap=True),
    )
    if any(not item.tag for item in found):
        yield "`git fetch --tags` gets the tags of another clone."


def _diff(found: "VersionDiff") -> Iterator[str]:
    yield (
        f"v{found.before} -> v{found.after}: {len(found.added)} added, {len(found.removed)} removed, "
        f"{len(found.changed)} corrected anew"
    )
    for sign, cases in (("+", found.added), ("-", found.removed)):
        yield from (f"{sign} {case.id}  {case.text}" for case in cases)
    for change in found.changed:
        if change.before != change.after:
            yield f"~ {change.id}  {change.before} -> {change.after}"
        else:
            by = f"{change.method_before} {change.author_before} -> {change.method_after} {change.author_after}"
            yield f"~ {change.id}  {change.after} ({by})"
