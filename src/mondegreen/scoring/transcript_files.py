"""Transcripts as recognisers and people write them down: .trn and .stm of NIST, tables, NeMo's, Kaldi's, and our own.

One reader for references and hypotheses, and the pairing of both. Every line keeps its number, so that whoever finds it
wrong can name it.
"""

import math
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import partial
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter, ValidationError

from mondegreen.delimited import REFERENCE_COLUMNS, Notice, decoded, some, tell, wrong
from mondegreen.errors import UsageError, first_fault
from mondegreen.json_text import parse_json
from mondegreen.records import Domain, Hypothesis, ReferenceSource, Split, Utterance
from mondegreen.scoring.alternatives import check_notation
from mondegreen.scoring.recording_names import pair
from mondegreen.scoring.references import read_table

SUFFIXES = (".trn", ".stm", ".csv", ".tsv", ".jsonl", ".json")
_KALDI = ("", ".txt", ".text")  # a file called `text`
_TRN = re.compile(r"(.*)\(([^()]+|[^()\s]*\([^()\s]*\)[^()\s]*)\)\s*$")  # also (spk(1)-2)
_SPEAKER = re.compile(r"[^-_]+(?=[-_])")  # of sclite's spu_id: what stands before the first hyphen or underscore
_IGNORED = "ignore_time_segment_in_scoring"  # sclite's mark in a reference .stm: it is not scored
_GAP = "inter_segment_gap"  # sclite's speaker between segments: nothing was said, and what is heard there is too much
_NIST = (".trn", ".stm")
# What lines of JSON call the two sides, where one line has both, as NeMo's manifests do.
_SAID = ("reference", "reference_text", "ref")
_HEARD = ("hypothesis", "hyp", "pred_text", "prediction")
_TEXT = ("text", *(name for name in REFERENCE_COLUMNS["text"] if name not in _SAID))  # either side


@dataclass(frozen=True)
class Line:
    """An utterance of a file. What the file does not say has the default."""

    number: int
    key: str  # the utterance's ID there
    text: str
    heard: str | None = None  # what a recogniser wrote, where the line says that it is that
    only: Literal["", "reference", "hypothesis"] = ""  # the side that it has alone, where it says which one that is
    path: str = ""  # of the recording
    speaker: str = ""
    recording: str = ""
    condition: str = "all"
    duration: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0  # seconds
    confidence: Annotated[float, Field(ge=0, le=1)] = 1.0
    error: str = ""  # why there is no transcript
    model: str = ""
    split: Split = "test"
    domain: Domain = "target"
    reference_source: ReferenceSource = "human"
    scored: bool = True  # False for a segment of an .stm that is marked as not to be scored

    @property
    def is_gap(self) -> bool:
        """Whether it stands between the segments of an .stm: nothing was said, and it needs no hypothesis."""
        return self.speaker == _GAP


_LINE = TypeAdapter(Line)
_NEXT_STEPS = {"confidence": "Write it as a part of 1 (93.5 % is 0.935), or leave the field out."}
_OPTIONAL = ("speaker", "condition", "duration", "confidence")
_OF_UTTERANCES = ("duration", "condition", "speaker", "recording", "split", "domain", "reference_source")
_READ = {"path", "speaker", "recording", *_OPTIONAL, *_OF_UTTERANCES, "error", "model", "scored"}  # of a line of JSON
# Fields of our own files and of NeMo's manifests that say nothing here.
_PASSED_OVER = (Utterance.model_fields.keys() | Hypothesis.model_fields.keys()) - {"text", "reference"}
_PASSED_OVER |= {"audio_filepath", "offset", "real_time_factor", "warnings", "reason"}


def read_lines(path: Path, notices: list[Notice] | None = None, *, spans: bool = True) -> list[Line]:
    """The utterances of a file, by its suffix, in its order.

    .trn: `words (id)`, the speaker is what stands before the first - or _ of the ID, as sclite's `-i spu_id` has it.
    .stm: `file channel speaker start end [<label>] words`. .csv, .tsv: columns text and id or path; when they are there
    also speaker, source or recording, condition, duration, confidence, by any name that `mondegreen.delimited` knows.
    .jsonl: our hypotheses.jsonl and manifest.jsonl, and what `mondegreen transcribe --json` prints; there and in .json
    also NeMo's manifests (audio_filepath, text, pred_text, offset). A line or a row may have both sides: `reference`,
    or `text`, and `hypothesis` or `pred_text`, or `text` beside `reference`. A file without a suffix, or .txt: `id
    words` as in Kaldi's `text`. Lines that begin with ;; are comments in .trn and .stm.

    Args:
        notices: gets what a table's reader understood and what it did not use; logged when None.
        spans: a segment of an .stm that is no span of time is an error; else it is read as it is.

    Raises:
        UsageError: another suffix, a line that cannot be read, an ID twice, or no line; names file and line.
    """
    readers: dict[str, Callable[[Path, list[Notice] | None], Iterator[Line]]] = {
        ".trn": _trn, ".stm": partial(_stm, spans=spans),
        ".jsonl": _jsonl, ".json": _jsonl, **dict.fromkeys(_KALDI, _kaldi), ".csv": _table, ".tsv": _table,
    }  # fmt: skip
    if path.suffix.lower() not in readers:
        raise UsageError(f"{path}: it is not known how to read {path.suffix or 'this'}.", f"Use {', '.join(SUFFIXES)}.")
    if not path.is_file():
        raise UsageError(f"{path} does not exist.", "Correct its name.")
    lines = list(readers[path.suffix.lower()](path, notices))
    if not lines:
        raise UsageError(f"{path} holds no utterance.", "Was the recogniser's output written to another file?")
    first: dict[str, int] = {}
    for line in lines:
        if line.key in first:
            problem = f"{line.key!r} stands in line {first[line.key]} already"
            raise wrong(path, line.number, problem, "Keep one of them.")
        first[line.key] = line.number
    return lines


