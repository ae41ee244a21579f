"""Corpora in the layouts that speech toolkits use, as entries: NeMo, Kaldi, LibriSpeech, STM.

A reader yields every utterance of its source once: as an Entry, or as Left with the reason. What makes the whole source
unreadable is a UsageError.
"""

import json
import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from mondegreen.errors import AudioError, UsageError
from mondegreen.files import path_text
from mondegreen.intake.entries import Corpus, Entry, Left, Row
from mondegreen.scoring.transcript_files import read_lines
from mondegreen.speech.audio import duration_of

_SAME_LENGTH = 0.05  # seconds by which a manifest's duration may differ from the file's: headers round, and mp3 pads
_NAMES = {"text": "text", "speaker": "speaker", "audio_filepath": "audio", "offset": "start", "duration": "duration"}


def read_nemo(corpus: Corpus) -> Iterator[Row]:
    """A NeMo manifest: JSON objects a line with audio_filepath and text, for segments also offset and duration.

    Source: NVIDIA NeMo, "Preparing Custom ASR Data" (docs.nvidia.com/nemo-framework, ASR datasets).
    """
    for number, line in _numbered(corpus.source):
        where = f"{corpus.source}:{number}"
        try:
            fields = json.loads(line)
        except ValueError as error:
            yield Left(where, "bad_row", f"it is not JSON: {error}")
            continue
        if not isinstance(fields, dict) or not isinstance(fields.get("audio_filepath"), str):
            yield Left(where, "bad_row", "it has no audio_filepath")
            continue
        yield _nemo_row(corpus, where, fields)


def _nemo_row(corpus: Corpus, where: str, fields: Mapping[str, Any]) -> Row:
    audio = corpus.find(fields["audio_filepath"])
    if audio is None:
        return _missing(where, fields["audio_filepath"])
    text = fields.get("text")
    start, duration = fields.get("offset") or 0, fields.get("duration")
    if not isinstance(text, str | None) or not _is_time(start) or not _is_time(duration or 0):
        return Left(where, "bad_row", "text must be a string, offset and duration numbers of seconds")
    speaker = next((str(fields[name]) for name in ("speaker", "speaker_id", "spk_id") if fields.get(name)), "")
    name, recording, end = corpus.name_of(audio), "", None
    if duration is not None or start:
        try:
            length = duration_of(audio)
        except AudioError as error:
            return Left(where, error.reason, error.problem)
        end = None if duration is None else start + duration
        if not start and end is not None and abs(end - length) <= _SAME_LENGTH:
            end = None
    if start or end is not None:
        recording = name
        name = f"{name}-{round(1000 * start):08d}" + (f"-{round(1000 * end):08d}" if end is not None else "")
    return Entry(where, name, audio, text or "", speaker, recording, float(start), end)


