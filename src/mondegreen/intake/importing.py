"""A corpus from outside becomes recordings and references of a data folder, and every row of it is accounted for."""

import csv
import errno
import fcntl
import filecmp
import io
import os
import shutil
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Literal

import numpy.typing as npt
import soundfile

from mondegreen.config import Seconds
from mondegreen.delimited import Notice, tell
from mondegreen.errors import AudioError, UsageError
from mondegreen.files import check_folder, is_there, save_text, unwritten, writing
from mondegreen.intake.entries import (
    EXAMPLES,
    CorpusFormat,
    Entry,
    EntryRow,
    ImportReport,
    Left,
    Reason,
    SourceCorpus,
    reasons,
    safe_name,
    shown,
)
from mondegreen.intake.formats import read_kaldi, read_librispeech, read_stm
from mondegreen.intake.tables import read_audiofolder, read_commonvoice, read_csv, read_nemo
from mondegreen.scoring.recording_names import RecordingNames
from mondegreen.scoring.references import odd_speakers, read_table
from mondegreen.speech.audio import MAX_MISSING_SHARE, SAMPLE_RATE, SHORTEST, Waveform, duration_of, load_audio
from mondegreen.speech.channels import named_channel
from mondegreen.speech.corpus import EXTENSIONS, NOT_SCANNED, look_through

READERS: Mapping[CorpusFormat, Callable[[SourceCorpus], Iterator[EntryRow]]] = {
    "nemo": read_nemo,
    "kaldi": read_kaldi,
    "commonvoice": read_commonvoice,
    "librispeech": read_librispeech,
    "audiofolder": read_audiofolder,
    "stm": read_stm,
    "csv": read_csv,
}
Way = Literal["copied", "linked", "cut"]
TrackRows = Callable[[Sequence[EntryRow]], Iterable[EntryRow]]
_SLACK: Seconds = 0.05  # by which a segment may end after its recording: tables round
# What a reader says of a table of another form than the one that is written.
_FORM = frozenset({"encoding", "encoding_assumed", "separator", "columns_read_as", "nul"})
_PLACE = "Check the folder and its permissions, or name another one."
_ROOM = "Make room and import again: what is there already stays, the rest follows."
_LOSSLESS = ("WAV", "WAVEX", "RF64", "FLAC", "AIFF")
# How samples are read so that writing them again gives the same ones; anything else decodes to 16 bit.
_EXACT = {"PCM_24": "int32", "PCM_32": "int32", "FLOAT": "float32", "DOUBLE": "float64"}


def import_corpus(
    kind: CorpusFormat,
    corpus: SourceCorpus,
    into: Path,
    condition: str = "",
    *,
    link: bool = False,
    track: TrackRows = iter,
) -> ImportReport:
    """Takes every utterance of a corpus that can be taken.

    Args:
        kind: how the corpus is laid out.
        corpus: where it lies.
        into: the data folder, or data/retention or data/replay.
        condition: the folder below into/audio; "": the source's own name.
        link: whole recordings become symbolic links.
        track: wraps the rows, for a progress bar.

    Raises:
        UsageError: the source as a whole cannot be read, or holds no utterance; or `into` cannot be written into.
        MondegreenError: the disk is full.
    """
    if not is_there(corpus.source):
        raise UsageError(f"{corpus.source} does not exist.", "Correct its name.")
    if corpus.audio and not (is_there(corpus.audio) and corpus.audio.is_dir()):
        raise UsageError(f"--audio {corpus.audio} is no folder.", "Name the folder in which the recordings lie.")
    condition = condition or corpus.source.resolve().stem
    rows = corpus.settled(list(READERS[kind](corpus)))
    if not rows:
        raise UsageError(f"{corpus.source} holds no utterance.", "Name the manifest, table or folder that has them.")
    share = corpus.max_missing_share
    done = take(rows, into, condition, link=link, max_missing_share=share, track=track, notices=corpus.notices)
    return _report(kind, corpus, into, condition, rows, done)


def _report(
    kind: CorpusFormat, corpus: SourceCorpus, into: Path, condition: str, rows: list[EntryRow], done: "Taken"
) -> ImportReport:
    entries = [*done.new.values(), *done.there.values()]
    ways = list(done.ways.values())
    return ImportReport(
        format=kind,
        source=shown(corpus.source),
        into=shown(into),
        condition=shown(condition),
        rows=len(rows),
        taken=len(done.new),
        there_already=len(done.there),
        copied=ways.count("copied"),
        linked=ways.count("linked"),
        cut=ways.count("cut"),
        without_text=sum(not entry.text.strip() for entry in entries),
        without_speaker=sum(not entry.speaker for entry in entries),
        speakers=len({entry.speaker for entry in entries} - {""}),
        recordings=len({entry.audio for entry in entries}),
        left_out=reasons(done.left),
        moved=_moved(corpus),
        unlisted=_unlisted(corpus, rows, into),
        notices=list(dict.fromkeys(map(shown, [*corpus.notices, *_speakers(entries)]))),
    )


