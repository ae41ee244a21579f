"""The recordings and references of a suite, read and checked: a row that is wrong is named with its line."""

import csv
import hashlib
import io
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from mondegreen.errors import UsageError
from mondegreen.files import sha256_file
from mondegreen.records import Utterance
from mondegreen.scoring.normalizer import NormalizerName, normalize
from mondegreen.speech.audio import duration_of
from mondegreen.speech.corpus import Row, read_references

GUARD_COLUMNS = ("must_contain", "must_not_contain", "required")
_ANSWERS = {"": False, "no": False, "yes": True}


@dataclass(frozen=True)
class Guard:
    """What must, and what must not, be heard in one recording; phrases are normalised."""

    id: str  # of the utterance
    must_contain: tuple[str, ...]
    must_not_contain: tuple[str, ...]
    required: bool  # whatever the baseline hears


@dataclass(frozen=True)
class SuiteData:
    """What a suite is measured on. `digest` changes with the recordings and what was said in them."""

    utterances: tuple[Utterance, ...] = ()
    guards: tuple[Guard, ...] = ()

    @property
    def digest(self) -> str:
        lines = sorted(f"{row.sha256}\t{row.reference}\n" for row in self.utterances)
        return hashlib.sha256("".join(lines).encode()).hexdigest()


class _Inside:
    """The files below a folder, by their relative paths: nothing that a path leads out to."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __contains__(self, name: object) -> bool:
        path = PurePosixPath(str(name))
        return not path.is_absolute() and ".." not in path.parts and (self.folder / path).is_file()


def read_suite_data(name: str, table: Path, normalizer: NormalizerName) -> SuiteData:
    """Reads a suite's CSV: path and text, optional speaker, condition, source and the columns of `GUARD_COLUMNS`.

    Raises:
        UsageError: the file is missing, empty, not UTF-8 or lacks a column; a path stands twice, leads out of the
            folder or to nothing; a text holds no word or was written by a machine; a guard contradicts its text.
        AudioError: a recording is damaged.
    """
    if not table.is_file():
        raise UsageError(f"{table} does not exist.", f"Restore the data of suite {name} (`dvc checkout`).")
    folder = table.parent
    guard_fields = _guard_fields(table)
    utterances, guards = [], []
    for path, row in read_references(table, _Inside(folder)).items():
        where = f"{table}:{row.line}"
        _check_reference(where, row, normalizer)
        utterances.append(_utterance(f"{name}/{path}", folder, path, row))
        if guard := _guard(where, utterances[-1], guard_fields.get(path, {}), normalizer):
            guards.append(guard)
    if not utterances:
        raise UsageError(f"{table} names no recordings.", f"Add some, or take suite {name} out of the index.")
    return SuiteData(tuple(utterances), tuple(guards))


def _guard_fields(table: Path) -> dict[str, dict[str, str]]:
    """The guard columns of each path. What is wrong with the file itself is said by `read_references`."""
    reader = csv.DictReader(io.StringIO(table.read_bytes().decode("utf-8-sig", "replace"), newline=""))
    try:
        reader.fieldnames = [column.strip() for column in reader.fieldnames or []]
        return {
            PurePosixPath((row.get("path") or "").strip()).as_posix(): {
                column: (row.get(column) or "").strip() for column in GUARD_COLUMNS
            }
            for row in reader
        }
    except csv.Error:
        return {}


def _check_reference(where: str, row: Row, normalizer: NormalizerName) -> None:
    if not normalize(row.text, normalizer):
        raise UsageError(f"{where}: field text: it holds no word.", "Write down what is said, or remove the row.")
    if row.reference_source != "human":
        raise UsageError(
            f"{where}: field source: the text was written by a machine ({row.source}).",
            "Only what a person wrote judges a model: have a person check it, and name another source.",
        )


def _utterance(key: str, folder: Path, path: str, row: Row) -> Utterance:
    audio = folder / path
    return Utterance(
        id=key,
        path=audio.as_posix(),
        sha256=sha256_file(audio),
        duration=duration_of(audio),
        condition=row.condition,
        speaker=row.speaker,
        recording=path,
        reference=row.text,
        reference_source=row.reference_source,
        split="test",
        domain="target",
    )


def _guard(where: str, utterance: Utterance, fields: dict[str, str], normalizer: NormalizerName) -> Guard | None:
    said = f" {normalize(utterance.reference, normalizer)} "
    phrases: dict[str, list[str]] = {"must_contain": [], "must_not_contain": []}
    for column, found in phrases.items():
        for part in fields.get(column, "").split(";"):
            if not part.strip():
                continue
            found.append(phrase := normalize(part, normalizer))
            if not phrase:
                raise _wrong_guard(where, column, f"{part.strip()!r} holds no word")
            if (f" {phrase} " in said) != (column == "must_contain"):
                raise _wrong_guard(where, column, f"{part.strip()!r} contradicts the text {utterance.reference!r}")
    answer = fields.get("required", "").lower()
    if answer not in _ANSWERS:
        raise _wrong_guard(where, "required", f"{answer!r} is neither yes nor no")
    if not any(phrases.values()):
        return None
    return Guard(utterance.id, tuple(phrases["must_contain"]), tuple(phrases["must_not_contain"]), _ANSWERS[answer])


def _wrong_guard(where: str, column: str, problem: str) -> UsageError:
    return UsageError(f"{where}: field {column}: {problem}.", "Correct the guard or the text.")
