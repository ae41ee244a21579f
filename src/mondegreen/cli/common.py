"""What commands share: options, how help reads and an answer is shown, times that people write."""

import codecs
import inspect
import io
import json
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, get_args, get_type_hints

import typer
from typer.core import TyperCommand, TyperGroup
from typer.models import OptionInfo

from mondegreen.errors import UsageError
from mondegreen.progress import Bar, say_stopped

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

    from mondegreen.cases.records import CaseFilter
    from mondegreen.config import Params
    from mondegreen.loop.rounds import OnStageProgress, StageProgress
    from mondegreen.records import Utterance
    from mondegreen.speech.transcriber import BaselineSTTModel

STORE, BUILD = Path("var"), Path("build")
MANIFEST = BUILD / "prepare" / "manifest.jsonl"
StoreOption = Annotated[Path, typer.Option("--store", help="Folder of the case store.")]
BuildOption = Annotated[Path, typer.Option("--build", help="The folder of the stage outputs.")]
JsonOption = Annotated[bool, typer.Option("--json", help="JSON instead of text.")]
ObjectOption = Annotated[bool, typer.Option("--json", help="One JSON object instead of text.")]

# Which cases a command is about; `case_filter` takes them in this order.
ModelVersionOption = Annotated[str | None, typer.Option(help="Only what this model heard.")]
SourceOption = Annotated[str | None, typer.Option(help="Only from there.")]
ErrorTypeOption = Annotated[str | None, typer.Option("--type", help="Only with this error type.")]
CorrectedOption = Annotated[bool | None, typer.Option("--corrected/--uncorrected")]
MethodOption = Annotated[str | None, typer.Option(help="Only corrected by: manual, import or llm.")]
UsedOption = Annotated[bool | None, typer.Option("--used/--unused", help="By a dataset version.")]
SinceOption = Annotated[str | None, typer.Option(help="First seen from then on: 24h, 7d, or a date.")]
UntilOption = Annotated[str | None, typer.Option(help="First seen before: 24h, 7d, or a date.")]
TextOption = Annotated[str | None, typer.Option(help="Beginnings of words in a transcript or the file's name.")]

PhrasesOption = Annotated[
    Path | None,
    typer.Option("--phrases", metavar="FILE", help="Phrases that shall be heard (phrases.yaml), not the model's own."),
]
LmOption = Annotated[
    Path | None,
    typer.Option("--lm", metavar="FILE", help="Language model of the search (.lm, .arpa), not the model's own."),
]

# Where recordings come from; `origins` takes them in this order.
SpeakerOption = Annotated[str | None, typer.Option(help="Who speaks, in all of the recordings.")]
RecordingOption = Annotated[str | None, typer.Option(help="The source recording that they are pieces of.")]
ChannelOption = Annotated[str | None, typer.Option(help="Their channel: a line, a microphone, left or right.")]
MetadataOption = Annotated[
    Path | None, typer.Option(help="A table with the columns path and speaker, recording, channel; a file a row.")
]

# Where a stopped one goes on when it is run again; the others begin anew.
GO_ON = ("run", "cloud", "data import", "cases snapshot", "cases erase", "labels run", "llm pull", "registry move")
_NAMED = 10  # phrases that are left out, each in a line of its own
# What makes a folder a project, and what names one that is elsewhere.
_MARKS = ("params.yaml", "dvc.yaml", "var/mondegreen.db", "mlruns/mlflow.db", "data/regression/suites.yaml")
_SERVERS = ("MONDEGREEN_DATABASE_URL", "MLFLOW_TRACKING_URI")

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}

# Options of a table without lines and headings.
GRID = {
    "box": None,
    "padding": (0, 2),
    "collapse_padding": True,
    "show_header": False,
    "show_edge": False,
    "pad_edge": False,
}


