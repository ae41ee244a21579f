"""`mondegreen cases`: what a model misheard. Commands of other files join the same `app`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mondegreen.cli.case_views import (
    show_added,
    show_case,
    show_page,
    show_statistics,
    show_verification,
    verification_progress,
)
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

if TYPE_CHECKING:
    from mondegreen.cases.manager import DataManager
    from mondegreen.cases.records import Case

app = typer.Typer(help="Failed cases: add, list, show, correct, count, verify.", no_args_is_help=True)


def open_store(folder: Path, *, new: bool = False) -> "DataManager":
    """The store in a folder. Raises UsageError when there is none, unless a `new` one is welcome."""
    import os

    from mondegreen.cases.manager import DataManager
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
    from mondegreen.cli.case_adding import heard, names_one
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
    with verification_progress(manager.get_statistics().total) as advance:
        found = manager.verify(delete_orphans=delete_orphans, progress=advance)
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
    from mondegreen.cases.snapshots.spelling import labeller, unwritable
    from mondegreen.config import Params, load_params

    base = (load_params() if Path("params.yaml").is_file() else Params()).model.base
    if characters := unwritable(text, labeller(base)):
        named = " ".join(repr(character) for character in characters)
        typer.echo(f"warning: {base} cannot write {named}: the correction is kept, but not trained on.", err=True)
