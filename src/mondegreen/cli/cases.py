"""`mondegreen cases`: what a model misheard. Commands of other files join the same `app`.

How `mondegreen cases` shows cases: JSON for programs, tables for people.
"""

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

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
from mondegreen.progress import adding, progress

if TYPE_CHECKING:
    from mondegreen.cases.records import Case, CasePage, Correction, Statistics
    from mondegreen.cases.store import DataManager, Verification


def show_added(case: "Case", path: Path, as_json: bool) -> None:
    """One line a recording."""
    if as_json:
        typer.echo(case.model_dump_json())
    else:
        again = f" (seen {case.times_seen} times)" if case.times_seen > 1 else ""
        typer.echo(f"{case.id}  {path}: {case.original_transcript}{again}")


def show_page(page: "CasePage", as_json: bool) -> None:
    """A table, and how to go on from it."""
    if as_json:
        typer.echo(page.model_dump_json())
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    if not page.cases:
        typer.echo("No case is like that.")
        return
    table = Table(show_lines=True)
    for name in ("id", "first seen", "errors", "heard", "said"):
        table.add_column(name, no_wrap=name == "id")
    for case in page.cases:
        said = f"{case.corrected_transcript or '(nothing)'} [{case.label_method}]" if case.is_corrected else ""
        cells = (case.id, _local(case.first_seen), ", ".join(case.error_types), case.original_transcript, said)
        table.add_row(*map(Text, cells))
    Console().print(table)
    if page.next:
        typer.echo(f"More: --after {page.next}")


def show_case(case: "Case", history: list["Correction"], audio: str | None, as_json: bool) -> None:
    """Everything about one case."""
    if as_json:
        import json

        tree = case.model_dump(mode="json")
        tree |= {"audio": audio, "corrections": [entry.model_dump(mode="json") for entry in history]}
        typer.echo(json.dumps(tree, ensure_ascii=False))
        return
    score = "" if case.error_score is None else f" (score {case.error_score:.2f})"
    said = "(nobody wrote it down)" if case.corrected_transcript is None else case.corrected_transcript or "(nothing)"
    for name, value in (
        ("case", case.id),
        ("audio", f"{audio or '(missing)'} ({case.audio_name}, {case.duration or 0:.1f} s)"),
        ("heard", f"{case.original_transcript or '(nothing)'}"),
        ("by", case.model_version or "(unknown)"),
        ("said", said),
        ("errors", f"{', '.join(case.error_types) or '(unknown)'}{score}"),
        ("seen", f"{case.times_seen} times, {_local(case.first_seen)} to {_local(case.last_seen)}, {case.source}"),
        ("dataset", "none" if case.dataset_version is None else f"v{case.dataset_version}"),
    ):
        typer.echo(f"{name:<9}{value}")
    for entry in history:
        undone = " (taken back)" if entry.taken_back else ""
        said = entry.transcript or "(nothing)"
        typer.echo(f"  {_local(entry.at)}  {entry.method:<7} {entry.author or '-'}: {said}{undone}")


def show_statistics(found: "Statistics", as_json: bool) -> None:
    """The store in numbers."""
    if as_json:
        typer.echo(found.model_dump_json())
        return
    typer.echo(f"{found.total} cases, {found.corrected} corrected ({found.correction_rate:.1%})")
    typer.echo(f"{found.unused} in no dataset version yet, {found.unused_corrected} of them corrected")
    groups = {
        "corrected by": found.by_method,
        "error type": found.error_types,
        "model": found.by_model_version,
        "source": found.by_source,
    }
    for title, counts in groups.items():
        for name, count in counts.items():
            typer.echo(f"{title:<14}{name or '(unknown)'}: {count} ({count / found.total:.1%})")


def show_verification(found: "Verification", as_json: bool) -> None:
    """What is wrong, and what to do about it."""
    if as_json:
        typer.echo(found.model_dump_json())
        return
    typer.echo(f"{found.blobs} recordings of {found.cases} cases were hashed again.")
    for digest in found.corrupt:
        typer.echo(f"corrupt: {digest}")
    for digest in found.missing:
        typer.echo(f"missing: {digest}")
    if found.damaged_cases:
        typer.echo(f"Cases without their audio: {', '.join(found.damaged_cases)}")
        typer.echo("  What now: add the recordings again (`mondegreen cases add`), or fetch the blobs from a backup.")
    if found.miscounted:
        typer.echo("The counters were wrong; they have been counted again.")
    if found.swept_leftovers:
        typer.echo(f"Removed {found.swept_leftovers} half-written files of killed writers.")
    if found.deleted_orphans:
        typer.echo(f"Deleted {found.deleted_orphans} recordings that belonged to no case.")
    elif found.orphans:
        typer.echo(f"{len(found.orphans)} recordings belong to no case; --delete-orphans removes them.")
    if found.is_sound:
        typer.echo("All is well.")


def _local(time: datetime) -> str:
    return f"{time.astimezone():%Y-%m-%d %H:%M}"


app = typer.Typer(help="Failed cases: add, list, show, correct, count, verify.", no_args_is_help=True)


def open_store(folder: Path, *, new: bool = False) -> "DataManager":
    """The store in a folder. Raises UsageError when there is none, unless a `new` one is welcome."""
    import os

    from mondegreen.cases.store import DataManager
    from mondegreen.errors import UsageError

    if not (new or os.environ.get("MONDEGREEN_DATABASE_URL") or (folder / "mondegreen.db").is_file()):
        raise UsageError(
            f"There is no case store in {folder}.",
            "Run from the project root, or name the folder (--store), or add a first case: "
            "`mondegreen cases add AUDIO`.",
        )
    return DataManager(folder)