def _text_lines(path: Path, notices: list[Notice] | None) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(re.split(r"\r\n|\r|\n", decoded(path, notices)), 1):
        if line.strip() and not line.startswith(";;"):
            yield number, line


def _trn(path: Path, notices: list[Notice] | None) -> Iterator[Line]:
    for number, line in _text_lines(path, notices):
        found = _TRN.match(line)
        if found is None:
            raise wrong(path, number, "there is no (id) at its end", "Write each line as `words (id)`.")
        text, key = found[1].strip(), found[2].strip()
        speaker = _SPEAKER.match(key)
        yield Line(number, key, text, speaker=speaker[0] if speaker else "")


def _stm(path: Path, notices: list[Notice] | None, spans: bool) -> Iterator[Line]:
    lines, speakers = list(_segments(path, notices, spans)), defaultdict[str, set[str]](set)
    for line in lines:
        speakers[line.key].add(line.speaker)
    for line in lines:  # only where two people speak at once: other files of the same segments need no speaker
        yield replace(line, key=f"{line.key} {line.speaker}") if len(speakers[line.key]) > 1 else line


def is_span(start: float, end: float) -> bool:
    return 0 <= start <= end < math.inf


def _segments(path: Path, notices: list[Notice] | None, spans: bool) -> Iterator[Line]:
    for number, line in _text_lines(path, notices):
        fields = line.split(maxsplit=5)
        try:
            recording, channel, speaker, start, end = fields[:5]
            duration = float(end) - float(start)
        except ValueError:
            problem = "it is not `file channel speaker start end [<label>] words`"
            raise wrong(path, number, problem, "Correct it.") from None
        if spans and not is_span(float(start), float(end)):
            raise wrong(path, number, f"{start} to {end} s is no span of time", "Correct its times.")
        rest = fields[5] if len(fields) > 5 else ""
        label, text = rest.split(">", 1) if rest.startswith("<") and ">" in rest else ("<all", rest)
        known: dict[str, Any] = {"scored": _IGNORED not in text.lower()}
        key = f"{recording} {channel} {float(start):.3f} {float(end):.3f}"
        known |= {"speaker": speaker, "recording": recording, "condition": label[1:] or "all"}
        yield Line(number, key, text.strip(), duration=duration, **known)


def _table(path: Path, notices: list[Notice] | None) -> Iterator[Line]:
    for row in read_table(path, keys=("id", "path"), notices=notices, more={"hypothesis": _HEARD}):
        known = {name: row.fields[name] for name in _OPTIONAL if row.fields.get(name)}
        fields: dict[str, Any] = {
            "number": row.line,
            "key": row.key,
            "text": row.text,
            "heard": row.fields.get("hypothesis"),
            "path": (path.parent / row.path).as_posix() if row.path else "",
            "recording": row.recording,
            "reference_source": row.reference_source,
        }
        yield _checked(path, row.line, {**fields, **known})


def _kaldi(path: Path, notices: list[Notice] | None) -> Iterator[Line]:
    for number, line in _text_lines(path, notices):
        key, *words = line.split(maxsplit=1)
        yield Line(number, key, words[0].strip() if words else "")


