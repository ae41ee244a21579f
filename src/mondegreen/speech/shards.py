"""Many recordings into shards of transcripts, by one process or by a cluster, which may die at any line.

The output holds `part-00000.jsonl` (or .parquet), each whole or absent, a row a recording; `_run/` with the settings,
which recording belongs to which shard, and the facts of each shard that is done; and, at the end, `manifest.json`. A
later run goes on with the shards that have no facts yet, and adds shards for recordings that are new.
"""

import hashlib
import io
import json
import re
import shutil
import tarfile
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from gzip import BadGzipFile
from itertools import chain, islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal, NamedTuple

from pydantic import BaseModel, ConfigDict

from mondegreen.compute import FailedShard, OpenWorker, map_shards, seen_here
from mondegreen.config import Channel, ComputeParams, Seconds
from mondegreen.errors import UsageError
from mondegreen.files import extract, printable
from mondegreen.records import Hypothesis
from mondegreen.speech.audio import DECODING, named_channels
from mondegreen.speech.channels import content_digest
from mondegreen.speech.corpus import EXTENSIONS
from mondegreen.speech.corpus_transcription import ROUNDING, ModelCopy, heard
from mondegreen.speech.foreign import installed
from mondegreen.speech.model_folder import tokenizer_digests
from mondegreen.speech.transcriber import BaselineSTTModel, Failure, Transcription
from mondegreen.storage import Stored, fetch, is_url, joined, read, remove, sizes_below, write

ShardFormat = Literal["jsonl", "parquet"]
ARCHIVE = ".tar"  # a million small files are slow to list and to fetch: archives of them are taken apart by the worker
SIZE = 64  # recordings of a shard
_RUN, _INPUTS, _SETTINGS, MANIFEST = "_run", "_run/inputs.jsonl", "_run/settings.json", "manifest.json"
_LEFTOVER = re.compile(r"(_run/)?\.(part-|inputs|settings|manifest).*")  # of a write that was killed, on a disk
_WRITTEN_LATER = ("runtime", "tokenizer", "pyav")  # settings that outputs of before do not name
_FETCHERS = 4


class ShardRow(Hypothesis):
    """A recording in a shard: its `id` is the sha256 of what was heard, "" where nothing was."""

    warnings: tuple[str, ...] = ()
    reason: str = ""  # the code of `error`


class ShardSettings(BaseModel):
    """What the rows depend on besides the recordings."""

    model_config = ConfigDict(frozen=True)
    model: str  # digest
    channel: Channel
    max_duration: Seconds
    max_missing_share: float
    beam_width: int
    nbest: int
    decoding: str
    format: ShardFormat
    runtime: str = ""
    tokenizer: tuple[str, ...] = ()  # what of it is no part of `model`, see `model_folder.tokenizer_digests`
    pyav: bool = False  # whether it is installed: of some recordings more is heard with it


class ShardFacts(BaseModel):
    """A shard that is done."""

    model_config = ConfigDict(frozen=True)
    name: str
    recordings: int
    failed: dict[str, str]  # message by recording
    warned: int  # recordings with warnings, in their rows
    seconds: Seconds  # of audio
    bytes: int
    sha256: str


class ShardManifest(BaseModel):
    """Everything that an output holds."""

    model_config = ConfigDict(frozen=True)
    settings: ShardSettings
    recordings: int
    failed: int
    seconds: Seconds
    shards: list[ShardFacts]


@dataclass(frozen=True)
class Shard:
    name: str
    inputs: tuple[str, ...]


