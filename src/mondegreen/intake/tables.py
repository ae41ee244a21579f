"""Corpora that are rows of fields, as entries: NeMo's manifests, Common Voice, Hugging Face's audiofolder, any table.

What a field means, its name says (`mondegreen.delimited` knows many), or the user does with --map.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mondegreen.delimited import REFERENCE_COLUMNS, DelimitedRow, Notice, open_table, tell_short
from mondegreen.errors import AudioError, UsageError
from mondegreen.intake.entries import Entry, EntryRow, Left, SourceCorpus, from_zero, safe_name
from mondegreen.intake.formats import missing, numbered
from mondegreen.json_text import parse_json
from mondegreen.scoring.references import SOURCE_COLUMNS, source_recording, who_wrote
from mondegreen.speech.audio import duration_of

FIELDS: Mapping[str, Sequence[str]] = {
    **{name: REFERENCE_COLUMNS[name] for name in ("path", "text", "speaker", "id", "recording", "duration")},
    "condition": (),
    "start": ("offset", "start_time", "begin"),
    "end": ("end_time", "stop"),
    "channel": (),
    **dict.fromkeys(SOURCE_COLUMNS, ()),
}
_CHANNELS = {"": None, "a": 0, "b": 1, **{str(number): number - 1 for number in range(1, 17)}}
_SAME_LENGTH = 0.05  # seconds by which a manifest's duration may differ from the file's: headers round, and mp3 pads
_MAPPED = " (--map)"  # a column that the user names goes before those that are known by their own name


def read_nemo(corpus: SourceCorpus) -> Iterator[EntryRow]:
    """A NeMo manifest: JSON objects a line with audio_filepath and text, for segments also offset and duration.

    A duration that is not that of the file makes a segment. Source: NVIDIA NeMo, "Preparing Custom ASR Data"
    (docs.nvidia.com/nemo-framework, ASR datasets).
    """
    yield from _objects(corpus, corpus.source, by_duration=True)


def read_json_lines(corpus: SourceCorpus) -> Iterator[EntryRow]:
    """JSON objects a line with the fields of a table's columns; only a start or an end makes a segment."""
    yield from _objects(corpus, corpus.source)


def read_csv(corpus: SourceCorpus) -> Iterator[EntryRow]:
    """Any table with a header that has a column for the recording's path: read_table's separators and encodings."""
    yield from _records(corpus, corpus.source)


def read_commonvoice(corpus: SourceCorpus) -> Iterator[EntryRow]:
    """A Common Voice .tsv; the recordings lie in clips/ beside it.

    Source: Ardila et al., "Common Voice: a massively-multilingual speech corpus", LREC 2020.
    """
    if corpus.source.is_dir():
        tables = ", ".join(sorted(path.name for path in corpus.source.glob("*.tsv"))) or "there is none"
        raise UsageError(f"{corpus.source} is a folder.", f"Name one of its tables: {tables}.")
    clips = corpus.folder / "clips"
    yield from _records(replace(corpus, audio=corpus.audio or (clips if clips.is_dir() else None)), corpus.source)


def read_audiofolder(corpus: SourceCorpus) -> Iterator[EntryRow]:
    """A folder of Hugging Face's audiofolder: metadata.csv or metadata.jsonl, in it or in the folders of its splits.

    Source: huggingface.co/docs/datasets/audio_dataset.
    """
    found = [path for path in corpus.tables(".csv", ".tsv", ".jsonl") if path.stem == "metadata"]
    if not found:
        parquet = corpus.tables(".parquet")
        step = "Save it as metadata.csv: `pandas.read_parquet(F).to_csv(G)`." if parquet else "Name the folder with it."
        raise UsageError(f"{corpus.source} holds no metadata.csv and no metadata.jsonl.", step)
    for path in found:
        yield from _objects(corpus, path) if path.suffix == ".jsonl" else _records(corpus, path)


def _objects(corpus: SourceCorpus, path: Path, by_duration: bool = False) -> Iterator[EntryRow]:
    """The rows of JSON lines."""
    free = {ours: others for ours, others in FIELDS.items() if ours not in corpus.columns.values()}
    names = {column.lower(): ours for ours, others in free.items() for column in (ours, *others)}
    names |= {column.lower(): ours for column, ours in corpus.columns.items()}
    unknown: dict[str, None] = {}
    for number, line in numbered(path):
        where = f"{path}:{number}"
        try:
            fields = parse_json(line)
        except ValueError as error:
            yield Left(where, "bad_row", f"it is not JSON: {error}")
            continue
        if not isinstance(fields, dict):
            yield Left(where, "bad_row", "it is no JSON object")
            continue
        unknown |= dict.fromkeys(name for name in fields if name.lower() not in names)
        said = {name: value for name, value in fields.items() if name.lower() in names and value is not None}
        known = {names[name.lower()]: value for name, value in said.items()}
        if twice := _rivals(said, names):
            yield Left(where, "bad_row", twice)
            continue
        yield _entry(corpus, path.parent, where, known, by_duration)
    if unknown:
        message = f"fields that are not known and not used: {', '.join(map(repr, unknown))}"
        corpus.notices.append(Notice("columns_not_used", message, str(path), count=len(unknown)))