def _speakers(entries: Sequence[Entry]) -> Iterator[str]:
    """Who may be one person, or several, and whom nobody names: what `data check` says of them later."""
    nameless = sum(not entry.speaker for entry in entries)
    if 0 < nameless < len(entries):
        message = "what they say may judge a model that has learnt from the same person"
        yield f"the speaker is empty in {nameless} of {len(entries)} rows; {message}"
    for _, message, _ in odd_speakers([entry.speaker for entry in entries]):
        yield f"speakers: {message}"


def _moved(corpus: SourceCorpus) -> Reason:
    lines = [shown(f"{written} read as {path}") for written, path in corpus.moved.items()]
    return Reason(count=len(lines), examples=lines[:EXAMPLES])


def _real(path: Path) -> Path:
    """Where links lead, as far as they do; `Path.resolve` raises RuntimeError on one that leads to itself."""
    return Path(os.path.realpath(path))


def _unlisted(corpus: SourceCorpus, rows: list[EntryRow], into: Path) -> Reason:
    """Recordings below the source's folder that no row names; where rows name none there, it is no such folder."""
    named = {_real(row.audio) for row in rows if isinstance(row, Entry)}
    found = look_through(corpus.folder)
    unheard = [path for path, _ in found.unheard if path.suffix.lower() in EXTENSIONS]
    below = {_real(path) for path in [*found.recordings, *unheard]}
    below = {path for path in below if not path.is_relative_to(_real(into))}
    lines = sorted(map(shown, below - named)) if below & named else []
    return Reason(count=len(lines), examples=lines[:EXAMPLES])


@dataclass
class Taken:
    """What became of the rows."""

    new: dict[str, Entry] = field(default_factory=dict)  # by the path that references.csv has
    there: dict[str, Entry] = field(default_factory=dict)
    left: list[Left] = field(default_factory=list)
    ways: dict[str, Way] = field(default_factory=dict)  # of the new ones


