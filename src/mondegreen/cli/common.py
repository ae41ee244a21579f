"""Options that several commands share.

SIGTERM, as systemd and containers send it, ends a command as ctrl-C does: what runs is stopped and put back.

Live progress of a round on stderr.

What `mondegreen cases` needs before it can store or list: transcripts, moments.
"""

import signal
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mondegreen.errors import AudioError, UsageError
from mondegreen.progress import Bar

if TYPE_CHECKING:
    from mondegreen.cases.records import CaseFilter
    from mondegreen.loop.rounds import OnProgress, Progress


@contextmanager
def terminable() -> Iterator[None]:
    """Within it, SIGTERM raises KeyboardInterrupt."""
    former = signal.signal(signal.SIGTERM, _interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, former)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt(signal.Signals(number).name)


@contextmanager
def round_progress(stream: bool) -> Iterator["OnProgress | None"]:
    """A bar of the stages above the time taken, with the output running through above it.

    Args:
        stream: without a terminal, hand the output on line by line; else say nothing.
    """
    with closing(Bar(steady=False)) as bar:
        if not bar.on_terminal:
            yield (lambda progress: typer.echo(progress.line, err=True)) if stream else None
            return

        def show(progress: "Progress") -> None:  # the bar comes with the first line: a watch that only looks has none
            bar.print(progress.line)
            bar.show(progress.stage or "starting", max(progress.number - 1, 0), progress.stages or None)

        yield show


_GROUP = 32  # files taken together, so that a long list shows its first transcripts early
_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def names_one(audio: Sequence[Path], text: str | None, correction: str | None) -> None:
    """Raises UsageError where one text would be said to be heard in several recordings."""
    for option, given in (("--text", text), ("--correction", correction)):
        if given is not None and len(audio) > 1:
            raise UsageError(f"One {option} is given for {len(audio)} recordings.", "Add them one by one.")


def heard(
    audio: Sequence[Path], text: str | None, model: str | None, model_version: str
) -> Iterator[tuple[Path, str | AudioError, str]]:
    """Each recording with what was heard in it (or why nothing could be), and the version of the model that heard it.

    Args:
        text: what was heard in the one recording; None to transcribe now.
        model: that transcribes; None for model.base of params.yaml.
        model_version: "" for the digest of the model that transcribes, if one does.
    """
    if text is not None:
        for path in audio:
            yield path, text, model_version
        return
    from mondegreen.config import params_of
    from mondegreen.speech.transcriber import BaselineSTTModel, Failure

    if model is None and not Path("params.yaml").is_file():
        raise UsageError("No model is named, and there is no params.yaml here.", "Give one: --model NAME, or --text.")
    params = params_of()
    stt = BaselineSTTModel(
        model or params.model.base,
        batch_seconds=params.transcribe.batch_seconds,
        nbest=0,
        max_duration=params.audio.max_duration,
    )
    for start in range(0, len(audio), _GROUP):
        group = audio[start : start + _GROUP]
        for path, result in zip(group, stt.transcribe_many(group), strict=True):
            failed = isinstance(result, Failure)
            found = AudioError(result.error, reason=result.reason) if isinstance(result, Failure) else result.text
            yield path, found, "" if failed else model_version or stt.digest


def moment(written: str | None, option: str) -> datetime | None:
    """A time ago (90m, 24h, 7d, 2w) or a date and time of this machine's zone, as an aware datetime.

    Raises:
        UsageError: neither.
    """
    if written is None:
        return None
    try:
        if written[-1:] in _UNITS:
            return datetime.now(UTC) - timedelta(**{_UNITS[written[-1]]: float(written[:-1])})
        return datetime.fromisoformat(written).astimezone(UTC)
    except (ValueError, OverflowError):
        raise UsageError(
            f"{option} {written} is no time.", "Write 90m, 24h, 7d or 2w for so long ago, or a date: 2026-11-23T09:30."
        ) from None


STORE = Path("var")
StoreOption = Annotated[Path, typer.Option("--store", help="Folder of the case store.")]
JsonOption = Annotated[bool, typer.Option("--json", help="JSON instead of text.")]

# Which cases a command is about; `case_filter` takes them.
ModelVersionOption = Annotated[str | None, typer.Option(help="Only what this model heard.")]
SourceOption = Annotated[str | None, typer.Option(help="Only from there.")]
ErrorTypeOption = Annotated[str | None, typer.Option("--type", help="Only with this error type.")]
CorrectedOption = Annotated[bool | None, typer.Option("--corrected/--uncorrected")]
MethodOption = Annotated[str | None, typer.Option(help="Only corrected by: manual, import or llm.")]
UsedOption = Annotated[bool | None, typer.Option("--used/--unused", help="By a dataset version.")]
SinceOption = Annotated[str | None, typer.Option(help="First seen from then on: 24h, 7d, or a date.")]
UntilOption = Annotated[str | None, typer.Option(help="First seen before: 24h, 7d, or a date.")]
TextOption = Annotated[str | None, typer.Option(help="Beginnings of words in a transcript or the file's name.")]


def case_filter(since: str | None, until: str | None, **given: Any) -> "CaseFilter":
    """The filter that the options ask for. Raises UsageError naming the one that is wrong."""
    from mondegreen.cases.records import CaseFilter, checked

    return checked(CaseFilter, since=moment(since, "--since"), until=moment(until, "--until"), **given)
