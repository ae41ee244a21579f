"""Corpora whose layout is their own, as entries: Kaldi, LibriSpeech, STM. `tables` reads those that are rows of fields.

A reader yields every utterance of its source once: as an Entry, or as Left with the reason. What makes the whole source
unreadable is a UsageError.
"""

import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from mondegreen.delimited import decoded
from mondegreen.errors import AudioError, UsageError
from mondegreen.intake.entries import Entry, EntryRow, Left, SourceCorpus, from_zero
from mondegreen.scoring.transcript_files import is_span, read_lines
from mondegreen.speech.audio import channels_of

_IGNORED, _GAP = "ignore_time_segment_in_scoring", "inter_segment_gap"  # sclite's text and speaker of such segments


def read_kaldi(corpus: SourceCorpus) -> Iterator[EntryRow]:
    """A Kaldi data folder: wav.scp and text, optionally utt2spk and segments.

    An entry of wav.scp that is a command (it ends with a bar) or lies within an archive is never run or opened; its
    utterances are left out by name. Source: kaldi-asr.org/doc/data_prep.html.
    """
    folder = corpus.source
    if not folder.is_dir() or not (folder / "wav.scp").is_file():
        raise UsageError(f"{folder} is no Kaldi data folder: it has no wav.scp.", "Name the folder that holds wav.scp.")
    recordings = _kaldi_table(folder / "wav.scp")
    texts, speakers = (_kaldi_table(folder / name) for name in ("text", "utt2spk"))
    segments = _kaldi_table(folder / "segments")
    parts = segments or {key: (number, key) for key, (number, _) in recordings.items()}
    for key, (number, written) in parts.items():
        where = f"{folder / ('segments' if segments else 'wav.scp')}:{number}"
        found = _kaldi_span(where, written) if segments else (key, 0.0, None, None)
        if isinstance(found, Left):
            yield found
            continue
        recording, start, end, channel = found
        audio = _kaldi_audio(corpus, where, recording, recordings)
        if isinstance(audio, Left):
            yield audio
            continue
        source = recording if segments else ""
        text, speaker = (table[key][1] if key in table else "" for table in (texts, speakers))
        cut = audio, text, speaker, source, start, end, channel
        yield Entry(where, key.replace("/", "_"), *cut, written=recordings[recording][1])
    for key in texts.keys() - parts.keys():
        yield Left(f"{folder / 'text'}:{texts[key][0]}", "no_audio", f"{key} is in text, and has no recording")


def _kaldi_table(path: Path) -> dict[str, tuple[int, str]]:
    """The line and the value of each key. Raises UsageError when a key stands twice."""
    table: dict[str, tuple[int, str]] = {}
    for number, line in numbered(path) if path.is_file() else ():
        key, *value = line.split(maxsplit=1)
        if key in table:
            raise UsageError(f"{path}:{number}: {key} stands in line {table[key][0]} already.", "Keep one of them.")
        table[key] = (number, value[0].strip() if value else "")
    return table


def _kaldi_span(where: str, written: str) -> tuple[str, float, float | None, int | None] | Left:
    """Recording, start, end and channel of a line of segments.

    An end of -1 is that of the recording. Channels count from 0, as Kaldi's extract-segments takes them.
    """
    try:
        recording, start, end, *more = written.split()
        span = float(start), float(end)
        side = {"a": 0, "b": 1}.get(more[0].lower()) if more else None
        channel = int(more[0]) if more and side is None else side
    except ValueError:
        return Left(where, "bad_row", "it is not `utterance recording start end [channel]`")
    if len(more) > 1 or (channel is not None and channel < 0):
        return Left(where, "bad_row", "behind its end stands no channel: 0, 1, … or A, B")
    if not 0 <= span[0] < math.inf or not (span[1] == -1 or span[1] > span[0]):
        return Left(where, "bad_row", f"{start} to {end} is no span of time")
    return recording, span[0], None if span[1] == -1 else span[1], channel