def answer(facts: Any, screen: "str | Iterable[str | RenderableType]", as_json: bool, width: int | None = None) -> None:
    """The answer of a command on stdout.

    Args:
        facts: what --json prints: a record, what `json.dumps` takes, or text that is JSON.
        screen: its lines as they are, and what rich lays out; not asked for with --json.
        width: columns of what rich lays out where neither a terminal nor COLUMNS says how many there are; for screens
            that hold transcripts, whose numbers are not highlighted either.
    """
    if as_json:
        typer.echo(json_text(facts))
        return
    for part in [screen] if isinstance(screen, str) else screen:
        if isinstance(part, str):
            typer.echo(part)
            continue
        from rich.console import Console

        known = sys.stdout.isatty() or os.environ.get("COLUMNS")
        Console(width=None if known else width, highlight=width is None).print(part)


def warn_of_left_out(model: "BaselineSTTModel") -> None:
    """Says which phrases a model's letters cannot write."""
    left_out = model.boost.left_out if model.boost else []
    for item in left_out[:_NAMED]:
        typer.echo(f"warning: phrase {item}: it is left out", err=True)
    if len(left_out) > _NAMED:
        typer.echo(f"warning: {len(left_out) - _NAMED} more phrases are left out", err=True)


def json_text(facts: Any) -> str:
    """A record in pydantic's JSON, text as it is, all else by `json.dumps`.

    What stdout cannot say is written as JSON's own escape: a character that its encoding lacks, and a byte of a file
    name that is no UTF-8, which `os.fsencode` of the parsed text gives back.
    """
    from pydantic import BaseModel
    from pydantic_core import PydanticSerializationError

    if isinstance(facts, BaseModel):
        try:
            text = facts.model_dump_json()
        except PydanticSerializationError:  # such a byte
            text = json.dumps(facts.model_dump(mode="json"), ensure_ascii=False, separators=(",", ":"))
    else:
        text = facts if isinstance(facts, str) else json.dumps(facts)
    encoding = sys.stdout.encoding or "utf-8"
    return text.encode(encoding, _ESCAPE).decode(encoding)


def _escaped(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError)
    return json.dumps(error.object[error.start : error.end])[1:-1], error.end


_ESCAPE = "mondegreen.json"
codecs.register_error(_ESCAPE, _escaped)


def never_fail_to_print() -> None:
    """Lets stdout and stderr write what their encoding lacks as an escape, where they would raise an error."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="backslashreplace")


class Column(NamedTuple):
    """A column of a table of `rows`: what a row shows in it, plain text or rich's."""

    title: str
    value: Callable[[Any], object]
    justify: Literal["left", "right"] = "left"
    no_wrap: bool = False


def table(rows: Iterable[Any], *columns: Column, **options: Any) -> "Table":
    """The rows as a table of rich's; `options` are those of its Table."""
    from rich.table import Table
    from rich.text import Text

    found = Table(**options)
    for column in columns:
        # A word too long for its column goes on in the next line: what is cut cannot be copied.
        overflow: Literal["ellipsis", "fold"] = "ellipsis" if column.no_wrap else "fold"
        found.add_column(column.title, justify=column.justify, no_wrap=column.no_wrap, overflow=overflow)
    for row in rows:
        cells = (column.value(row) for column in columns)
        found.add_row(*(cell if isinstance(cell, Text) else Text(str(cell)) for cell in cells))
    return found


def require_project(store: Path = STORE) -> None:
    """Before a command that looks at a project's databases, which opening them would make.

    Raises:
        UsageError: here is neither a project nor a store, and no server is named.
    """
    from mondegreen.registry.mlflow_store import tracking_root

    root = tracking_root()
    marks = (store / "mondegreen.db", *(root / name for name in _MARKS), *map(Path, _MARKS))
    if not any(mark.exists() for mark in marks) and not any(os.environ.get(name) for name in _SERVERS):
        raise UsageError(
            f"There is no project here: neither params.yaml nor a case store in {store}.",
            "Run from the project root (where dvc.yaml is); `mondegreen init FOLDER` makes a project.",
        )


def require_outputs(build: Path) -> None:
    """Before a command that shows what stages wrote: raises UsageError where neither that nor a project is here."""
    if not build.exists():
        require_project()


