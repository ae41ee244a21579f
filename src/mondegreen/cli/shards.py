"""`mondegreen transcribe --out`: recordings of folders and buckets into shards of transcripts, here or on a cluster."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import typer

from mondegreen.cli.common import json_text, warn_of_left_out
from mondegreen.errors import UsageError
from mondegreen.progress import progress

if TYPE_CHECKING:
    from mondegreen.config import Channel, Params
    from mondegreen.scoring.phrases import PhraseList
    from mondegreen.speech.ngram import NGramModel
    from mondegreen.speech.shards import Manifest, Shard, ShardFacts
    from mondegreen.storage import Stored

_NAMED = 20  # recordings that failed, each in a line of its own; the rows have all


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
    from mondegreen.compute import Undone
    from mondegreen.speech.corpus_transcription import Copy
    from mondegreen.speech.shards import Run, Work, settings_of
    from mondegreen.speech.transcriber import load_transcriber

    found = list(_found(names))
    if not found:
        raise UsageError(f"There are no recordings in {', '.join(names)}.", "Look with `ls`; is the name right?")
    stt = load_transcriber(model, params, batch_seconds=batch_seconds, cached=False, phrases=phrases, lm=lm)
    warn_of_left_out(stt)
    settings, folder = settings_of(stt, channel, format), stt.model.folder
    copy = Copy(params, model, stt.digest, stt.phrases, (("batch_seconds", batch_seconds), ("cached", False)), stt.lm)
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
            if isinstance(result, Undone):
                undone += 1
                typer.echo(f"error: {shard.name} (from {shard.inputs[0]}) was not done: {result.why}", err=True)
    manifest = run.finish()
    _report(manifest, out, undone, as_json)
    if manifest.failed or undone:
        raise typer.Exit(1)


def _ready(write: "Callable[[Shard], ShardFacts]", folder: Path | None) -> "Callable[[Shard], ShardFacts]":
    """Of a model that is loaded here already."""
    return write


def _found(names: Sequence[str]) -> "Iterator[Stored]":
    """Every recording once, those of a folder or bucket in the order of their names; what else is there is counted."""
    from mondegreen.speech.corpus import EXTENSIONS, look_through
    from mondegreen.speech.shards import ARCHIVE
    from mondegreen.storage import is_url, stored, stored_below

    seen, taken = set[str](), {*EXTENSIONS, ARCHIVE}
    for name in names:
        if is_url(name):
            below = stored_below(name)
            wanted = [one for one in below if Path(one.url).suffix.lower() in taken]
            wanted = [one for one in wanted if not one.url.rpartition("/")[2].startswith(".")]
            if len(wanted) < len(below):
                typer.echo(f"warning: {name}: {len(below) - len(wanted)} files are no recordings by name", err=True)
        elif Path(name).is_dir():
            inside = look_through(Path(name))
            archives = [path for path in inside.others if path.suffix == ARCHIVE]
            for _, message in inside.not_taken(archives):
                typer.echo(f"warning: {name}: {message}", err=True)
            wanted = [stored(path) for path in sorted([*inside.recordings, *archives])]
        else:
            wanted = [stored(Path(name))]
        for one in wanted:
            if one.url not in seen:
                seen.add(one.url)
                yield one


def _report(manifest: "Manifest", out: str, undone: int, as_json: bool) -> None:
    failed = [(path, message) for shard in manifest.shards for path, message in shard.failed.items()]
    for _, message in failed[:_NAMED]:
        typer.echo(f"error: {message}", err=True)
    if len(failed) > _NAMED:
        typer.echo(f"error: {len(failed) - _NAMED} more have no transcript; `error` in their rows says why", err=True)
    if warned := sum(shard.warned for shard in manifest.shards):
        typer.echo(f"warning: of {warned} recordings not all was heard; `warnings` in their rows says what", err=True)
    if undone:
        typer.echo(f"error: {undone} shards were not done. The same command goes on with them.", err=True)
    if as_json:
        typer.echo(json_text(manifest))
        return
    hours = f"{manifest.seconds / 3600:.2f} h"
    typer.echo(f"{out}: {manifest.recordings} recordings, {hours}, in {len(manifest.shards)} shards")