def _jsonl(path: Path, notices: list[Notice] | None) -> Iterator[Line]:
    unused = dict[str, int]()
    for number, line in _text_lines(path, notices):
        try:
            row = parse_json(line)
        except ValueError as error:
            raise wrong(path, number, f"it is not JSON: {error}", "Write one object a line.") from None
        row = _by_our_names(row) if isinstance(row, dict) else {}
        row = {other: value for other, value in row.items() if value is not None or other in _HEARD}
        name = next((name for name in ("audio_filepath", "id", "path") if row.get(name) not in (None, "")), "")
        if not name:
            step = "Write one object a line, with id, path or audio_filepath, and text."
            raise wrong(path, number, "it has neither id nor path", step)
        texts, names = _texts(row)
        for other in row.keys() - _READ - _PASSED_OVER - set(names.values()):
            unused.setdefault(other, number)
        known = {other: row[other] for other in _READ & row.keys()}
        known |= _nemo(path, row) if name == "audio_filepath" else {"key": row[name]}
        if name == "path":
            known["key"] = PurePosixPath(str(row["path"])).as_posix()
        yield _checked(path, number, {**known, **texts, "number": number}, names | {"key": name})
    if unused:
        message = f"fields that are not known and not used: {', '.join(map(repr, sorted(unused)))}"
        tell(Notice("columns_not_used", message, str(path), min(unused.values()), len(unused)), notices)


def _by_our_names(row: dict[str, Any]) -> dict[str, Any]:
    """A line with what it lacks of path, speaker and recording, where it has that under a name that tables know."""
    row = dict(row)
    has_key = row.get("id") is not None or "audio_filepath" in row
    for ours in ("speaker", "recording") if has_key else ("path", "speaker", "recording"):
        if ours not in row and (name := next((name for name in REFERENCE_COLUMNS[ours] if name in row), "")):
            row[ours] = row.pop(name)
    return row


