"""`mondegreen cases export | import`: cases as CSV, as Label Studio tasks, or as JSON lines.

`mondegreen cases snapshot | versions | diff | checkout`: dataset versions of failed cases.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mondegreen.cli.cases import open_store
from mondegreen.cli.common import (
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
from mondegreen.progress import adding, progress, track

if TYPE_CHECKING:
    from mondegreen.cases.versions import Version, VersionDiff

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

    from mondegreen.cases.exporting import export_cases as export

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
    with progress("exporting") as advance:
        number = export(
            open_store(store), file, where=where, file_format=file_format,
            with_audio=with_audio, prefix=audio_prefix, advance=adding(advance),
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
    from mondegreen.cases.importing import import_cases as read

    with progress("importing") as advance:
        found = read(
            open_store(store, new=True),
            file,
            file_format=file_format,
            author=author,
            dry_run=dry_run,
            advance=adding(advance),
        )
    if as_json:
        typer.echo(found.model_dump_json())
        return
    would = "Nothing was changed. There would be" if dry_run else "Imported"
    typer.echo(
        f"{would} {found.new_cases} new cases and {found.new_corrections} new corrections "
        f"({found.cases} cases in {file}, {found.known_corrections} corrections known already)."
    )


VersionArgument = Annotated[str, typer.Argument(metavar="VERSION", help="v3, 3 or failed-cases/v3.")]


def join_versions(app: typer.Typer) -> None:
    """Adds the commands to `mondegreen cases`."""
    for command in (snapshot, versions, diff, checkout):
        app.command()(command)


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
    if as_json:
        typer.echo(found.model_dump_json())
        return
    if found.created:
        after = f" after v{found.parent}" if found.parent else ""
        typer.echo(f"v{found.number}: {found.cases} cases, {found.new} new{after}, commit {found.commit[:10]}.")
    else:
        typer.echo(
            f"Nothing new since v{found.number} ({found.cases} cases, {found.date.astimezone():%Y-%m-%d %H:%M})."
        )
    if found.left_out:
        counts = ", ".join(f"{count} {reason}" for reason, count in found.left_out.items())
        typer.echo(f"Left out: {counts}.")
    for note in found.notes:
        typer.echo(f"Note: {note}")
    if found.created:
        typer.echo("Next: `dvc repro` trains on it; `dvc push && git push --follow-tags` shares it.")


def versions(as_json: JsonOption = False) -> None:
    """List the dataset versions, oldest first."""
    import json

    from mondegreen.cases.versions import list_versions

    found = list_versions()
    if as_json:
        fields = {"number", "tag", "commit", "date", "cases", "new", "parent"}
        typer.echo(json.dumps([version.model_dump(mode="json", include=fields) for version in found]))
    elif not found:
        typer.echo("There is no dataset version yet; `mondegreen cases snapshot` makes one.")
    else:
        _show_versions(found)


def diff(before: VersionArgument, after: VersionArgument, as_json: JsonOption = False) -> None:
    """Show which cases AFTER has, has not, or has with other corrections than BEFORE. Nothing is checked out."""
    from mondegreen.cases.versions import diff_versions

    found = diff_versions(before, after)
    if as_json:
        typer.echo(found.model_dump_json())
    else:
        _show_diff(found)


def checkout(version: VersionArgument, as_json: JsonOption = False) -> None:
    """Bring data/ back to a version, byte for byte: `git checkout TAG -- data.dvc && dvc checkout data.dvc`.

    Refused when changes in data/ would be lost.
    """
    from mondegreen.cases.versions import checkout_version

    found = checkout_version(version)
    if as_json:
        typer.echo(found.model_dump_json(include={"number", "tag", "commit", "date", "cases", "new", "parent"}))
    else:
        typer.echo(f"data/ is what it was in v{found.number} ({found.cases} failed cases).")
        typer.echo("Back again: `git checkout HEAD -- data.dvc && dvc checkout data.dvc`; or commit data.dvc to stay.")


def _show_versions(found: Sequence["Version"]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table()
    for name in ("version", "date", "cases", "new", "parent", "commit"):
        table.add_column(name, justify="right" if name in ("cases", "new") else "left", no_wrap=True)
    for item in found:
        parent = f"v{item.parent}" if item.parent else ""
        name = f"v{item.number}" + ("" if item.tag else " (no tag)")
        date = f"{item.date.astimezone():%Y-%m-%d %H:%M}"
        table.add_row(name, date, str(item.cases), str(item.new), parent, item.commit[:10])
    Console().print(table)
    if any(not item.tag for item in found):
        typer.echo("`git fetch --tags` gets the tags of another clone.")


def _show_diff(found: "VersionDiff") -> None:
    typer.echo(
        f"v{found.before} -> v{found.after}: {len(found.added)} added, {len(found.removed)} removed, "
        f"{len(found.changed)} corrected anew"
    )
    for sign, cases in (("+", found.added), ("-", found.removed)):
        for case in cases:
            typer.echo(f"{sign} {case.id}  {case.text}")
    for change in found.changed:
        if change.before != change.after:
            typer.echo(f"~ {change.id}  {change.before} -> {change.after}")
        else:
            by = f"{change.method_before} {change.author_before} -> {change.method_after} {change.author_after}"
            typer.echo(f"~ {change.id}  {change.after} ({by})")