@app.command()
def add(
    audio: Annotated[list[Path], typer.Argument(metavar="AUDIO", help="Recordings.")],
    text: Annotated[str | None, typer.Option(help="What the model heard; transcribed now when not given.")] = None,
    correction: Annotated[str | None, typer.Option(help="What was said. Empty: nothing.")] = None,
    model: Annotated[
        str | None, typer.Option(help="The model that transcribes; model.base of ./params.yaml when not given.")
    ] = None,
    model_version: Annotated[
        str | None, typer.Option(help="Which model heard it; the digest of the one that transcribes when not given.")
    ] = None,
    error_types: Annotated[list[str] | None, typer.Option("--type", help="Error type; may be given again.")] = None,
    error_score: Annotated[float | None, typer.Option("--score", min=0, max=1, help="How surely it is wrong.")] = None,
    source: Annotated[str, typer.Option(help="Where the cases come from.")] = "manual",
    author: Annotated[str | None, typer.Option(help="Who corrects; your login name when not given.")] = None,
    store: StoreOption = STORE,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a recording, one a line.")] = False,
) -> None:
    """Keep recordings that were misheard.

    A recording that cannot be used is named on stderr, and the rest go on; the exit code is then 1.
    """
    from mondegreen.cli.common import heard, names_one
    from mondegreen.errors import AudioError

    names_one(audio, text, correction)
    manager, failed = open_store(store, new=True), False
    for path, found, version in heard(audio, text, model, model_version or ""):
        try:
            if isinstance(found, AudioError):
                raise found
            key = manager.store_failed_case(
                path, found, correction, error_types or (), error_score,
                model_version=version, source=source, author=author or login(),
            )  # fmt: skip
            show_added(manager.get_case(key), path, as_json)
        except AudioError as error:
            failed = True
            typer.echo(f"error: {error}", err=True)
    if correction:
        _warn_of_unwritable(correction)
    if failed:
        raise typer.Exit(1)


@app.command("list")
def list_cases(
    model_version: ModelVersionOption = None,
    source: SourceOption = None,
    error_type: ErrorTypeOption = None,
    corrected: CorrectedOption = None,
    method: MethodOption = None,
    used: UsedOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    text: TextOption = None,
    limit: Annotated[int, typer.Option(min=1)] = 50,
    after: Annotated[str | None, typer.Option(help="The id that the page before ended with.")] = None,
    store: StoreOption = STORE,
    as_json: JsonOption = False,
) -> None:
    """List cases, newest first."""
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
    show_page(open_store(store).find_cases(where, limit=limit, after=after), as_json)


@app.command()
def show(
    case_id: Annotated[str, typer.Argument(metavar="ID", help="A case, or the first six characters of its id.")],
    store: StoreOption = STORE,
    as_json: JsonOption = False,
) -> None:
    """Show a case, its audio's path and everything that was written for it."""
    manager = open_store(store)
    case = manager.get_case(case_id)
    show_case(case, manager.corrections(case.id), _audio(manager, case), as_json)


@app.command()
def correct(
    case_id: Annotated[str, typer.Argument(metavar="ID", help="A case, or the first six characters of its id.")],
    text: Annotated[str, typer.Argument(metavar="TEXT", help='What was said. "": nothing.')],
    author: Annotated[str | None, typer.Option(help="Who says so; your login name when not given.")] = None,
    method: Annotated[str, typer.Option(help="manual, import or llm.")] = "manual",
    store: StoreOption = STORE,
    as_json: JsonOption = False,
) -> None:
    """Write down what was said. Nothing is overwritten; the newest of a person's corrections counts."""
    manager = open_store(store)
    key = manager.get_case(case_id).id
    manager.store_correction(key, text, method, author or login())  # type: ignore[arg-type]  # checked there
    _warn_of_unwritable(text)
    case = manager.get_case(key)
    show_case(case, manager.corrections(key), _audio(manager, case), as_json)


@app.command()
def stats(store: StoreOption = STORE, as_json: JsonOption = False) -> None:
    """Count cases and corrections, by method, error type, model and source."""
    show_statistics(open_store(store).get_statistics(), as_json)


@app.command()
def verify(
    delete_orphans: Annotated[
        bool, typer.Option("--delete-orphans", help="Remove audio that belongs to no case.")
    ] = False,
    store: StoreOption = STORE,
    as_json: JsonOption = False,
) -> None:
    """Hash all audio again and count all cases again.

    Exits with 1 when audio is corrupt or missing, or a counter was wrong. What killed writers leave behind is no
    fault: half-written files are removed, whole ones without a case (orphans) are reported.
    """
    manager = open_store(store)
    with progress("hashing", manager.get_statistics().total) as advance:
        found = manager.verify(delete_orphans=delete_orphans, progress=adding(advance))
    show_verification(found, as_json)
    if not found.is_sound:
        raise typer.Exit(1)


def _audio(manager: "DataManager", case: "Case") -> str | None:
    from mondegreen.errors import CaseError

    try:
        return str(manager.audio_path(case))
    except CaseError as error:
        typer.echo(f"warning: {error}", err=True)
        return None


def login() -> str:
    """The login name of who runs the command, "" when there is none."""
    import getpass

    try:
        return getpass.getuser()
    except (KeyError, OSError):  # no such account, as in some containers
        return ""


def _warn_of_unwritable(text: str) -> None:
    """The correction is kept all the same; it judges, and it is left out of training."""
    from mondegreen.cases.spelling import labeller, unwritable
    from mondegreen.config import params_of

    base = params_of().model.base
    if characters := unwritable(text, labeller(base)):
        named = " ".join(repr(character) for character in characters)
        typer.echo(f"warning: {base} cannot write {named}: the correction is kept, but not trained on.", err=True)