def _is_time(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value >= 0


def read_kaldi(corpus: Corpus) -> Iterator[Row]:
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
        found = _kaldi_span(where, written) if segments else (key, 0.0, None)
        if isinstance(found, Left):
            yield found
            continue
        recording, start, end = found
        audio = _kaldi_audio(corpus, where, recording, recordings)
        if isinstance(audio, Left):
            yield audio
            continue
        source = recording if segments else ""
        text, speaker = (table[key][1] if key in table else "" for table in (texts, speakers))
        yield Entry(where, key.replace("/", "_"), audio, text, speaker, source, start, end)
    for key in texts.keys() - parts.keys():
        yield Left(f"{folder / 'text'}:{texts[key][0]}", "no_audio", f"{key} is in text, and has no recording")


def _kaldi_table(path: Path) -> dict[str, tuple[int, str]]:
    """The line and the value of each key. Raises UsageError when a key stands twice."""
    table: dict[str, tuple[int, str]] = {}
    for number, line in _numbered(path) if path.is_file() else ():
        key, *value = line.split(maxsplit=1)
        if key in table:
            raise UsageError(f"{path}:{number}: {key} stands in line {table[key][0]} already.", "Keep one of them.")
        table[key] = (number, value[0].strip() if value else "")
    return table


def _kaldi_span(where: str, written: str) -> tuple[str, float, float | None] | Left:
    """Recording, start and end of a line of segments; an end of -1 is that of the recording."""
    try:
        recording, start, end = written.split()[:3]
        span = float(start), float(end)
    except ValueError:
        return Left(where, "bad_row", "it is not `utterance recording start end`")
    if not _is_time(span[0]) or not (span[1] == -1 or span[1] > span[0]):
        return Left(where, "bad_row", f"{start} to {end} is no span of time")
    return recording, span[0], None if span[1] == -1 else span[1]


def _kaldi_audio(corpus: Corpus, where: str, recording: str, recordings: Mapping[str, tuple[int, str]]) -> Path | Left:
    if recording not in recordings:
        return Left(where, "no_audio", f"there is no recording {recording} in wav.scp")
    number, written = recordings[recording]
    if written.endswith("|"):
        problem = f"{recording} is a command (wav.scp:{number}), which is not run: write its output to a file"
        return Left(where, "pipe", problem)
    return corpus.find(written) or _missing(where, written)


def read_librispeech(corpus: Corpus) -> Iterator[Row]:
    """A LibriSpeech folder, or several: reader/chapter/reader-chapter.trans.txt beside the .flac files.

    Source: Panayotov et al., "LibriSpeech: an ASR corpus based on public domain audio books", ICASSP 2015.
    """
    tables = sorted(corpus.source.rglob("*.trans.txt"))
    if not tables:
        raise UsageError(f"{corpus.source} holds no *.trans.txt.", "Name a folder of LibriSpeech, such as test-clean.")
    for table in tables:
        chapter = table.name.removesuffix(".trans.txt")
        for number, line in _numbered(table):
            key, *text = line.split(maxsplit=1)
            beside = (table.parent / f"{key}{suffix}" for suffix in (".flac", ".wav", ".mp3", ".ogg", ".opus"))
            audio = next((path for path in beside if path.is_file()), None)
            where = f"{table}:{number}"
            if audio is None:
                yield _missing(where, f"{key}.flac")
            else:
                yield Entry(where, key, audio, text[0].strip() if text else "", key.split("-")[0], chapter)


def read_stm(corpus: Corpus) -> Iterator[Row]:
    """An .stm file, or a folder of them; the recordings lie beside or in the folder of --audio, by their stem.

    Source: NIST SCTK, sclite's doc/infmts.htm.
    """
    tables = sorted(corpus.source.rglob("*.stm")) if corpus.source.is_dir() else [corpus.source]
    if not tables:
        raise UsageError(f"{corpus.source} holds no .stm.", "Name an .stm file, or a folder with some.")
    recordings = {path.stem: path for place in reversed(corpus.places) for path in place.rglob("*") if path.is_file()}
    for table in tables:
        recordings = {**recordings, **{p.stem: p for p in table.parent.iterdir() if p.suffix != ".stm" and p.is_file()}}
        for line in read_lines(table):
            where = f"{table}:{line.number}"
            _, channel, start, end = line.key.rsplit(" ", 3)
            audio = recordings.get(line.recording)
            if audio is None:
                yield _missing(where, line.recording)
                continue
            name = f"{line.recording}-{channel}-{round(1000 * float(start)):08d}-{round(1000 * float(end)):08d}"
            chosen = {"a": 0, "b": 1, "1": 0, "2": 1}.get(channel.lower())
            spoken = line.text, line.speaker, line.recording
            yield Entry(where, name.replace("/", "_"), audio, *spoken, float(start), float(end), chosen)


def _missing(where: str, written: str) -> Left:
    return Left(where, "missing", f"there is no recording {written}")


def _numbered(path: Path) -> Iterator[tuple[int, str]]:
    """The lines that are not blank, with their numbers. Raises UsageError when it is no file in UTF-8."""
    if not path.is_file():
        raise UsageError(f"{path} does not exist.", "Correct its name.")
    for number, line in enumerate(path_text(path).removeprefix("\ufeff").split("\n"), 1):
        if line.strip():
            yield number, line


READERS: dict[str, Callable[[Corpus], Iterator[Row]]] = {
    "nemo": read_nemo,
    "kaldi": read_kaldi,
    "librispeech": read_librispeech,
    "stm": read_stm,
}