def confirm(question: str) -> None:
    """Asks on stderr, and goes on after a yes; a no ends the command with 1.

    Raises:
        UsageError: stdin has no answer, as in cron.
    """
    nobody = UsageError("Nobody is here to say yes.", "Add --yes.")
    if sys.stdin is None:  # it was closed before we began
        raise nobody
    try:
        agreed = typer.confirm(question, err=True)
    except typer.Abort as abort:
        if isinstance(abort.__context__, KeyboardInterrupt):
            raise
        typer.echo(err=True)
        raise nobody from None
    if not agreed:
        raise typer.Exit(1)


def named_model(model: str | None, advice: str) -> "tuple[str, Params]":
    """The model that an option names, else the one in production, else model.base of params.yaml; which one is said.

    Returns:
        Its name, and the parameters, which may be the defaults.

    Raises:
        UsageError: neither of the two is there.
        RegistryError: nobody can say which one is in production.
    """
    from mondegreen.config import params_of

    if model is None and not Path("params.yaml").is_file():
        raise UsageError("No model is named, and there is no params.yaml here.", advice)
    params = params_of()
    if model is None:
        from mondegreen.registry.resolving import champion_of

        champion = champion_of(params.register_.model_name)
        which = "which is in production" if champion else "which is model.base of params.yaml"
        model = champion or params.model.base
        typer.echo(f"model: {model}, {which} (--model names another)", err=True)
    return model, params


def manifest() -> "list[Utterance]":
    """The project's recordings with their splits; raises UsageError where `prepare` has not run."""
    from mondegreen.files import read_jsonl
    from mondegreen.records import Utterance

    if not MANIFEST.is_file():
        raise UsageError(f"{MANIFEST} is not there: it says what dev and test are.", "Run `dvc repro prepare`.")
    return read_jsonl(MANIFEST, Utterance)


def lacking_characters() -> Callable[[str], list[str]]:
    """Gives the characters of a text that model.base cannot write: it cannot be trained on them.

    It gives none where the model's vocabulary is not at hand; `prepare` says so then.
    """
    from mondegreen.config import params_of
    from mondegreen.registry.resolving import find_model
    from mondegreen.speech.spelling import labeller, unwritable

    writer = labeller(params_of().model.base, find_model)
    return lambda text: unwritable(text, writer)


def origins(
    paths: Sequence[Path], speaker: str | None, recording: str | None, channel: str | None, metadata: Path | None
) -> dict[Path, dict[str, str]]:
    """What the options say of each recording's origin; those that name one value for all go before the table.

    Raises:
        UsageError: the table cannot be read; names file, line and field.
    """
    from mondegreen.cases.origin import read_origins

    common = {"speaker": speaker, "recording": recording, "channel": channel}
    given = {name: value.strip() for name, value in common.items() if value and value.strip()}
    rows = read_origins(metadata, paths) if metadata else {}
    return {path: rows.get(path, {}) | given for path in paths}


def local(time: datetime) -> str:
    """A moment in this machine's zone, to the minute."""
    return f"{time.astimezone():%Y-%m-%d %H:%M}"


def duration(written: str, option: str, units: str, advice: str) -> timedelta:
    """How long 30s, 90m, 24h, 7d or 2w are.

    Args:
        units: the letters that may end it.
        advice: what to write instead.

    Raises:
        UsageError: it is no such length, or none that ends within a century.
    """
    found = re.fullmatch(rf"([0-9]{{1,6}})([{units}])", written.strip())
    length = timedelta(**{_UNITS[found[2]]: int(found[1])}) if found else timedelta()
    if not timedelta() < length <= timedelta(days=36_525):
        raise UsageError(f"{option} {written} is no length of time.", advice)
    return length


def moment(written: str | None, option: str) -> datetime | None:
    """A time ago (90m, 24h, 7d, 2w) or a date and time of this machine's zone, as an aware datetime.

    Raises:
        UsageError: neither.
    """
    if written is None:
        return None
    try:
        if written[-1:] in ("m", "h", "d", "w"):
            return datetime.now(UTC) - timedelta(**{_UNITS[written[-1]]: float(written[:-1])})
        return datetime.fromisoformat(written).astimezone(UTC)
    except (ValueError, OverflowError):
        raise UsageError(
            f"{option} {written} is no time.", "Write 90m, 24h, 7d or 2w for so long ago, or a date: 2026-11-23T09:30."
        ) from None


