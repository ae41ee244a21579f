"""`mondegreen transcribe`: recordings to text, one line of JSON or of text a file, and on request into the log.

Whatever happens to the log, the transcripts are printed.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
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

if TYPE_CHECKING:
    from mondegreen.config import Params
    from mondegreen.speech.transcriber import Failure, Transcription


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
        int | None, typer.Option(min=1, help="Recordings in one batch. Speed and memory only, never the text.")
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
    format: Annotated[Literal["jsonl", "parquet"], typer.Option(help="Of the shards.")] = "jsonl",
    shard_size: Annotated[int, typer.Option(min=1, help="Recordings of a shard.")] = 64,
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
    _check_options(files, out, engine, log, any((speaker, recording, metadata)))
    name, params = named_model(model, "Give one: --model NAME.")
    if name.startswith("models:/"):  # before torch is loaded: a registry that is away is said within seconds
        from mondegreen.registry.resolving import resolve_uri

        name = str(resolve_uri(name))
    from mondegreen.scoring.phrases import read_phrases
    from mondegreen.speech.audio import named_channels
    from mondegreen.speech.channels import channel_of
    from mondegreen.speech.ngram_files import read_lm
    from mondegreen.speech.transcriber import GROUP, load_transcriber, transcribe_in_groups

    channel = channel or params.audio.channel
    if runtime:
        params = params.model_copy(update={"transcribe": params.transcribe.model_copy(update={"runtime": runtime})})
    seconds = batch_size * params.audio.max_duration if batch_size else params.transcribe.batch_seconds
    hears: dict[str, Any] = {"phrases": read_phrases(phrases) if phrases else None, "lm": read_lm(lm) if lm else None}
    if out:
        from mondegreen.cli.shards import transcribe_into

        if engine:
            params = params.model_copy(update={"compute": params.compute.model_copy(update={"engine": engine})})
        return transcribe_into(
            out,
            files,
            name,
            params,
            channel=channel,
            batch_seconds=seconds,
            **hears,
            format=format,
            size=shard_size,
            as_json=as_json,
        )
    paths = [name for path in expanded(map(Path, files)) for name in named_channels(path, channel)]
    origin = origins(paths, speaker, recording, None, metadata)
    for path, (file, number) in ((path, channel_of(path)) for path in paths):
        if number is not None:
            origin[path] = {"recording": str(file), "channel": str(number)} | origin[path]
    stt = load_transcriber(name, params, batch_seconds=seconds, cached=False, **hears)
    warn_of_left_out(stt)
    failed, group = 0, batch_size or GROUP
    with (
        progress("transcribing", len(paths)) as advance,
        InferenceLog(stt.digest if log else None, params, group, origin) as inferences,
    ):
        for done, result in enumerate(transcribe_in_groups(stt, paths, group), 1):
            failed += _report(result, as_json)
            inferences.add(result)
            advance(done)
    if failed or inferences.lost:
        raise typer.Exit(1)


def _check_options(files: list[str], out: str | None, engine: str | None, log: bool, origin: bool) -> None:
    """What does not go together is said before anything is loaded."""
    if out and (log or origin):
        raise UsageError(
            "--log, and with it --speaker, --recording and --metadata, keeps inferences in this machine's store.",
            "Leave them away with --out; each row names its recording.",
        )
    if origin and not log:
        raise UsageError("Speaker, recording and channel are kept in the log.", "Add --log.")
    if not out and engine == "ray":
        raise UsageError("--engine ray writes shards.", "Name where: --out DIR.")
    from mondegreen.storage import is_url

    if not out and (url := next(filter(is_url, files), None)):
        raise UsageError(f"{url} is in a bucket, whose transcripts go into shards.", "Name where: --out DIR.")


def expanded(files: Iterable[Path]) -> Iterator[Path]:
    """Files as given; for a folder, the recordings below it by name. What else is in it is said."""
    from mondegreen.speech.corpus import look_through

    for path in files:
        inside = look_through(path) if path.is_dir() else None
        if inside:
            for _, message in inside.not_taken():
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
            typer.echo(f"warning: {self.lost} inferences were not logged in full.", err=True)

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
        if self._writing is None:
            return
        (written, size), self._writing = self._writing, None
        try:
            written.result()
        except Exception as error:
            if not self.lost:
                self._warn(error)
            self.lost += size

    def _open(self, model_version: str, params: "Params") -> "Callable[[list[Transcription]], object] | None":
        """What writes a group down; None, with a warning, where that cannot be."""
        from mondegreen.detector.detector import ErrorDetector
        from mondegreen.monitoring.tracker import AuditSampling, MetadataTracker, inference_of

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
        typer.echo(f"warning: inferences are not logged: {error}", err=True)