def _rivals(fields: Mapping[str, Any], names: Mapping[str, str]) -> str:
    """Which fields of a row mean the same and say different things; "" when none do."""
    first: dict[str, str] = {}
    for name, value in fields.items():
        ours = names[name.lower()]
        if fields[other := first.setdefault(ours, name)] != value:
            return f"its fields {other!r} and {name!r} both mean {ours}, and differ: keep one, or say which with --map"
    return ""


def _records(corpus: SourceCorpus, path: Path) -> Iterator[EntryRow]:
    """The rows of a table."""
    mapped = {ours: column for column, ours in corpus.columns.items()}
    known = {ours: others for ours, others in FIELDS.items() if ours not in mapped}
    known |= {ours + _MAPPED: (column,) for ours, column in mapped.items()}
    table = open_table(path, known, corpus.notices)
    for ours, column in mapped.items():
        if ours + _MAPPED not in table.columns:
            raise UsageError(f"{path} has no column {column}, only {', '.join(table.columns)}.", "Correct --map.")
    if not {"path", "path" + _MAPPED} & set(table.columns):
        problem = f"{path} has no column that names the recordings, only {', '.join(table.columns)}."
        raise UsageError(problem, "Say which one does: --map COLUMN=path.")
    short = []
    for record in table:
        where = f"{path}:{record.line}"
        if problem := record.problem or _cut_off(record):
            yield Left(where, "bad_row", problem)
            continue
        if record.missing:
            short.append(record)
        fields = {name.removesuffix(_MAPPED): cell.strip() for name, cell in record.cells.items()}
        fields |= {name: table.decimal(fields.get(name, "")) for name in ("start", "end", "duration")}
        yield _entry(corpus, path.parent, where, fields)
    tell_short(path, short, corpus.notices)


def _cut_off(record: DelimitedRow) -> str:
    """Why what a row has cannot be trusted to be all that was written; "" when it can."""
    if record.cut:
        return "the file ends within this row, without a line break: see whether it was copied whole"
    gone = [name for name in ("path", "text") if {name, name + _MAPPED} & set(record.missing)]
    return f"field {gone[0]}: it is missing: see whether the row is whole" if gone else ""


def _entry(
    corpus: SourceCorpus, folder: Path, where: str, fields: Mapping[str, Any], by_duration: bool = False
) -> EntryRow:
    """The utterance that a row describes.

    Args:
        folder: what its path is relative to.
        by_duration: a duration other than the file's makes a segment; else only a start or an end does.

    Raises:
        UsageError: its channel is 0.
    """
    written, text = fields.get("path"), fields.get("text")
    if not isinstance(written, str) or not written.strip():
        return Left(where, "bad_row", "it names no recording")
    if not isinstance(text, str | None):
        return Left(where, "bad_row", "its text is no text")
    channel = _word(fields, "channel").lower()
    try:
        start, end, duration = (_seconds(fields.get(name)) for name in ("start", "end", "duration"))
    except ValueError:
        return Left(where, "bad_row", "start, end and duration must be numbers of seconds")
    if channel == "0":
        raise from_zero(where)
    if channel not in _CHANNELS:
        return Left(where, "bad_row", f"its channel is {channel!r}: 1, 2, … or A, B")
    audio = corpus.find(written.strip(), folder)
    if audio is None:
        return missing(where, written)
    if end is None and duration is not None and (start is not None or by_duration):
        end = (start or 0.0) + duration
    if by_duration and not start and end is not None:
        try:
            end = (
                None
                if abs(end - duration_of(audio, max_missing_share=corpus.max_missing_share)) <= _SAME_LENGTH
                else end
            )
        except AudioError as error:
            return Left(where, error.reason, error.problem)
    if end is not None and end <= (start or 0.0):
        return Left(where, "bad_row", f"{start or 0:g} to {end:g} s is no span of time")
    return _named(corpus, where, audio, fields, (start or 0.0, end, _CHANNELS[channel]))


def _named(
    corpus: SourceCorpus,
    where: str,
    audio: Path,
    fields: Mapping[str, Any],
    span: tuple[float, float | None, int | None],
) -> Entry:
    name, (start, end, channel) = corpus.name_of(audio), span
    recording = source_recording(_word(fields, "recording"), _word(fields, "source"))
    if start or end is not None or channel is not None:
        recording = recording or safe_name(name)
        times = [f"{round(1000 * time):08d}" for time in (start, end) if time is not None]
        sides = [] if channel is None else [str(channel + 1)]
        name = _word(fields, "id").replace("/", "_") or "-".join([name, *sides, *times])
    return Entry(
        where=where,
        name=name,
        audio=audio,
        text=fields.get("text") or "",
        speaker=_word(fields, "speaker"),
        recording=recording,
        start=start,
        end=end,
        channel=channel,
        condition=_word(fields, "condition"),
        written_by="llm" if who_wrote(fields) == "llm" else "",
        written=fields["path"].strip(),
    )


def _word(fields: Mapping[str, Any], name: str) -> str:
    value = fields.get(name)
    return "" if value is None else str(value).strip()


def _seconds(value: Any) -> float | None:
    """A time; None where there is none. Raises ValueError when it is no number of seconds."""
    if value is None or value == "":
        return None
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError
    number = float(value)
    if not 0 <= number < math.inf:
        raise ValueError
    return number
