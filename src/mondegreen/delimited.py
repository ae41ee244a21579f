"""The one reader of tables that people bring: CSV and its kin as spreadsheets, corpora and other programs write them.

Separators (comma, semicolon, tab, |, Excel's `sep=`), encodings (UTF-8, UTF-16, UTF-32, older ones by `code_pages`),
line ends, and names of columns in any case and by their known synonyms are understood, and what is not plain is said:

    notices: list[Notice] = []
    table = open_table(path, REFERENCE_COLUMNS, notices)
    for row in table:                  # Record(line, cells, missing, problem)
        if row.problem: ...            # the row cannot be read: name row.line and the problem
        row.cells["speaker"]           # by our name, whatever the table calls it; "" when the cell is blank

Every reader of what comes from outside takes `notices`, a list that it appends to, and logs them without one: nothing
is understood, left out or changed in silence.
"""

import codecs
import csv
import difflib
import io
import logging
import os
import re
import shlex
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from mondegreen.code_pages import DecodedText, possible, readings
from mondegreen.errors import UsageError
from mondegreen.ideographs import NAMES as ENCODINGS
from mondegreen.ideographs import unescaped

if TYPE_CHECKING:
    from _csv import Reader

# Our names of columns, and how others call them (NeMo, Common Voice, Hugging Face, Kaldi, DeepSpeech, spreadsheets).
# Upper case, blanks, hyphens and underscores make no difference.
REFERENCE_COLUMNS: Mapping[str, Sequence[str]] = {
    "path": (
        "file", "file_name", "file_path", "audio", "audio_file", "audio_filename", "audio_filepath", "audio_path",
        "wav", "wav_file", "wav_filename", "wav_path", "clip", "clip_name", "recording_path", "sound_file",
    ),
    "id": ("utterance_id", "utt_id", "utt", "segment_id", "clip_id", "sample_id"),
    "text": ("sentence", "transcript", "transcription", "transcribed_text", "reference", "reference_text", "ref"),
    "speaker": (
        "speaker_id", "speaker_name", "spk", "spk_id", "spkr", "client_id", "talker", "talker_id", "reader",
        "reader_id",
    ),
    "condition": (),
    "source": (),
    "recording": ("recording_id",),
    "split": (),
    "duration": ("duration_s", "duration_seconds", "audio_duration", "dur"),
    "confidence": (),
    "licence": ("license",),
    "reference_source": (),
    "label_source": (),
    "method": (),
    "correction_method": (),
    "written_by": (),
    "entities": (),
    "must_contain": (),
    "must_not_contain": (),
    "required": (),
}  # fmt: skip
_SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "vertical bars"}
_SEP_LINE = re.compile(r'"?sep=(.)"?[,;\t|]*(?:\r\n|\r|\n|$)', re.IGNORECASE)
_QUOTED = re.compile(r'"(?:[^"]|"")*"')
_SPOILT = re.compile(r"#(NAME\?|REF!|VALUE!|N/A|DIV/0!|NUM!|NULL!|#+)")  # what spreadsheets write for a failed formula
_LONGEST = 16 << 20  # characters of a cell
_EXAMPLES = 5  # of one notice
QUOTE = 'Put texts that hold a separator or a quote in double quotes, quotes in them twice: "Yes, ""please""."'
_NAMES = "Write the names of the columns without quotes, or each wholly in double quotes."
_SAVE = "Save the file as UTF-8."
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Notice:
    """What a reader understood, left out or changed. `code` is short and stable; line 0: it is about the whole file."""

    code: str
    message: str
    file: str
    line: int = 0
    count: int = 1  # of the files, rows, columns or letters that it is about

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.message}" if self.line else f"{self.file}: {self.message}"


