"""`mondegreen transcribe`: recordings to text, one line of JSON or of text a file, and on request into the log.

Whatever happens to the log, the transcripts are printed.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from mondegreen.cli.common import (
    LmOption,
    MetadataOption,
    PhrasesOption,
    RecordingOption,
    SpeakerOption,
    json_text,
    named_model,
    origins,
    warn_of_left_out,
)
from mondegreen.errors import UsageError
from mondegreen.progress import progress
from mondegreen.scoring.wording import many

if TYPE_CHECKING:
    from mondegreen.config import Channel, Params
    from mondegreen.scoring.phrases import PhraseList
    from mondegreen.speech.ngram import NGramModel
    from mondegreen.speech.shards import Shard, ShardFacts, ShardManifest
    from mondegreen.speech.transcriber import BaselineSTTModel, Failure, Transcription
    from mondegreen.storage import Stored

_NAMED = 20  # recordings that failed, each in a line of its own; the rows have all


def transcribe(
    files: Annotated[
        list[str],
        typer.Argument(metavar="FILE", help="Recordings, or folders of them; with --out also gs://… and s3://…."),
    ],
    model: Annotated[
        str | None,
        typer.Option(help="Folder, hub name or models:/…; the champion, else model.base of ./params.yaml."),
    ] = None,
    batch_size: Annotated[
        int | None,
        typer.Option(
            min=1, help="Most recordings in a batch; with --out as many seconds as so many may last. No text changes."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a file, one a line.")] = False,
    channel: Annotated[
        Literal["mix", "first", "second", "split"] | None,
        typer.Option(help="What is heard of recordings with several; audio.channel of ./params.yaml when not given."),
    ] = None,
    log: Annotated[
        bool, typer.Option("--log", help="Write every inference down for `mondegreen monitor`, keep what is misheard.")
    ] = False,
    speaker: SpeakerOption = None,
    recording: RecordingOption = None,
    metadata: MetadataOption = None,
    phrases: PhrasesOption = None,
    lm: LmOption = None,
    out: Annotated[
        str | None, typer.Option(metavar="DIR", help="Write shards of transcripts there (a folder, gs://…, s3://…).")
    ] = None,
    format: Annotated[
        Literal["jsonl", "parquet"] | None, typer.Option(help="Of the shards; jsonl when not given.")
    ] = None,
    shard_size: Annotated[int | None, typer.Option(min=1, help="Recordings of a shard; 64 when not given.")] = None,
    engine: Annotated[
        Literal["local", "ray"] | None,
        typer.Option(help="Who fills the shards; compute.engine of ./params.yaml when not given."),
    ] = None,
    runtime: Annotated[
        Literal["auto", "torch", "onnx"] | None,
        typer.Option(help="What computes; transcribe.runtime of ./params.yaml when not given."),
    ] = None,
) -> None:
    """Transcribe recordings (wav, flac, ogg, mp3; others with the extra av; any rate, any length).

    A recording that cannot be used is named on stderr, and the rest go on; the exit code is then 1. So it is when an
    inference could not be logged. What was not heard of a recording, and which files of a folder are no recordings,
    stands on stderr too. With --out nothing is printed but a summary: shards are written, by this process or a Ray of
    many machines, and the same command goes on where an earlier one was ended.
    """
    ignored = {"--engine ray": engine == "ray", "--format": format, "--shard-size": shard_size}
    _check_options(files, out, next(filter(ignored.get, ignored), None), log, any((speaker, recording, metadata)))
    name, params = named_model(model, "Give one: --model NAME.")
    name, served = _resolved(name, params, unchanged=not (phrases or lm))
    from mondegreen.scoring.phrases import read_phrases
    from mondegreen.speech.audio import named_channels
    from mondegreen.speech.channels import channel_of
    from mondegreen.speech.ngram_files import read_lm
    from mondegreen.speech.shards import SIZE
    from mondegreen.speech.transcriber import GROUP, load_transcriber

    channel = channel or params.audio.channel
    if runtime:
        params = params.model_copy(update={"transcribe": params.transcribe.model_copy(update={"runtime": runtime})})
    seconds = batch_size * params.audio.max_duration if batch_size else params.transcribe.batch_seconds
    hears: dict[str, Any] = {"phrases": read_phrases(phrases) if phrases else None, "lm": read_lm(lm) if lm else None}
    if out:
        if engine:
            params = params.model_copy(update={"compute": params.compute.model_copy(update={"engine": engine})})
        kept: dict[str, Any] = {"format": format or "jsonl", "size": shard_size or SIZE, "as_json": as_json}
        return transcribe_into(out, files, name, params, channel=channel, batch_seconds=seconds, **hears, **kept)
    paths = [name for path in expanded(map(Path, files)) for name in named_channels(path, channel)]
    origin = origins(paths, speaker, recording, None, metadata)
    for path, (file, number) in ((path, channel_of(path)) for path in paths):
        if number is not None:
            origin[path] = {"recording": str(file), "channel": str(number)} | origin[path]
    if served:
        origin = {path: {**known, "served": served} for path, known in origin.items()}
    stt = load_transcriber(name, params, batch_seconds=seconds, cached=False, **hears)
    warn_of_left_out(stt)
    group = batch_size or GROUP
    with InferenceLog(stt.digest if log else None, params, group, origin) as inferences:
        failed = _print_all(stt, paths, group, inferences, as_json)
    if failed or inferences.lost:
        raise typer.Exit(1)


def _resolved(name: str, params: "Params", unchanged: bool) -> tuple[str, str | None]:
    """The folder of a registered model; and what the log calls it if it is the champion as it serves, such as stt/3.

    Asked before torch is loaded: a registry that is away is said within seconds.

    Args:
        unchanged: with its own phrases and language model; what hears by others is somebody's trial.
    """
    if not name.startswith("models:/"):
        return name, None
    from mondegreen.errors import RegistryError
    from mondegreen.registry.resolving import holder, resolve_uri

    served = None
    if unchanged and name == f"models:/{params.register_.model_name}@champion":
        with suppress(RegistryError):  # its backup answers, and nobody knows of which version that is
            served = holder(name)
    return str(resolve_uri(f"models:/{served}" if served else name)), served


def _print_all(
    stt: "BaselineSTTModel", paths: list[Path], group: int, inferences: "InferenceLog", as_json: bool
) -> int:
    """Prints and logs each as it is heard, `group` at once; how many failed."""
    from mondegreen.speech.transcriber import transcribe_in_groups

    failed = 0
    with progress("transcribing", len(paths)) as advance:

        def reached(start: float, length: float) -> None:
            """A call of an hour takes minutes: the bar moves with its windows."""
            advance.within(start / length, " of ".join(str(timedelta(seconds=round(at))) for at in (start, length)))

        for done, result in enumerate(transcribe_in_groups(stt.telling(reached), paths, group), 1):
            failed += _report(result, as_json)
            inferences.add(result)
            advance(done)
    return failed


def _check_options(files: list[str], out: str | None, of_shards: str | None, log: bool, origin: bool) -> None:
    """What does not go together is said before anything is loaded.

    Args:
        of_shards: an option that was given and says how shards are written.
    """
    if out and (log or origin):
        raise UsageError(
            "--log, and with it --speaker, --recording and --metadata, keeps inferences in this machine's store.",
            "Leave them away with --out; each row names its recording.",
        )
    if origin and not log:
        raise UsageError("Speaker, recording and channel are kept in the log.", "Add --log.")
    if not out and of_shards:
        raise UsageError(f"{of_shards} is for shards.", "Name where they go: --out DIR.")
    from mondegreen.files import check_folder
    from mondegreen.storage import is_url

    if out and not is_url(out):
        check_folder(Path(out))
    if not out and (url := next(filter(is_url, files), None)):
        raise UsageError(f"{url} is in a bucket, whose transcripts go into shards.", "Name where: --out DIR.")


def expanded(files: Iterable[Path]) -> Iterator[Path]:
    """Files as given; for a folder, the recordings below it by name. What else is in it is said."""
    from mondegreen.speech.corpus import look_through

    for path in files:
        inside = look_through(path) if path.is_dir() else None
        if inside:
            for _, message, _ in inside.not_taken():
                typer.echo(f"warning: {path}: {message}", err=True)
        yield from (inside.recordings if inside else None) or [path]


def _report(result: "Transcription | Failure", as_json: bool) -> bool:
    """Prints one result; says whether it is a failure."""
    from mondegreen.speech.transcriber import Failure

    failed = isinstance(result, Failure)
    if as_json:
        typer.echo(json_text(result))
    if isinstance(result, Failure):
        typer.echo(f"error: {result.error}", err=True)
        return failed
    for warning in result.warnings:
        typer.echo(f"warning: {result.path}: {warning}", err=True)
    if not as_json:
        typer.echo(f"{result.path} ({result.duration:.1f} s, confidence {result.confidence:.2f}): {result.text}")
    return failed


class InferenceLog:
    """Takes transcriptions as they are printed and writes them down a group at a time, the last ones at the end.

    A thread writes, so that the next group is transcribed while the disk syncs this one.

    Args:
        model_version: digest of the model that transcribes; None to log nothing.
        group: inferences of one transaction.
        origins: speaker, recording and channel by recording, where they are known.
    """

    def __init__(
        self, model_version: str | None, params: "Params", group: int, origins: Mapping[Path, Mapping[str, str]]
    ) -> None:
        self.group, self.lost, self._origins = group, 0, origins
        self._results: list[Transcription] = []
        self._warned: set[type[Exception]] = set()
        self._logging = model_version is not None
        self._write_down = self._open(model_version, params) if model_version else None
        self._thread = ThreadPoolExecutor(1)
        self._writing: tuple[Future[object], int] | None = None

    def __enter__(self) -> "InferenceLog":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._write()
        self._wait()
        self._thread.shutdown()
        if self.lost:
            typer.echo(f"warning: not logged in full: {many(self.lost, 'inference')}.", err=True)

    def add(self, result: "Transcription | Failure") -> None:
        """Takes one result; a recording without a transcript is no inference."""
        from mondegreen.speech.transcriber import Transcription

        if self._logging and isinstance(result, Transcription):
            self._results.append(result)
            if len(self._results) >= self.group:
                self._write()

    def _write(self) -> None:
        """Hands the group to the thread, once the one before is written."""
        self._wait()
        results, self._results = self._results, []
        if results and self._write_down is None:
            self.lost += len(results)
        elif results and self._write_down:
            self._writing = self._thread.submit(self._write_down, results), len(results)

    def _wait(self) -> None:
        from mondegreen.monitoring.partly_logged import PartlyLoggedError

        if self._writing is None:
            return
        (written, size), self._writing = self._writing, None
        try:
            written.result()
        except PartlyLoggedError as error:
            self._warn(error)
            self.lost += len(error.recordings)
        except Exception as error:
            self._warn(error)
            self.lost += size

    def _open(self, model_version: str, params: "Params") -> "Callable[[list[Transcription]], object] | None":
        """What writes a group down; None, with a warning, where that cannot be."""
        from mondegreen.detector.detector import ErrorDetector
        from mondegreen.monitoring.sampling import AuditSampling
        from mondegreen.monitoring.tracker import MetadataTracker, inference_of

        tracker = MetadataTracker(sampling=AuditSampling(params.audit, params.seed))
        longest = params.audio.max_duration
        try:
            _ = tracker.engine  # opened now, so that what is wrong is said before an hour of work
            detector = ErrorDetector.load(tracker.folder / "detector", model_version, params.detector)
        except Exception as error:
            self._warn(error)
            return None
        return lambda results: tracker.log_inferences(
            [inference_of(result, detector, longest, self._origins.get(Path(result.path), {})) for result in results]
        )

    def _warn(self, error: Exception) -> None:
        """Says what is wrong, once of each kind; an error that knows what was logged says that itself."""
        from mondegreen.monitoring.partly_logged import PartlyLoggedError

        if type(error) not in self._warned:
            said = str(error) if isinstance(error, PartlyLoggedError) else f"inferences are not logged: {error}"
            typer.echo(f"warning: {said}", err=True)
        self._warned.add(type(error))


def transcribe_into(
    out: str,
    names: Sequence[str],
    model: str,
    params: "Params",
    *,
    channel: "Channel",
    batch_seconds: float,
    phrases: "PhraseList | None",
    lm: "NGramModel | None",
    format: Literal["jsonl", "parquet"],
    size: int,
    as_json: bool,
) -> None:
    """Does what of it is not done yet; exit code 1 where a recording or a shard could not be."""
    from mondegreen.compute import FailedShard
    from mondegreen.speech.corpus_transcription import ModelCopy
    from mondegreen.speech.shards import Run, Work, settings_of
    from mondegreen.speech.transcriber import load_transcriber

    found = list(_found(names))
    if not found:
        raise UsageError(f"There are no recordings in {', '.join(names)}.", "Look with `ls`; is the name right?")
    stt = load_transcriber(model, params, batch_seconds=batch_seconds, cached=False, phrases=phrases, lm=lm)
    warn_of_left_out(stt)
    settings, folder = settings_of(stt, channel, format), stt.model.folder
    # Workers compute as this process would: what `auto` is on their machines may give other last digits.
    hears = (("batch_seconds", batch_seconds), ("cached", False), ("runtime", stt.model.runtime))
    copy = ModelCopy(params, model, stt.digest, stt.phrases, hears, stt.lm)
    work = Work(out, settings, copy)
    opened = work if params.compute.engine == "ray" else partial(_ready, work.by(stt))
    del stt  # on a cluster each worker loads its own
    run = Run.begin(out, settings, found, size)
    if run.done:
        typer.echo(f"{len(run.done)} shards are done already, {len(run.todo)} are to do", err=True)
    heard, undone = 0, 0
    with progress("transcribing", sum(len(shard.inputs) for shard in run.todo)) as advance:
        for shard, result in run.carry_out(opened, folder, params.compute):
            heard += len(shard.inputs)
            advance(heard)
            if isinstance(result, FailedShard):
                undone += 1
                typer.echo(f"error: {shard.name} (from {shard.inputs[0]}) was not done: {result.why}", err=True)
    manifest = run.finish()
    _tell_written(manifest, out, undone, as_json)
    if manifest.failed or undone:
        raise typer.Exit(1)


def _ready(write: "Callable[[Shard], ShardFacts]", folder: Path | None) -> "Callable[[Shard], ShardFacts]":
    """Of a model that is loaded here already."""
    return write


def _found(names: Sequence[str]) -> "Iterator[Stored]":
    """Every recording once, those of a folder or bucket in the order of their names; what else is there is counted."""
    from mondegreen.speech.corpus import EXTENSIONS, look_through
    from mondegreen.speech.shards import ARCHIVE, is_archive
    from mondegreen.storage import is_url, stored, stored_below

    seen, taken = set[str](), {*EXTENSIONS, ARCHIVE}
    for name in names:
        if is_url(name):
            below = stored_below(name)
            wanted = [one for one in below if Path(one.url).suffix.lower() in taken]
            wanted = [one for one in wanted if not one.url.rpartition("/")[2].startswith(".")]
            if len(wanted) < len(below):
                others = many(len(below) - len(wanted), "file")
                typer.echo(f"warning: {name}: left out, no recordings by name: {others}", err=True)
        elif Path(name).is_dir():
            inside = look_through(Path(name))
            archives = [path for path in inside.others if is_archive(path.name)]
            for _, message, _ in inside.not_taken(archives):
                typer.echo(f"warning: {name}: {message}", err=True)
            wanted = [stored(path) for path in sorted([*inside.recordings, *archives])]
        else:
            wanted = [stored(Path(name))]
        for one in wanted:
            if one.url not in seen:
                seen.add(one.url)
                yield one


def _tell_written(manifest: "ShardManifest", out: str, undone: int, as_json: bool) -> None:
    failed = [(path, message) for shard in manifest.shards for path, message in shard.failed.items()]
    for _, message in failed[:_NAMED]:
        typer.echo(f"error: {message}", err=True)
    if len(failed) > _NAMED:
        typer.echo(f"error: {len(failed) - _NAMED} more have no transcript; `error` in their rows says why", err=True)
    if warned := sum(shard.warned for shard in manifest.shards):
        typer.echo(f"warning: not all was heard of {warned} recordings; `warnings` in their rows says what", err=True)
    if undone:
        typer.echo(f"error: not done: {many(undone, 'shard')}. The same command goes on there.", err=True)
    if as_json:
        typer.echo(json_text(manifest))
        return
    hours = f"{manifest.seconds / 3600:.2f} h"
    typer.echo(f"{out}: {many(manifest.recordings, 'recording')}, {hours}, in {many(len(manifest.shards), 'shard')}")