@dataclass(frozen=True)
class Work:
    """Opens a worker, which writes shard after shard; travels to other machines."""

    out: str
    settings: ShardSettings
    model: ModelCopy

    def __call__(self, folder: Path | None) -> Callable[[Shard], ShardFacts]:
        return self.by(self.model.load(folder))

    def by(self, stt: BaselineSTTModel) -> Callable[[Shard], ShardFacts]:
        """The function of one shard, by a model that is loaded."""
        return lambda shard: self._done(shard) or self.write(shard, stt)

    def _done(self, shard: Shard) -> ShardFacts | None:
        """What a worker left who died, or whose machine did, before it could say so."""
        try:
            return ShardFacts.model_validate_json(read([joined(self.out, f"{_RUN}/{shard.name}.json")])[0])
        except FileNotFoundError:
            return None

    def write(self, shard: Shard, stt: BaselineSTTModel) -> ShardFacts:
        """Transcribes a shard and writes it, its facts last."""
        rows = list(transcribed(shard.inputs, stt, self.settings.channel))
        content = as_parquet(rows) if self.settings.format == "parquet" else as_jsonl(rows)
        facts = ShardFacts(
            name=f"{shard.name}.{self.settings.format}",
            recordings=len(rows),
            failed={row.path: row.error for row in rows if row.error},
            warned=sum(bool(row.warnings) for row in rows),
            seconds=round(sum(row.duration for row in rows), 3),
            bytes=len(content),
            sha256=hashlib.sha256(content).hexdigest(),
        )
        write(joined(self.out, facts.name), content)
        write(joined(self.out, f"{_RUN}/{shard.name}.json"), facts.model_dump_json().encode())
        return facts


@dataclass
class Run:
    """An output and what is still to be done for it."""

    out: str
    settings: ShardSettings
    todo: list[Shard] = field(default_factory=list)
    done: list[ShardFacts] = field(default_factory=list)

    @classmethod
    def begin(cls, out: str, settings: ShardSettings, found: Sequence[Stored], size: int = SIZE) -> "Run":
        """Plans the shards, or goes on with those of an earlier run.

        Args:
            found: the recordings, each once.
            size: recordings of a new shard.

        Raises:
            UsageError: the output is of other settings, or recordings were changed since it was begun.
            CloudError: the output cannot be read or written.
        """
        sizes = sizes_below(out)
        for name in filter(_LEFTOVER.fullmatch, sizes):
            remove(joined(out, name))
        complete = False
        if _SETTINGS in sizes:
            complete = _check_settings(out, settings)
        elif taken := sorted(name for name in sizes if name.startswith("part-") or name == MANIFEST):
            raise UsageError(f"{out} holds {taken[0]} of something else.", "Name another --out.")
        planned = _planned(out) if _INPUTS in sizes else {}
        names = _number({item.url: item for item in found}, planned, size, out)
        if len(names) > len(planned) or not complete:
            write(joined(out, _SETTINGS), settings.model_dump_json(indent=2).encode())
            lines = ({"path": path, "shard": name, "stamp": stamp} for path, (name, stamp) in names.items())
            write(joined(out, _INPUTS), "".join(json.dumps(line) + "\n" for line in lines).encode())
        shards: dict[str, list[str]] = {}
        for path, (name, _) in names.items():
            shards.setdefault(name, []).append(path)
        wanted = [f"{_RUN}/{name}.json" for name in shards if f"{_RUN}/{name}.json" in sizes]
        facts = [ShardFacts.model_validate_json(content) for content in read([joined(out, name) for name in wanted])]
        done: list[ShardFacts] = []
        for one in facts:
            if sizes.get(one.name) == one.bytes:
                done.append(one)
            else:  # whoever removed a shard gets it again
                remove(joined(out, f"{_RUN}/{one.name.partition('.')[0]}.json"))
        there = {one.name.partition(".")[0] for one in done}
        return cls(
            out, settings, [Shard(name, tuple(rows)) for name, rows in shards.items() if name not in there], done
        )

    def carry_out(
        self, work: OpenWorker[Shard, ShardFacts], folder: Path, compute: ComputeParams
    ) -> Iterator[tuple[Shard, ShardFacts | FailedShard]]:
        """Does what is to be done, shard by shard as they end; `folder` is the model's."""
        todo, self.todo = self.todo, []
        names = chain([joined(self.out, _SETTINGS)], (path for shard in todo for path in shard.inputs))
        seen = seen_here((name for name in names if not is_url(name)), 2)
        for number, result in map_shards(work, todo, compute, folder, shared=seen):
            if isinstance(result, FailedShard):
                self.todo.append(todo[number])
            else:
                self.done.append(result)
            yield todo[number], result

    def finish(self) -> ShardManifest:
        """Says what is there; the output has a manifest once every shard is done."""
        shards = sorted(self.done, key=lambda one: one.name)
        manifest = ShardManifest(
            settings=self.settings,
            recordings=sum(one.recordings for one in shards),
            failed=sum(len(one.failed) for one in shards),
            seconds=round(sum(one.seconds for one in shards), 3),
            shards=shards,
        )
        if not self.todo:
            write(joined(self.out, MANIFEST), (manifest.model_dump_json(indent=2) + "\n").encode())
        return manifest