class DelimitedRow(NamedTuple):
    """A row of a table."""

    line: int  # where it begins
    cells: dict[str, str]  # as written, by our name of the column, or the table's own where we have none
    missing: tuple[str, ...] = ()  # the columns at its end for which it has no cell; "" in `cells`
    problem: str = ""  # why it cannot be read; `cells` is then empty
    cut: bool = False  # the file ends within it: cells are missing, and no line break says that it was written whole


def tell(notice: Notice, notices: list[Notice] | None) -> None:
    """Hands a notice to whoever called; it is logged when they did not ask."""
    if notices is None:
        logger.warning("%s", notice)
    else:
        notices.append(notice)


def wrong(path: Path, line: int, problem: str, next_step: str, column: str = "") -> UsageError:
    """An error that names file, line and, where it is in one, the column."""
    place = f"field {column}: " if column else ""
    return UsageError(f"{path}:{line}: {place}{problem}.", next_step)


def tell_short(path: Path, rows: Sequence[DelimitedRow], notices: list[Notice] | None) -> None:
    """Says which rows are taken although they have fewer fields than the table has columns: those given."""
    if rows:
        lines = [row.line for row in rows]
        message = f"{len(lines)} rows have fewer fields than columns; the missing ones are empty: lines {some(lines)}"
        if rows[-1].cut:
            message += "; the file ends within the last one, without a line break: see whether it is whole"
        tell(Notice("short_rows", message, str(path), lines[0], len(lines)), notices)


def some(items: Sequence[object]) -> str:
    """The first few of many, for a message."""
    shown = ", ".join(map(str, items[:_EXAMPLES]))
    return f"{shown} and {len(items) - _EXAMPLES} more" if len(items) > _EXAMPLES else shown