def take(
    rows: Sequence[EntryRow],
    into: Path,
    condition: str,
    *,
    link: bool,
    max_missing_share: float = MAX_MISSING_SHARE,
    track: TrackRows = iter,
    notices: list[Notice] | None = None,
) -> Taken:
    """Copies, links or cuts every recording to into/audio/condition and adds its row to into/references.csv.

    Args:
        rows: of one corpus.
        into: the data folder; made where it is missing.
        condition: the folder's name.
        link: whole recordings become symbolic links; segments are cut all the same.
        max_missing_share: most of a recording that a segment is cut out of, 0..1, that may be damaged.
        track: wraps the rows, for a progress bar.
        notices: what is said of the table that is there, and of its new form, is appended; logged when None.

    Raises:
        UsageError: references.csv is there and cannot be read; the folder cannot be written into.
        MondegreenError: the disk is full.
    """
    table, said = into / "references.csv", list[Notice]()
    check_folder(into)
    with _alone(into):
        header, rows_there = _table(table, said)
        known, done = _by_recording(rows_there, into), Taken()
        put = partial(_put, link=link, max_missing_share=max_missing_share)
        for row in track(rows):
            left = row if isinstance(row, Left) else _place(row, into, condition, put, known, done)
            if left:
                done.left.append(left)
        if done.new:
            new = [_row(path, entry, condition) for path, entry in done.new.items()]
            # A column that stays empty would say that nobody wrote down what nobody knows.
            columns = dict.fromkeys([*header, *(name for row in new for name in row if row[name])])
            _write(table, list(columns), [*rows_there, *new])
            if _FORM.intersection(notice.code for notice in said):
                message = f"it was rewritten with the new rows: UTF-8, commas, columns {','.join(columns)}"
                said.append(Notice("rewritten", message, str(table)))
    for notice in said:
        tell(notice, notices)
    return done


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One import at a time: the table is read first and written last."""
    with writing(folder, _PLACE, _ROOM):
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _table(path: Path, said: list[Notice]) -> tuple[list[str], list[dict[str, str]]]:
    """The columns of references.csv and its rows; what its reader says is appended."""
    if not path.is_file():
        return ["path", "text"], []
    rows = [{**row.fields, "path": row.path} for row in read_table(path, notices=said)]
    return list(dict.fromkeys(["path", "text", *(rows[0] if rows else ())])), rows


def _by_recording(rows: list[dict[str, str]], into: Path) -> dict[str, dict[str, str]]:
    """The rows by the recording that each means to whoever reads the folder: `a.wav` may be audio/x/a.wav."""
    if not rows:
        return {}
    files = look_through(into, {"retention", "replay", *NOT_SCANNED}).recordings
    names = RecordingNames(into, [path.relative_to(into).as_posix() for path in files])
    meant = names.meant([row["path"] for row in rows], [into]).names
    return {meant.get(row["path"], row["path"]): row for row in rows}


def _place(
    entry: Entry,
    into: Path,
    condition: str,
    put: Callable[[Entry, Path], Way | None],
    known: Mapping[str, Mapping[str, str]],
    done: Taken,
) -> Left | None:
    """Puts the entry's recording where it belongs; why not, where it cannot be."""
    suffix = entry.audio.suffix if entry.whole else ".wav"
    if suffix.lower() not in EXTENSIONS:
        return Left(entry.where, "format", f"{entry.audio} is no recording by its name: convert it first")
    if odd := next(
        (char for char in entry.text + entry.speaker + entry.recording + entry.condition if _unwritable(char)), ""
    ):
        return Left(entry.where, "bad_text", f"it holds the character U+{ord(odd):04X}, which no text has")
    condition = entry.condition or condition
    path = f"audio/{safe_name(condition)}/{safe_name(entry.name)}{suffix}"
    if twin := done.new.get(path) or done.there.get(path):
        return Left(entry.where, "twice", f"{path} is that of {twin.where} already")
    if path in known and (other := _differs(entry, condition, known[path])):
        spelt = "" if known[path]["path"] == path else f" as {known[path]['path']}"
        return Left(entry.where, "conflict", f"{path} is in references.csv{spelt} with another {other}, which stays")
    target = into / path
    try:
        way = put(entry, target)
    except AudioError as error:
        return Left(entry.where, error.reason, error.problem)
    except OSError as error:
        return _fault(entry, target, error)
    if way is None:
        return Left(entry.where, "conflict", f"{target} is there with other content, which stays")
    if path in known:
        done.there[path] = entry
    else:
        done.new[path], done.ways[path] = entry, way
    return None


def _fault(entry: Entry, target: Path, error: OSError) -> Left:
    """Why a row is left out. Raises MondegreenError where the folder is at fault, which would be that of every row."""
    at = Path(error.filename2 or error.filename or target)
    half_way = error.errno == errno.EIO and bool(error.filename2)  # which of both disks is broken, nobody says
    if at == entry.audio or half_way:
        return Left(entry.where, "unreadable", f"{entry.audio}: {error.strerror}")
    if error.errno in (errno.ENAMETOOLONG, errno.EILSEQ, errno.EINVAL):
        return Left(entry.where, "bad_name", f"{target}: {error.strerror}")
    check_folder(target.parent)  # it names the one that is a file, or that nobody may write into
    raise unwritten(target, error, _PLACE, _ROOM) from None


def _unwritable(char: str) -> bool:
    """Control characters and half surrogates: the table could not give them back."""
    return not char.isspace() and unicodedata.category(char) in ("Cc", "Cs")


def _differs(entry: Entry, condition: str, row: Mapping[str, str]) -> str:
    """The first field in which a row of the table says something else; "" when none does."""
    ours = _row(row["path"], entry, condition)
    return next((name for name, value in ours.items() if row.get(name, "") != value), "")


def _put(entry: Entry, target: Path, *, link: bool, max_missing_share: float) -> Way | None:
    """Makes the file, or finds it made; None where another file has its name."""
    way: Way = "cut" if not entry.whole else "linked" if link else "copied"
    span = entry.start, entry.end, entry.channel
    content = b"" if entry.whole else cut(entry.audio, *span, max_missing_share)
    with _temporary(target) as part:
        if target.exists():
            if entry.whole:
                return way if filecmp.cmp(entry.audio, target, shallow=False) else None
            return way if target.is_file() and target.read_bytes() == content else None
        if way == "cut":
            part.write_bytes(content)
        elif way == "linked":
            part.symlink_to(entry.audio.resolve())
        else:
            shutil.copyfile(entry.audio, part)
        if way != "linked":
            part.chmod(0o644)
        part.replace(target)
    return way