def case_filter(
    model_version: str | None,
    source: str | None,
    error_type: str | None,
    corrected: bool | None,
    method: str | None,
    used: bool | None,
    since: str | None,
    until: str | None,
    text: str | None,
) -> "CaseFilter":
    """The filter that the options ask for. Raises UsageError naming the one that is wrong."""
    from mondegreen.cases.records import CaseFilter, checked

    return checked(
        CaseFilter,
        model_version=model_version,
        source=source,
        audit=False if source is None else None,  # what the audit drew is no failed case; `--source audit` shows it
        error_type=error_type,
        corrected=corrected,
        method=method,
        used=used,
        since=moment(since, "--since"),
        until=moment(until, "--until"),
        text=text,
    )


@contextmanager
def round_progress(stream: bool) -> Iterator["OnStageProgress | None"]:
    """A bar of the stages above the time taken, with the output running through above it.

    Args:
        stream: without a terminal, hand the output on line by line; else say nothing.
    """
    with closing(Bar(steady=False)) as bar:
        if not bar.on_terminal:
            yield (lambda progress: typer.echo(progress.line, err=True)) if stream else None
            return

        def show_line(progress: "StageProgress") -> None:  # the bar comes with the first line: a mere look has none
            bar.print(progress.line)
            bar.show(progress.stage or "starting", max(progress.number - 1, 0), progress.stages or None)

        yield show_line


def hyphenated(name: str) -> str:
    """An option's name with hyphens: the fine-tuning guide writes --audio_dir, and help lists one spelling."""
    return name.replace("_", "-")


SPELLINGS: dict[str, Any] = {"token_normalize_func": hyphenated}


@contextmanager
def _ending_plainly(ctx: Any) -> Iterator[None]:
    """ctrl-C ends the command with a line and exit code 130."""
    try:
        yield
    except (KeyboardInterrupt, typer.Abort) as stop:
        pressed = stop.__context__ if isinstance(stop, typer.Abort) else stop  # click's word for it at a question
        if not isinstance(pressed, KeyboardInterrupt):
            raise
        again = "; the same command goes on" if ctx.command_path.partition(" ")[2] in GO_ON else ""
        raise typer.Exit(say_stopped(pressed, ctx.command_path + again)) from None


class _Ours:
    def get_help_option(self, ctx: Any) -> Any:
        """--help, without the type of a switch."""
        found = super().get_help_option(ctx)  # type: ignore[misc]  # of the class that it is mixed into
        if found:
            found.metavar = ""
        return found

    def parse_args(self, ctx: Any, args: list[str]) -> Any:
        with _ending_plainly(ctx):
            return super().parse_args(ctx, args)  # type: ignore[misc]

    def invoke(self, ctx: Any) -> Any:
        with _ending_plainly(ctx):
            return super().invoke(ctx)  # type: ignore[misc]


class Command(_Ours, TyperCommand):
    """A command."""


class Commands(_Ours, TyperGroup):
    """A noun with commands."""


def readable(app: typer.Typer) -> typer.Typer:
    """The app, whose help and that of all below it keeps no line ends of docstrings within a paragraph."""
    for command in app.registered_commands:
        command.cls = Command
        if command.callback:
            paragraphs = (inspect.getdoc(command.callback) or "").split("\n\n")
            command.help = "\n\n".join(paragraph.replace("\n", " ") for paragraph in paragraphs)
            _quiet_switches(command.callback)
    for group in app.registered_groups:
        if group.typer_instance:
            group.cls = Commands
            readable(group.typer_instance)
    return app


def _quiet_switches(callback: Any) -> None:
    for hint in get_type_hints(callback, include_extras=True).values():
        kind, *notes = get_args(hint) or (None,)
        if kind is bool or set(get_args(kind)) == {bool, type(None)}:
            for option in notes:
                if isinstance(option, OptionInfo):
                    option.metavar = ""


def run_alone(command: Any) -> None:
    """Runs one command as a script of its own."""
    alone = typer.Typer(add_completion=False, context_settings=SPELLINGS)
    alone.command()(command)
    readable(alone)()