def settings_of(stt: BaselineSTTModel, channel: Channel, format: ShardFormat) -> ShardSettings:
    """The settings of a run with a model as it is loaded."""
    return ShardSettings(
        model=stt.digest,
        channel=channel,
        max_duration=stt.max_duration,
        max_missing_share=stt.max_missing_share,
        beam_width=stt.beam_width,
        nbest=stt.nbest,
        decoding=f"{DECODING}.{ROUNDING}",
        format=format,
        runtime=stt.model.runtime,
        tokenizer=tuple(tokenizer_digests(stt.model.folder)),
        pyav=installed(),
    )


def _check_settings(out: str, settings: ShardSettings) -> bool:
    """Whether all of them are written there: where one is not yet, the run goes on with its own.

    Raises UsageError for another setting than the output was begun with.
    """
    written = json.loads(read([joined(out, _SETTINGS)])[0])
    now = settings.model_dump(mode="json")
    begun = {name: now[name] for name in _WRITTEN_LATER} | written
    for name in now:
        if begun.get(name) != now[name]:
            raise UsageError(
                f"{out} was begun with {name} {begun.get(name)}, and now it is {now[name]}.",
                "Name another --out, or take the former settings to go on.",
            )
    return all(name in written for name in _WRITTEN_LATER)


def _planned(out: str) -> dict[str, tuple[str, str]]:
    """Shard and stamp of each recording of an earlier run."""
    lines = read([joined(out, _INPUTS)])[0].decode().splitlines()
    return {row["path"]: (row["shard"], row["stamp"]) for row in map(json.loads, lines)}


def _number(
    found: dict[str, Stored], planned: dict[str, tuple[str, str]], size: int, out: str
) -> dict[str, tuple[str, str]]:
    """Shard and stamp of every recording: those that are planned keep theirs, new ones come into further shards."""
    stamps = {path: f"{item.size}:{item.stamp}" for path, item in found.items()}
    changed = [path for path, (_, stamp) in planned.items() if stamps.get(path, stamp) != stamp]
    if changed:
        raise UsageError(
            f"{len(changed)} recordings were changed since {out} was begun, {printable(changed[0])} for one.",
            "Name another --out: what is there is of the former ones.",
        )
    first = 1 + max((int(name.rpartition("-")[2]) for name, _ in planned.values()), default=-1)
    new = [path for path in stamps if path not in planned]
    return planned | {path: (f"part-{first + place // size:05d}", stamps[path]) for place, path in enumerate(new)}


def transcribed(inputs: Sequence[str], stt: BaselineSTTModel, channel: Channel) -> Iterator[ShardRow]:
    """A row for every recording that the inputs hold, in their order; the next ones are fetched meanwhile.

    Raises:
        OSError, CloudError: what an input holds has no room here, or cannot be fetched.
    """
    with TemporaryDirectory() as scratch:
        opened: list[tuple[_Opened, Path, bool]] = []  # with the channel that is heard, and whether it is the last

        def paths() -> Iterator[Path]:
            for one in _opened(inputs, Path(scratch)):
                channels = named_channels(one.path, channel)
                for number, path in enumerate(channels, 1):
                    opened.append((one, path, number == len(channels)))
                    yield path

        for number, result in enumerate(stt.transcribe_many(paths())):
            one, path, last = opened[number]
            if one.refused:
                result = Failure(path=str(path), error=one.refused, reason="archive")
            yield _row(one.name + str(path)[len(str(one.path)) :], path, result, stt.digest)
            if last and one.used:  # so that there is room for the others
                shutil.rmtree(one.used)


class _Opened(NamedTuple):
    """A recording and its file, which may be a copy; or an archive that holds none, and why."""

    name: str
    path: Path
    refused: str = ""
    used: Path | None = None  # a folder of copies, of which this is the last one