@contextmanager
def _temporary(target: Path) -> Iterator[Path]:
    """A hidden name beside the target, which no reader takes for a recording; the next import writes over it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(".import.part")
    part.unlink(missing_ok=True)
    try:
        yield part
    finally:
        part.unlink(missing_ok=True)


def _row(path: str, entry: Entry, condition: str) -> dict[str, str]:
    """The source recording is named with the condition: "rec1" of two corpora are two recordings."""
    recording = f"{entry.condition or condition}/{entry.recording}" if entry.recording else ""
    fields = {
        "path": path,
        "text": entry.text,
        "speaker": unicodedata.normalize("NFC", entry.speaker),
        "source": recording,
    }
    fields |= {"written_by": entry.written_by} if entry.written_by else {}
    return {name: " ".join(value.split()) for name, value in fields.items()} | {"path": path}


def _write(path: Path, header: Sequence[str], rows: Iterable[Mapping[str, str]]) -> None:
    stream = io.StringIO()
    writer = csv.DictWriter(stream, header, restval="", extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    save_text(path, stream.getvalue(), _PLACE, _ROOM)


def cut(
    audio: Path,
    start: Seconds,
    end: Seconds | None,
    channel: int | None,
    max_missing_share: float = MAX_MISSING_SHARE,
) -> bytes:
    """Samples round(start * rate) to round(end * rate) of a recording, as a wav.

    What is stored without loss keeps its rate, its depth and its channels (or the one that is chosen), bit for bit.
    Other codecs, and files whose header is wrong, are decoded as the models hear them: 16 kHz, one channel, 16 bit.

    Raises:
        AudioError: the recording cannot be decoded, ends before the segment does, or lacks the channel.
    """
    length = duration_of(audio, max_missing_share=max_missing_share)
    if start >= length or (end is not None and end > length + _SLACK):
        span = f"{start:g} to {'its end' if end is None else f'{end:g} s'}"
        raise AudioError(f"{audio} is {length:.3f} s long, the segment is {span}.", "Correct its times.", "beyond_end")
    stop = length if end is None else min(end, length)
    if stop - start < SHORTEST:
        raise AudioError(f"{audio}: a segment of {1000 * (stop - start):.1f} ms; 25 ms is the least.", "", "too_short")
    exact = _cut_exactly(audio, (start, stop), length, channel)
    if exact is None:
        samples = _decoded(audio, channel, max_missing_share)[round(start * SAMPLE_RATE) : round(stop * SAMPLE_RATE)]
        return _wav(samples, SAMPLE_RATE, "PCM_16")
    return exact


def _cut_exactly(audio: Path, span: tuple[Seconds, Seconds], length: Seconds, channel: int | None) -> bytes | None:
    """Cuts without decoding to another form; None where that cannot be."""
    start, stop = span
    with audio.open("rb") as stream:  # libsndfile opens no names that are not UTF-8
        try:
            file = soundfile.SoundFile(stream)
        except soundfile.LibsndfileError:
            return None
        if file.format not in _LOSSLESS or abs(file.frames / file.samplerate - length) > 1e-6:
            return None
        if channel is not None and channel >= file.channels:
            problem = f"{audio} has no channel {channel + 1}, only {file.channels} in all."
            raise AudioError(problem, "Correct the channel.", "no_channel")
        first = round(start * file.samplerate)
        kind = _EXACT.get(file.subtype, "int16")
        try:
            file.seek(first)
            samples = file.read(round(stop * file.samplerate) - first, dtype=kind, always_2d=True)  # (frames, channels)
        except soundfile.LibsndfileError as error:  # decoding would leave the damage out, and times behind it be wrong
            problem = f"{audio} is damaged between {start:g} and {stop:g} s: {error.error_string}"
            raise AudioError(problem, "Give the whole file.", "truncated") from None
    kept = samples if channel is None else samples[:, channel]
    return _wav(kept, file.samplerate, file.subtype if file.subtype in _EXACT else "PCM_16")


def _wav(samples: npt.NDArray[Any], rate: int, subtype: str) -> bytes:
    """A wav file that is the same whenever it is made: libsndfile writes the time beside the peak of floats."""
    stream = io.BytesIO()
    soundfile.write(stream, samples, rate, subtype, format="WAV")
    if subtype in ("FLOAT", "DOUBLE"):
        stream.seek(stream.getvalue().index(b"PEAK") + 12)  # behind its name, size and version
        stream.write(bytes(4))
    return stream.getvalue()


@lru_cache(maxsize=1)  # many segments of one recording follow each other
def _decoded(audio: Path, channel: int | None, max_missing_share: float) -> Waveform:
    named = named_channel(audio, None if channel is None else channel + 1)
    return load_audio(named, max_missing_share=max_missing_share)
