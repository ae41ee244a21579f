"""`mondegreen cases add | list | show | correct | stats | verify`: what a model misheard, and what was said."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mondegreen.cli.common import (
    STORE,
    ChannelOption,
    Column,
    CorrectedOption,
    ErrorTypeOption,
    JsonOption,
    MetadataOption,
    MethodOption,
    ModelVersionOption,
    RecordingOption,
    SinceOption,
    SourceOption,
    SpeakerOption,
    StoreOption,
    TextOption,
    UntilOption,
    UsedOption,
    answer,
    case_filter,
    lacking_characters,
    local,
    named_model,
    origins,
    table,
)
from mondegreen.errors import AudioError, CaseError, UsageError
from mondegreen.progress import adding, progress
from mondegreen.scoring.wording import many, percent

if TYPE_CHECKING:
    from rich.console import RenderableType

    from mondegreen.cases.records import Case, CasePage, Statistics, Verification
    from mondegreen.cases.store import DataManager

app = typer.Typer(help="Failed cases: add, list, show, correct, count, verify, erase.", no_args_is_help=True)
CaseArgument = Annotated[str, typer.Argument(metavar="ID", help="A case, or the first six characters of its id.")]


def open_store(folder: Path, *, new: bool = False) -> "DataManager":
    """The store in a folder. Raises UsageError when there is none, unless a `new` one is welcome."""
    import os

    from mondegreen.cases.store import DataManager

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
        str | None, typer.Option(help="The model that transcribes; the champion, else model.base of ./params.yaml.")
    ] = None,
    model_version: Annotated[
        str | None, typer.Option(help="Which model heard it; the digest of the one that transcribes when not given.")
    ] = None,
    error_types: Annotated[list[str] | None, typer.Option("--type", help="Error type; may be given again.")] = None,
    error_score: Annotated[float | None, typer.Option("--score", min=0, max=1, help="How surely it is wrong.")] = None,
    source: Annotated[str, typer.Option(help="Where the cases come from.")] = "manual",
    author: Annotated[str | None, typer.Option(help="Who corrects; your login name when not given.")] = None,
    speaker: SpeakerOption = None,
    recording: RecordingOption = None,
    channel: ChannelOption = None,
    metadata: MetadataOption = None,
    store: StoreOption = STORE,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a recording, one a line.")] = False,
) -> None:
    """Keep recordings that were misheard.

    A recording that cannot be used is named on stderr, and the rest go on; the exit code is then 1.
    """
    from mondegreen.cases.records import AUDIT
    from mondegreen.git import login

    for option, given in (("--text", text), ("--correction", correction)):
        if given is not None and len(audio) > 1:
            raise UsageError(f"One {option} is given for {len(audio)} recordings.", "Add them one by one.")
    if text is not None and model is not None:
        raise UsageError(
            "--text says what was heard: --model has nothing to transcribe.",
            "Leave one of them out; --model-version says which model heard it.",
        )
    if source == AUDIT:
        raise UsageError(f"The source {AUDIT} is of what was drawn at random.", "Give the cases another --source.")
    manager, failed = open_store(store, new=True), False
    origin = origins(audio, speaker, recording, channel, metadata)
    for path, hypothesis, version in _hypotheses(audio, text, model, model_version or ""):
        try:
            if isinstance(hypothesis, AudioError):
                raise hypothesis
            key = manager.store_failed_case(
                path, hypothesis, correction, error_types or (), error_score, origin[path],
                model_version=version, source=source, author=author or login(),
            )  # fmt: skip
            case = manager.get_case(key)
            again = f" (seen {case.times_seen} times)" if case.times_seen > 1 else ""
            answer(case, f"{case.id}  {path}: {case.original_transcript}{again}", as_json)
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
    where = case_filter(model_version, source, error_type, corrected, method, used, since, until, text)
    page = open_store(store).find_cases(where, limit=limit, after=after)
    answer(page, _page(page), as_json)


@app.command()
def show(case_id: CaseArgument, store: StoreOption = STORE, as_json: JsonOption = False) -> None:
    """Show a case, its audio's path and everything that was written for it."""
    manager = open_store(store)
    _show_case(manager, manager.get_case(case_id), as_json)


@app.command()
def correct(
    case_id: CaseArgument,
    text: Annotated[str, typer.Argument(metavar="TEXT", help='What was said. "": nothing.')],
    author: Annotated[str | None, typer.Option(help="Who says so; your login name when not given.")] = None,
    method: Annotated[str, typer.Option(help="manual, import or llm.")] = "manual",
    store: StoreOption = STORE,
    as_json: JsonOption = False,
) -> None:
    """Write down what was said. Nothing is overwritten; the newest of a person's corrections counts."""
    from mondegreen.git import login

    manager = open_store(store)
    key = manager.get_case(case_id).id
    manager.store_correction(key, text, method, author or login())  # type: ignore[arg-type]  # checked there
    _warn_of_unwritable(text)
    try:
        _show_case(manager, manager.get_case(key), as_json)
    except CaseError as error:
        raise CaseError(f"The correction is kept. {error.problem}", f"See it: mondegreen cases show {key}") from error


@app.command()
def stats(store: StoreOption = STORE, as_json: JsonOption = False) -> None:
    """Count cases and corrections, by method, error type, model and source."""
    found = open_store(store).get_statistics()
    answer(found, _statistics(found), as_json)


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
    answer(found, _verification(found), as_json)
    if not found.is_sound:
        raise typer.Exit(1)