def _opened(inputs: Sequence[str], scratch: Path) -> Iterator[_Opened]:
    """Every recording: archives are taken apart."""
    with ThreadPoolExecutor(_FETCHERS) as pool:
        folders = [scratch / str(number) for number in range(len(inputs))]
        todo = zip(inputs, folders, strict=True)
        fetched = deque(pool.submit(_fetched, *one) for one in islice(todo, _FETCHERS))
        for name, folder in zip(inputs, folders, strict=True):
            path = fetched.popleft().result()
            fetched.extend(pool.submit(_fetched, *one) for one in islice(todo, 1))
            if is_archive(name) and path.exists():
                yield from _recordings(name, path, folder)
            else:
                yield _Opened(name, path, used=folder if folder.is_dir() else None)


def is_archive(name: str) -> bool:
    """Whether a file is taken apart."""
    return name.lower().endswith(ARCHIVE)


def _recordings(name: str, archive: Path, folder: Path) -> Iterator[_Opened]:
    """Those of an archive, unpacked into a folder that the archive itself may lie in."""
    target, refused = folder / "unpacked", f"{name} holds no recordings."
    target.mkdir(parents=True)
    try:
        members = _members(archive, target)
    except (tarfile.TarError, EOFError, zlib.error, BadGzipFile) as error:
        members, refused = [], f"{name} is a damaged archive: {error}."
    if archive.is_relative_to(folder):
        archive.unlink()
    for number, member in enumerate(members, 1):
        inside = f"{name}/{member.relative_to(target).as_posix()}"
        yield _Opened(inside, member, used=folder if number == len(members) else None)
    if not members:
        yield _Opened(name, target / "none", refused, folder)


def _fetched(name: str, folder: Path) -> Path:
    """A file of this disk; one that is not there any more is a path to nothing."""
    if not is_url(name):
        return Path(name)
    folder.mkdir()
    target = folder / name.rpartition("/")[2]
    try:
        return fetch(name, target)
    except FileNotFoundError:
        return target


def _members(archive: Path, target: Path) -> list[Path]:
    """The recordings in an archive, without hidden files and the forks that a Mac leaves beside files ("._name")."""
    with tarfile.open(archive) as opened:
        extract(opened, target)
    found = (path for path in target.rglob("*") if path.suffix.lower() in EXTENSIONS and path.is_file())
    return sorted(path for path in found if not any(part.startswith(".") for part in path.relative_to(target).parts))


def _row(name: str, path: Path, result: Transcription | Failure, model: str) -> ShardRow:
    """What stands in a shard: under the recording's own name, not under that of its copy here."""
    plain = printable(name)
    if isinstance(result, Failure):
        error = printable(result.error).replace(printable(path), plain)
        nothing = {"text": "", "confidence": 0.0, "duration": 0.0, "words": [], "nbest": []}
        return ShardRow(id="", path=plain, model=model, error=error, reason=result.reason, **nothing)
    said = tuple(printable(warning).replace(printable(path), plain) for warning in result.warnings)
    return ShardRow(id=content_digest(path), path=plain, model=model, warnings=said, **heard(result))


def as_jsonl(rows: Iterable[ShardRow]) -> bytes:
    """One row a line."""
    return "".join(row.model_dump_json() + "\n" for row in rows).encode()


def as_parquet(rows: Iterable[ShardRow]) -> bytes:
    """The same rows as a table, nested as they are."""
    import pyarrow as pa
    import pyarrow.parquet

    text, number = pa.string(), pa.float64()
    word = pa.struct({"text": text, "start": number, "end": number, "confidence": number})
    kinds = {
        **dict.fromkeys(ShardRow.model_fields, text),
        **dict.fromkeys(("confidence", "duration"), number),
        "words": pa.list_(word),
        "nbest": pa.list_(pa.struct({"text": text, "score": number})),
        "warnings": pa.list_(text),
    }
    content = io.BytesIO()
    pa.parquet.write_table(pa.Table.from_pylist([row.model_dump() for row in rows], pa.schema(kinds)), content)
    return content.getvalue()