def _kaldi_audio(
    corpus: SourceCorpus, where: str, recording: str, recordings: Mapping[str, tuple[int, str]]
) -> Path | Left:
    if recording not in recordings:
        return Left(where, "no_audio", f"there is no recording {recording} in wav.scp")
    number, written = recordings[recording]
    if written.endswith("|"):
        problem = f"{recording} is a command (wav.scp:{number}), which is not run: write its output to a file"
        return Left(where, "pipe", problem)
    return corpus.find(written) or missing(where, written)


def read_librispeech(corpus: SourceCorpus) -> Iterator[EntryRow]:
    """A LibriSpeech folder, or several: reader/chapter/reader-chapter.trans.txt beside the .flac files.

    Source: Panayotov et al., "LibriSpeech: an ASR corpus based on public domain audio books", ICASSP 2015.
    """
    tables = corpus.tables(".trans.txt")
    if not tables:
        raise UsageError(f"{corpus.source} holds no *.trans.txt.", "Name a folder of LibriSpeech, such as test-clean.")
    for table in tables:
        chapter = table.name.removesuffix(".trans.txt")
        for number, line in numbered(table):
            key, *text = line.split(maxsplit=1)
            beside = (table.parent / f"{key}{suffix}" for suffix in (".flac", ".wav", ".mp3", ".ogg", ".opus"))
            audio = next((path for path in beside if path.is_file()), None)
            where = f"{table}:{number}"
            if audio is None:
                yield missing(where, f"{key}.flac")
            else:
                yield Entry(where, key, audio, text[0].strip() if text else "", key.split("-")[0], chapter)


def read_stm(corpus: SourceCorpus) -> Iterator[EntryRow]:
    """An .stm file, or a folder of them; the recordings lie beside or in the folder of --audio, by their stem.

    Source: NIST SCTK, sclite's doc/infmts.htm.
    """
    tables = corpus.tables(".stm") if corpus.source.is_dir() else [corpus.source]
    if not tables:
        raise UsageError(f"{corpus.source} holds no .stm.", "Name an .stm file, or a folder with some.")
    for table in tables:
        for line in read_lines(table, spans=False):
            where = f"{table}:{line.number}"
            if line.speaker == _GAP or _IGNORED in line.text.lower():
                yield Left(where, "not_scored", "the file says that nothing is said there, or that it is not scored")
                continue
            if "{" in line.text:
                yield Left(where, "alternatives", f"it leaves a choice: {line.text}; write down what was said")
                continue
            # Behind the times stands the speaker, where two speak at once: both are cut, each with the own words.
            _, channel, start, end, *speaker = line.key.split()
            if not is_span(float(start), float(end)):
                yield Left(where, "bad_row", f"{start} to {end} s is no span of time")
                continue
            audio = corpus.find(line.recording)
            if audio is None:
                yield missing(where, line.recording)
                continue
            times = (f"{round(1000 * float(time)):08d}" for time in (start, end))
            name = "-".join([line.recording, channel, *times, *speaker])
            chosen = {"a": 0, "b": 1, "1": 0, "2": 1}.get(channel.lower())
            if channel == "0" and _several(audio):
                raise from_zero(where)
            cut = audio, line.text, line.speaker, line.recording, float(start), float(end), chosen
            yield Entry(where, name.replace("/", "_"), *cut, written=line.recording)


def _several(audio: Path) -> bool:
    """Whether it has several channels; of what cannot be read `importing.cut` says why."""
    try:
        return channels_of(audio) > 1
    except AudioError:
        return False


def missing(where: str, written: str) -> Left:
    return Left(where, "missing", f"there is no recording {written}")


def numbered(path: Path) -> Iterator[tuple[int, str]]:
    """The lines that are not blank, with their numbers. Raises UsageError when it cannot be read as text."""
    for number, line in enumerate(re.split(r"\r\n|\r|\n", decoded(path)), 1):
        if line.strip():
            yield number, line