def _hypotheses(
    audio: Sequence[Path], text: str | None, model: str | None, model_version: str
) -> Iterator[tuple[Path, str | AudioError, str]]:
    """Each recording with its transcript (or why it has none), and the version of the model that wrote it.

    Args:
        text: the transcript of the one recording; None to transcribe now.
        model: that transcribes; None for the one in production, else model.base of params.yaml.
        model_version: "" for the digest of the model that transcribes, if one does.
    """
    if text is not None:
        yield from ((path, text, model_version) for path in audio)
        return
    from mondegreen.speech.transcriber import Failure, load_transcriber, transcribe_in_groups

    name, params = named_model(model, "Give one: --model NAME, or --text.")
    stt = load_transcriber(name, params, nbest=0, beam_width=16, cached=False)
    for path, result in zip(audio, transcribe_in_groups(stt, audio), strict=True):
        if isinstance(result, Failure):
            yield path, AudioError(result.error, reason=result.reason), ""
        else:
            yield path, result.text, model_version or stt.digest


def _warn_of_unwritable(text: str) -> None:
    """The correction is kept all the same; it judges, and it is left out of training."""
    if characters := lacking_characters()(text):
        named = " ".join(map(repr, characters))
        typer.echo(f"warning: the model cannot write {named}: the correction is kept, but not trained on.", err=True)


def _page(page: "CasePage") -> "Iterator[str | RenderableType]":
    if not page.cases:
        yield "No case is like that."
        return

    def said(case: "Case") -> str:
        return f"{case.corrected_transcript or '(nothing)'} [{case.label_method}]" if case.is_corrected else ""

    yield table(
        page.cases,
        Column("id", lambda case: case.id, no_wrap=True),
        Column("first seen", lambda case: local(case.first_seen)),
        Column("errors", lambda case: ", ".join(case.error_types)),
        Column("heard", lambda case: case.original_transcript),
        Column("said", said),
        show_lines=True,
    )
    if page.next:
        yield f"More: --after {page.next}"


def _show_case(manager: "DataManager", case: "Case", as_json: bool) -> None:
    """Everything about one case, with its corrections."""

    audio, history = None, manager.corrections(case.id)
    try:
        audio = str(manager.audio_path(case))
    except CaseError as error:
        typer.echo(f"warning: {error}", err=True)
    tree = case.model_dump(mode="json")
    tree |= {"audio": audio, "corrections": [entry.model_dump(mode="json") for entry in history]}
    score = "" if case.error_score is None else f" (score {case.error_score:.2f})"
    said = "(nobody wrote it down)" if case.corrected_transcript is None else case.corrected_transcript or "(nothing)"
    facts = {
        "case": case.id,
        "audio": f"{audio or '(missing)'} ({case.audio_name}, {case.duration or 0:.1f} s)",
        "heard": case.original_transcript or "(nothing)",
        "by": case.model_version or "(unknown)",
        "said": said,
        "errors": f"{', '.join(case.error_types) or '(unknown)'}{score}",
        "seen": f"{many(case.times_seen, 'time')}, {local(case.first_seen)} to {local(case.last_seen)}, {case.source}",
        "dataset": "none" if case.dataset_version is None else f"v{case.dataset_version}",
    }
    lines = [f"{name:<9}{value}" for name, value in facts.items()]
    for entry in history:
        undone = " (taken back)" if entry.taken_back else ""
        written = f"{entry.author or '-'}: {entry.transcript or '(nothing)'}{undone}"
        lines.append(f"  {local(entry.at)}  {entry.method:<7} {written}")
    answer(json.dumps(tree, ensure_ascii=False), lines, as_json)


def _statistics(found: "Statistics") -> Iterator[str]:
    yield f"{many(found.total, 'case')}, {found.corrected} corrected ({percent(found.correction_rate)})"
    yield f"{found.unused} in no dataset version yet, {found.unused_corrected} of them corrected"
    groups = {
        "corrected by": found.by_method,
        "error type": found.error_types,
        "model": found.by_model_version,
        "source": found.by_source,
    }
    for title, counts in groups.items():
        for name, count in counts.items():
            yield f"{title:<14}{name or '(unknown)'}: {count} ({percent(count / found.total)})"


def _verification(found: "Verification") -> Iterator[str]:
    """What is wrong, and what to do about it."""
    yield f"Hashed again: {many(found.blobs, 'recording')} of {many(found.cases, 'case')}."
    yield from (f"corrupt: {digest}" for digest in found.corrupt)
    yield from (f"missing: {digest}" for digest in found.missing)
    if found.damaged_cases:
        yield f"Cases without their audio: {', '.join(found.damaged_cases)}"
        yield "  What now: add the recordings again (`mondegreen cases add`), or fetch the blobs from a backup."
    if found.miscounted:
        yield "The counters were wrong; they have been counted again."
    if found.swept_leftovers:
        yield f"Removed {found.swept_leftovers} half-written files of killed writers."
    if found.deleted_orphans:
        yield f"Deleted {many(found.deleted_orphans, 'recording')} that belonged to no case."
    elif found.orphans:
        yield f"Of no case: {many(len(found.orphans), 'recording')}; --delete-orphans removes them."
    if found.is_sound:
        yield "All is well."