def decoded(path: Path, notices: list[Notice] | None = None) -> str:
    """The text of a file: UTF-8 with or without a byte order mark, UTF-16, UTF-32, or an older encoding, which is said.

    Raises:
        UsageError: it cannot be read, or it is nothing of these; names the line.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}.", "Check its name and permissions.") from None
    encoding = _encoding(content)
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        if encoding != "utf-8-sig":
            raise wrong(path, 1, f"it is not {encoding.upper()}: {error.reason}", _SAVE) from None
        text = _older(path, content, error, notices)
    if encoding == "utf-8-sig" and (escaped := unescaped(content)):
        encoding, text = ENCODINGS[escaped[0]], escaped[1]
    if encoding != "utf-8-sig":
        tell(Notice("encoding", f"it is {encoding.upper()} and was read as such", str(path)), notices)
    if "\x1b$" in text:
        raise wrong(path, line_of(text, text.index("\x1b$")), "it is no ISO-2022-JP, whose escapes stand here", _SAVE)
    text = text.removeprefix("\ufeff")
    if "\0" in text:
        line = line_of(text, text.index("\0"))
        message = f"{text.count(chr(0))} NUL characters were taken out; the first stands here"
        tell(Notice("nul", message, str(path), line, text.count(chr(0))), notices)
    if twice := [found for found in re.finditer(r"[ÂÃ][^\s\x00-\x7f]", text) if _read_twice(found[0])]:
        seen, meant = twice[0][0], twice[0][0].encode("cp1252").decode()
        message = f"{len(twice)} letters look like UTF-8 that something took for Windows-1252, here {seen} for {meant}"
        tell(Notice("mojibake", message, str(path), line_of(text, twice[0].start()), len(twice)), notices)
    return text.replace("\0", "")


def _read_twice(pair: str) -> bool:
    """Whether a program took the two bytes of a letter for two letters, and saved those."""
    try:
        return len(pair.encode("cp1252").decode()) == 1
    except UnicodeError:
        return False


def line_of(text: str, position: int) -> int:
    """The number of the line in which a character stands, whatever ends the lines."""
    before = text[:position]
    return 1 + before.count("\n") + before.count("\r") - before.count("\r\n")


def _encoding(content: bytes) -> str:
    marks = {codecs.BOM_UTF32_LE: "utf-32", codecs.BOM_UTF32_BE: "utf-32"}  # first: UTF-16's is the beginning of one
    marks |= {codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
    if found := next((name for mark, name in marks.items() if content.startswith(mark)), None):
        return found
    if len(content) > 1 and 0 in content[:2]:  # a Latin letter of the header has a zero byte there
        return "utf-16-le" if content[0] else "utf-16-be"
    return "utf-8-sig"


def _older(path: Path, content: bytes, error: UnicodeDecodeError, notices: list[Notice] | None) -> str:
    """As older programs save texts, where what it then says tells which encoding it is."""
    line = line_of(content.decode("latin-1"), error.start)
    found = readings(content)
    if len(found) != 1:
        raise _undecided(path, line, found or possible(content))
    word = _word_at(found[0].text, len(content[: error.start].decode(found[0].codec, "ignore")))
    message = f"it is not UTF-8; {found[0].name} was assumed, which reads here {word!r}"
    tell(Notice("encoding_assumed", message, str(path), line), notices)
    return found[0].text


def _undecided(path: Path, line: int, found: Sequence[DecodedText]) -> UsageError:
    """Says what it may be; a file that a reading names tells which is likely, and whoever converts it decides."""
    what = "it is not UTF-8, and nothing tells which encoding it is"
    if not found:
        return wrong(path, line, what, _SAVE, "the whole line")
    texts = [one.text for one in found]
    differ = (at for at, chars in enumerate(zip(*texts, strict=False)) if len(set(chars)) > 1)
    place = next(differ, next((at for at, char in enumerate(texts[0]) if char > "\x7f"), 0))
    seen = " or ".join(f"{_word_at(one.text, place)!r} ({one.name})" for one in found)
    named = [(_named_files(path, one.text), one) for one in found]
    named.sort(key=lambda pair: -len(pair[0]))
    files, likely = named[0]
    more = len(files) > max((len(others) for others, _ in named[1:]), default=0)
    only = [name for name in files if more and not any(name in others for others, _ in named[1:])]
    there = f"; {likely.name} is likely, since there is a file {only[0]!r}" if only else ""
    convert = f"iconv -f {likely.codec} -t UTF-8 {shlex.quote(str(path))} > NEW"
    step = f"{_SAVE[:-1]}, or convert it from what it is: {convert}"
    return wrong(path, line_of(texts[0], place), f"{what}: it may read {seen}{there}", step, "the whole line")


def _named_files(path: Path, text: str) -> list[str]:
    """The files beyond ASCII that a text names by their place beside the table."""
    cells = (cell.strip().strip('"') for cell in re.split(r"[,;\t|\r\n]", text) if not cell.isascii())
    return [cell for cell in cells if os.path.isfile(path.parent / cell)]  # noqa: PTH113 - too long is no error


def _word_at(text: str, place: int) -> str:
    """What stands around a place, up to blanks and separators."""
    return next((word[0][:40] for word in re.finditer(r'[^\s,;|"]+', text) if word.end() > place), "")


class Table:
    """A table whose header is understood; made by `open_table`. Iterating reads its rows, each time anew."""

    def __init__(
        self, path: Path, text: str, separator: str, first: int, columns: tuple[str, ...], known: Iterable[str]
    ) -> None:
        self.path = path
        self._known = frozenset(known)
        self.columns = columns  # by our names where we have one; without blank ones at the end
        self.separator = separator
        self._text = text  # of header and rows
        self._first = first  # line of the header
        self._literal = False  # quotes are text
        self.notices: list[Notice] | None = None

    def __iter__(self) -> Iterator[DelimitedRow]:
        before = csv.field_size_limit(_LONGEST)
        try:
            yield from self._records()
        finally:
            csv.field_size_limit(before)

    def _records(self) -> Iterator[DelimitedRow]:
        """A row that is not CSV takes no other with it: reading goes on in the line behind that in which it begins."""
        stream = io.StringIO(self._text, newline="")
        first, reader, header = self._first, self._reader(stream), True
        while True:
            place, line = stream.tell(), first + reader.line_num
            try:
                cells = next(reader, None)
            except csv.Error as error:
                yield DelimitedRow(line, {}, problem=f"this is not CSV: {error}")
                stream.seek(place)
                stream.readline()
                first, reader, header = line + 1, self._reader(stream), False
                continue
            if cells is None:
                return
            if not header and any(cell.strip() for cell in cells):
                self._swallowed(line, cells)
                row = self._record(line, cells)
                at_end = stream.tell() == len(self._text) and self._text[-1] not in "\r\n"
                yield row._replace(cut=at_end and bool(row.missing))
            header = False

    def _reader(self, stream: io.StringIO) -> "Reader":
        return csv.reader(
            stream,
            strict=True,
            delimiter=self.separator,
            quoting=csv.QUOTE_NONE if self._literal else csv.QUOTE_MINIMAL,
        )

    def check_header(self) -> None:
        """Raises UsageError where a quote in the header is not closed, or closes before its column ends: what is a
        name and what a row nobody can tell then."""
        before = csv.field_size_limit(_LONGEST)
        try:
            next(self._reader(io.StringIO(self._text, newline="")), None)
        except csv.Error as error:
            raise wrong(self.path, self._first, f"this is not CSV: {error}", _NAMES, "the whole line") from None
        finally:
            csv.field_size_limit(before)

    def _record(self, line: int, cells: list[str]) -> DelimitedRow:
        while len(cells) > len(self.columns) and not cells[-1].strip():
            cells.pop()
        if len(cells) > len(self.columns):
            counts = f"{len(cells)} for {len(self.columns)}"
            return DelimitedRow(
                line, {}, problem=f"there are more fields than columns, {counts}; the last is {cells[-1]!r}"
            )
        for name, cell in zip(self.columns, cells, strict=False):
            if name in self._known and _SPOILT.fullmatch(cell.strip()):
                problem = f"field {name}: {cell.strip()} is a spreadsheet's error, the text that stood there is lost"
                return DelimitedRow(line, {}, problem=problem)
        missing = self.columns[len(cells) :]
        return DelimitedRow(line, dict(zip(self.columns, [*cells, *[""] * len(missing)], strict=True)), missing)

    def _swallowed(self, line: int, cells: list[str]) -> None:
        """A quote that nobody closed makes one cell of many rows, and the next quote hides it."""
        for name, cell in zip(self.columns, cells, strict=False):
            lines = re.split(r"\r\n|\r|\n", cell)
            if len(lines) > 1 and any(part.count(self.separator) >= len(self.columns) - 1 > 0 for part in lines[1:]):
                message = f"field {name}: its quoted text of {len(lines)} lines holds what looks like rows; "
                message += "see whether a quote is missing or too many"
                tell(Notice("rows_in_a_cell", message, str(self.path), line), self.notices)

    def decimal(self, cell: str) -> str:
        """A number with a decimal comma with a point; 1,234 between commas may be a thousand and stays."""
        comma = re.fullmatch(r"\s*(-?\d+),(\d+)\s*", cell)
        if comma and (len(comma[2]) != 3 or comma[1] == "0" or self.separator == ";"):
            return f"{comma[1]}.{comma[2]}"
        return cell

    def take_quotes_literally(self) -> None:
        """Between tabs, where some cell only begins like a quoted one, quotes are text, unless it spans lines."""
        lines = [line for line in re.split(r"\r\n|\r|\n", self._text) if line.strip()]
        cells = [line.split("\t") for line in lines]
        loose = next((cell for row in cells for cell in row if cell[:1] == '"' and not _QUOTED.fullmatch(cell)), None)
        if loose is None:
            return
        if all(len(row) == len(cells[0]) for row in cells) or any(record.problem for record in self):
            self._literal = True
            message = f"quotes are taken as text, since not every one is closed: {loose[:60]!r}"
            line = self._first - 1 + line_of(self._text, self._text.index(loose))
            tell(Notice("quotes", message, str(self.path), line), self.notices)


def open_table(path: Path, known: Mapping[str, Sequence[str]], notices: list[Notice] | None = None) -> Table:
    """Reads a table's header; rows come by iterating over what is returned.

    Args:
        path: a file with a line of column names and a row on each line after it.
        known: our names of columns, each with its synonyms.
        notices: what was understood, assumed or not used is appended; logged when None. Iterating appends too.

    Raises:
        UsageError: the file cannot be read, is in no known encoding, has no header, or two columns mean the same.
    """
    text, first = decoded(path, notices), 1
    told = _SEP_LINE.match(text)
    if told:
        text, first = text[told.end() :], 2
    names = {_squashed(name): ours for ours, others in known.items() for name in (ours, *others)}
    default = "\t" if path.suffix.lower() in (".tsv", ".tab") else ","
    separator = told[1] if told else _separator(text, default, names)
    if separator != default:
        what = _SEPARATORS.get(separator, repr(separator))
        tell(Notice("separator", f"its columns are separated by {what}", str(path), first), notices)
    header = _header(text, separator)
    while header and not header[-1]:
        header.pop()
    if not header:
        what = "the first line must name the columns"
        raise wrong(path, first, what, f"They are {', '.join(known)}.", next(iter(known)))
    table = Table(path, text, separator, first, _columns(path, first, header, names, notices), known)
    table.notices = notices
    if separator == "\t":
        table.take_quotes_literally()
    table.check_header()
    return table


def _separator(text: str, default: str, names: Mapping[str, str]) -> str:
    """The one that makes known names of the header."""

    def rank(separator: str) -> tuple[int, bool]:
        return sum(_squashed(name) in names for name in _header(text, separator)), separator == default

    return max(_SEPARATORS, key=rank)


def _header(text: str, separator: str) -> list[str]:
    try:
        cells = next(csv.reader(io.StringIO(text, newline=""), delimiter=separator), [])
    except csv.Error:
        return []
    return [" ".join(cell.strip("\ufeff\u200b \t\r\n\xa0").split()) for cell in cells]


def _squashed(name: str) -> str:
    return re.sub(r"[\W_]+", "", unicodedata.normalize("NFKC", name).casefold())


def _columns(
    path: Path, line: int, header: list[str], names: Mapping[str, str], notices: list[Notice] | None
) -> tuple[str, ...]:
    """Our names of a header's columns; those that we do not know keep theirs. Says which are which."""
    first: dict[str, str] = {}
    columns, unknown = [], []
    for number, written in enumerate(header, 1):
        ours = names.get(_squashed(written), "")
        if ours and ours in first:
            problem = f"the columns {first[ours]!r} and {written!r} mean the same, {ours}"
            raise wrong(path, line, problem, "Take one of them out, or give it another name.", ours)
        if ours:
            first[ours] = written
        else:
            unknown.append(written or f"column {number}, which has no name")
        columns.append(ours or (written if written and written not in columns else f"{written} ({number})"))
    if read := [f"{written} read as {ours}" for ours, written in first.items() if written != ours]:
        tell(Notice("columns_read_as", f"columns: {', '.join(read)}", str(path), line, len(read)), notices)
    if unknown:
        said = ", ".join(repr(name) + _meant(name, names, first) for name in unknown)
        message = f"columns that are not known and not used: {said}"
        tell(Notice("columns_not_used", message, str(path), line, len(unknown)), notices)
    return tuple(columns)


def _meant(name: str, names: Mapping[str, str], taken: Iterable[str]) -> str:
    near = difflib.get_close_matches(_squashed(name), [key for key, ours in names.items() if ours not in taken], 1, 0.8)
    return f" (did you mean {names[near[0]]}?)" if near else ""