def _texts(row: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """What was said and what a recogniser wrote, as fields of `Line`; and the line's own names of these fields."""
    said, heard, text = (next((name for name in of if row.get(name) is not None), "") for of in (_SAID, _HEARD, _TEXT))
    both = bool(heard) or any(name in row for name in _HEARD)  # also where nothing stands there
    if both and not said:
        said, text = text, ""
    elif said and not heard and not both:
        heard, text = text, ""
    if row.get("error"):  # there is no transcript
        return {"text": row[said] if said else "", "heard": ""}, {"text": said, "heard": heard}
    only = "" if bool(said) == bool(heard) else "reference" if said else "hypothesis"
    name = said or heard or text or "text"
    return {"text": row.get(name), "heard": row.get(heard), "only": only}, {"text": name, "heard": heard}


def _nemo(path: Path, row: Mapping[str, Any]) -> dict[str, Any]:
    """A line of a NeMo manifest: segments of one recording are told apart by their offsets."""
    written, offset = str(row["audio_filepath"]), row.get("offset")
    return {
        "duration": row.get("duration") or 0.0,
        "speaker": row.get("speaker") or "",
        "key": f"{written} {offset}" if offset else written,
        "path": "" if offset else (path.parent / written).as_posix(),
        "recording": row.get("recording") or (written if offset else ""),
    }


def _checked(path: Path, number: int, fields: dict[str, Any], names: Mapping[str, str] = MappingProxyType({})) -> Line:
    """A line of these fields; `names` are the file's own ones of them. Whole numbers may be names of things."""
    for name in ("key", "path", "speaker", "recording"):
        if isinstance(fields.get(name), int) and not isinstance(fields[name], bool):
            fields[name] = str(fields[name])
    try:
        return _LINE.validate_python(fields)
    except ValidationError as error:
        fault = first_fault(error)
        ours = str(fault.place[0])
        step = _NEXT_STEPS.get(ours, "Correct it.")
        raise wrong(path, number, f"field {names.get(ours) or ours}: {fault.message}", step) from None


SplitName = Literal["test", "dev", "train", "retention", "all"]


@dataclass(frozen=True)
class References:
    """The references of a file: all its lines, and those that are compared."""

    path: Path
    lines: tuple[Line, ...]
    chosen: tuple[Line, ...]
    choices: bool = False  # a mapping wrote some into the texts

    @property
    def nist(self) -> bool:
        """Whether `{ uh / um / @ }` and `(word)` leave a choice in the file: in a table these are punctuation."""
        return self.path.suffix.lower() in _NIST

    @property
    def notation(self) -> bool:
        """Whether the texts may leave a choice: by the file, or by a mapping, which masks signs of a table's own."""
        return self.choices or self.nist

    @property
    def silence(self) -> bool:
        """Whether an empty reference says that nothing was said; in our manifests nobody wrote it down."""
        return self.path.suffix.lower() != ".jsonl"

    @property
    def utterances(self) -> list[Utterance]:
        """The chosen lines as utterances, in the order of the file; `sha256` is left empty."""
        return [
            Utterance(
                id=line.key,
                path=line.path or line.key,
                sha256="",
                reference=line.text,
                **{name: getattr(line, name) for name in _OF_UTTERANCES} | ({"speaker": ""} if line.is_gap else {}),
            )
            for line in self.chosen
        ]

    def timed(self, *sides: Sequence[Hypothesis]) -> list[Utterance]:
        """The utterances; where the references do not know how long one is, the hypotheses may."""
        return [
            row if row.duration else row.model_copy(update={"duration": max(side.duration for side in both)})
            for row, both in zip(self.utterances, zip(*sides, strict=True), strict=True)
        ]


def read_references(path: Path, part: SplitName = "test", notices: list[Notice] | None = None) -> References:
    """The references of a file. A manifest knows splits; of other files every line is of the test set.

    Segments of an .stm that are marked `ignore_time_segment_in_scoring` are not chosen.

    Raises:
        UsageError: the file cannot be read, its braces do not pair, no line is of that part, or one says that what it
            holds was heard by a recogniser.
    """
    lines = tuple(read_lines(path, notices))
    chosen = tuple(line for line in lines if _belongs(line, part) and line.scored)
    if not chosen:
        raise UsageError(f"{path} holds no utterance of the part {part!r}.", "Name another one, or `all`.")
    if alone := next((line for line in chosen if line.only == "hypothesis"), None):
        raise wrong(path, alone.number, "it has a hypothesis and no reference", "Name what was said `reference`.")
    found = References(path, lines, chosen)
    for line in chosen if found.notation else ():
        try:
            check_notation(line.text)
        except UsageError as error:
            raise wrong(path, line.number, error.problem, error.next_step) from None
    return found


def _belongs(line: Line, part: SplitName) -> bool:
    if part in ("all", "retention"):
        return part == "all" or (line.domain, line.split) == ("retention", "test")
    return (line.domain, line.split) == ("target", part)


def read_hypotheses(path: Path, references: References, notices: list[Notice] | None = None) -> list[Hypothesis]:
    """A model's hypotheses of the chosen utterances, in their order.

    Lines are found by their ID, or, where no ID is known there, as `pair` finds them. The gaps between an .stm's
    segments need none.

    Raises:
        UsageError: the file cannot be read, an utterance is missing, or a line is of no known utterance or has nothing
            but a reference; names file and line.
    """
    lines = read_lines(path, notices)
    by_id, known, by_stem, respelt = pair(references.lines, lines)
    if by_stem:
        message = f"no ID and no path is in {references.path}: lines are paired by the names of their recordings"
        tell(Notice("paired_by_stem", message, str(path)), notices)
    if respelt:
        message = f"{len(respelt)} IDs: {some([f'{theirs} read as {ours}' for theirs, ours in respelt.items()])}"
        tell(Notice("ids_read_as", message, str(path), count=len(respelt)), notices)
    if choice := next((line for line in lines if path.suffix.lower() in _NIST and "{" in line.text), None):
        problem = "a hypothesis leaves a choice in { }"
        raise wrong(path, choice.number, problem, "Write the words that the recogniser heard.")
    _check(path, references, by_id, known)
    if alone := next((line for line in by_id.values() if line.only == "reference"), None):
        problem = "it has a reference and no hypothesis"
        raise wrong(path, alone.number, problem, "Name what the recogniser heard `hypothesis`, or name another file.")
    silent = Line(0, "", "")
    return [_hypothesis(line, by_id.get(line.key, silent), path) for line in references.chosen]


def _check(path: Path, references: References, found: Mapping[str, Line], known: set[str]) -> None:
    missing = [line for line in references.chosen if line.key not in found and not line.is_gap]
    strangers = [line for key, line in found.items() if key not in known]
    if missing:
        raise wrong(
            references.path,
            missing[0].number,
            f"{missing[0].key!r} has no hypothesis in {path}{_near(missing[0].key, strangers)}"
            f"{_more(missing, 'without one')}",
            "Both sides must have heard the same utterances; an empty transcript is a line of its own.",
        )
    if strangers:
        raise wrong(
            path,
            strangers[0].number,
            f"{strangers[0].key!r} is not in {references.path}{_more(strangers, 'that are not')}",
            "Give the references of the same utterances.",
        )


def _near(key: str, strangers: Sequence[Line]) -> str:
    """An ID that may be meant: a spreadsheet takes zeros away, a person mistypes."""
    plain = {line.key.casefold().lstrip("0"): line.key for line in strangers}
    near = get_close_matches(key.casefold().lstrip("0"), plain, 1)
    return f" (did you mean {plain[near[0]]!r}?)" if near else ""


def _more(lines: Sequence[Line], what: str) -> str:
    return f" (and {len(lines) - 1} more {what})" if len(lines) > 1 else ""


def _hypothesis(reference: Line, line: Line, path: Path) -> Hypothesis:
    return Hypothesis(
        id=reference.key,
        path=reference.path or line.path,
        text=line.text if line.heard is None else line.heard,
        confidence=line.confidence,
        duration=line.duration or reference.duration,
        words=[],
        nbest=[],
        model=line.model or str(path),
        error=line.error,
    )
