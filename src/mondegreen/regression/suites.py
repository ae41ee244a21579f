"""The regression suites: the index data/regression/suites.yaml, read and changed, and the data of a suite.

What people wrote beside the entries of the index stays. A row of a suite's table that is wrong is named with its line.
"""

import hashlib
import io
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq

from mondegreen.errors import UsageError, first_fault
from mondegreen.files import lock, path_text, sha256_file, write_text
from mondegreen.records import Utterance
from mondegreen.regression.behaviour import Behaviour
from mondegreen.scoring.normalizer import NormalizerName, holds, normalize
from mondegreen.scoring.references import ReferenceRow, read_recordings
from mondegreen.speech.audio import MAX_MISSING_SHARE, duration_of
from mondegreen.yaml_text import read_yaml

SuiteType = Literal["benchmark", "critical", "edge_cases", "behaviour"]
# Twice as many errors as words is not a model, it is a percentage: with 15 for 15 % the gate would never shut.
StoredRate = Annotated[float, Field(ge=0, le=2)]
VersionName = Annotated[str, BeforeValidator(str)]  # YAML reads a bare 3 as a number


class Suite(BaseModel):
    """An entry of the index. Rates are fractions; the baseline is what some version was measured at."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: str = Field(min_length=1)
    type: SuiteType
    references: Path | None = None  # CSV with path and text, relative to the index; its paths are relative to the CSV
    margin: float = Field(ge=0, le=1)  # that may be lost: WER, or the share of violations of a behaviour; absolute
    severity: str = ""
    owner: str = ""
    behaviour: Behaviour | None = None
    baseline_wer: StoredRate | None = None
    baseline_cer: StoredRate | None = None
    baseline_violation_rate: float | None = Field(None, ge=0, le=1)
    baseline_version: VersionName = ""
    baseline_data: str = ""  # digest of the data that the baseline was measured on
    baseline_normalizer: str = ""
    terms: Path | None = None  # words that matter, relative to the index: as many must be heard as the baseline hears
    min_recall: float | None = Field(None, ge=0, le=1)  # share of them that must be heard, whatever the baseline hears

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if (self.type == "behaviour") != (self.behaviour is not None):
            raise ValueError("a suite of type behaviour, and no other, has a field behaviour")
        if self.references is None and not self.needs_no_recordings:
            raise ValueError("references is missing")
        if self.behaviour is not None and (self.baseline_wer, self.baseline_cer) != (None, None):
            raise ValueError("the baseline of a behaviour is baseline_violation_rate, no WER and no CER")
        if self.behaviour is None and self.baseline_violation_rate is not None:
            raise ValueError("baseline_violation_rate belongs to suites of type behaviour")
        if self.baseline_cer is not None and self.baseline_wer is None:
            raise ValueError("baseline_cer stands without baseline_wer")
        if self.terms is not None and self.behaviour is not None:
            raise ValueError("terms are heard in what was said: a behaviour has none")
        if self.min_recall is not None and self.terms is None:
            raise ValueError("min_recall stands without terms")
        return self

    @property
    def needs_no_recordings(self) -> bool:
        """Silence is made, not recorded."""
        return self.behaviour is not None and self.behaviour.kind == "minimum" and self.behaviour.expect == "silence"

    @property
    def has_baseline(self) -> bool:
        """Whether a number is stored to compare with."""
        return (self.baseline_violation_rate if self.behaviour else self.baseline_wer) is not None


class _Index(BaseModel):
    model_config = ConfigDict(extra="forbid")

    suites: list[Suite]


def suite_of(fields: Mapping[str, Any]) -> Suite:
    """A suite from its fields; raises UsageError naming the one that is wrong."""
    try:
        return Suite.model_validate(fields)
    except ValidationError as error:
        fault = first_fault(error, Suite)
        raise UsageError(
            f"Suite {fields['name']}: {fault.field + ': ' if fault.place else ''}{fault.message}.",
            "Correct it; docs/regression.md lists the fields.",
        ) from None


def load_index(path: Path) -> list[Suite]:
    """The suites of an index.

    Raises:
        UsageError: the file is missing, cannot be read, is not YAML, has a key twice, or a field is wrong.
    """
    step = "`mondegreen regression add` makes an index; or name another in regress.suites of params.yaml."
    return parse_index(path_text(path, step), path)


def parse_index(text: str, path: Path) -> list[Suite]:
    """The suites that the text of an index names; raises UsageError like `load_index`."""
    tree, _ = read_yaml(text, str(path))
    try:
        suites = _Index.model_validate(tree).suites
    except ValidationError as error:
        fault = first_fault(error, _Index)
        raise UsageError(
            f"{path}: {_place(fault.place, tree)}: {fault.message}.", "Correct the entry; docs/regression.md shows all."
        ) from None
    if doubles := [name for name, count in Counter(suite.name for suite in suites).items() if count > 1]:
        raise UsageError(f"{path}: suite names stand twice: {', '.join(sorted(doubles))}.", "Rename one of each.")
    return suites


def _place(location: tuple[int | str, ...], tree: Any) -> str:
    """Where in the index: the suite by its name when it has one."""
    if len(location) < 2 or not isinstance(location[1], int):
        return ".".join(map(str, location)) or "the whole file"
    entry = tree["suites"][location[1]]
    name = entry.get("name") if isinstance(entry, dict) else None
    suite = f"suite {name}" if name else f"suite number {location[1] + 1}"
    return ": ".join([suite, *map(str, location[2:])])


PHRASE_COLUMNS = ("must_contain", "must_not_contain", "required")
_ANSWERS = {"": False, "no": False, "yes": True}


@dataclass(frozen=True)
class MustContain:
    """What the hypothesis of one recording must, and must not, contain; phrases are normalised."""

    id: str  # of the utterance
    must_contain: tuple[str, ...]
    must_not_contain: tuple[str, ...]
    required: bool  # whatever the baseline has


@dataclass(frozen=True)
class SuiteData:
    """What a suite is measured on. `digest` changes with the recordings and what was said in them."""

    utterances: tuple[Utterance, ...] = ()
    must_contain: tuple[MustContain, ...] = ()

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


def read_suite_data(
    name: str, table: Path, normalizer: NormalizerName, max_missing_share: float = MAX_MISSING_SHARE
) -> SuiteData:
    """Reads a suite's CSV: path and text, optional speaker, condition, source and the columns of `PHRASE_COLUMNS`.

    Raises:
        UsageError: the file is missing, empty, not UTF-8 or lacks a column; a path stands twice, leads out of the
            folder or to nothing; a text holds no word or was written by a machine; a guard contradicts its text.
        AudioError: of a recording more is missing than may be (audio.max_missing_share).
    """
    if not table.is_file():
        raise UsageError(f"{table} does not exist.", f"Restore the data of suite {name} (`dvc checkout`).")
    folder = table.parent
    utterances, rules = [], []
    for path, row in read_recordings(table, _Inside(folder)).items():
        where = f"{table}:{row.line}"
        _check_reference(where, row, normalizer)
        utterances.append(_utterance(f"{name}/{path}", folder, path, row, max_missing_share))
        if rule := _must_contain(where, utterances[-1], row.fields, normalizer):
            rules.append(rule)
    if not utterances:
        raise UsageError(f"{table} names no recordings.", f"Add some, or take suite {name} out of the index.")
    return SuiteData(tuple(utterances), tuple(rules))


def _check_reference(where: str, row: ReferenceRow, normalizer: NormalizerName) -> None:
    if not normalize(row.text, normalizer):
        raise UsageError(f"{where}: field text: it holds no word.", "Write down what is said, or remove the row.")
    if row.reference_source != "human":
        raise UsageError(
            f"{where}: field source: the text was written by a machine ({row.source}).",
            "Only what a person wrote judges a model: have a person check it, and name another source.",
        )


def _utterance(key: str, folder: Path, path: str, row: ReferenceRow, max_missing_share: float) -> Utterance:
    audio = folder / path
    return Utterance(
        id=key,
        path=audio.as_posix(),
        sha256=sha256_file(audio),
        duration=duration_of(audio, max_missing_share=max_missing_share),
        condition=row.condition,
        speaker=row.speaker,
        recording=row.recording or path,
        reference=row.text,
        reference_source=row.reference_source,
        split="test",
        domain="target",
    )


def _must_contain(
    where: str, utterance: Utterance, fields: Mapping[str, str], normalizer: NormalizerName
) -> MustContain | None:
    said = normalize(utterance.reference, normalizer)
    phrases: dict[str, list[str]] = {"must_contain": [], "must_not_contain": []}
    for column, found in phrases.items():
        for part in fields.get(column, "").split(";"):
            if not part.strip():
                continue
            found.append(phrase := normalize(part, normalizer))
            if not phrase:
                raise _wrong_rule(where, column, f"{part.strip()!r} holds no word")
            if holds(said, phrase) != (column == "must_contain"):
                raise _wrong_rule(where, column, f"{part.strip()!r} contradicts the text {utterance.reference!r}")
    answer = fields.get("required", "").lower()
    if answer not in _ANSWERS:
        raise _wrong_rule(where, "required", f"{answer!r} is neither yes nor no")
    if not any(phrases.values()):
        return None
    return MustContain(
        utterance.id, tuple(phrases["must_contain"]), tuple(phrases["must_not_contain"]), _ANSWERS[answer]
    )


def _wrong_rule(where: str, column: str, problem: str) -> UsageError:
    return UsageError(f"{where}: field {column}: {problem}.", "Correct the guard or the text.")


_HEAD = "# Regression suites; docs/regression.md says what the fields mean.\nsuites: []\n"


def put_suite(path: Path, suite: Suite, lock_file: Path, replace: bool = False) -> bool:
    """Adds an entry, comments and order of the others kept; the same entry again is no change.

    Args:
        lock_file: held meanwhile; outside data/, whose digest DVC keeps.
        replace: put it in the place of the entry of that name.

    Returns:
        Whether the index changed.

    Raises:
        UsageError: the index is wrong, or another entry has that name.
    """
    with lock(lock_file):
        former = {entry.name: entry for entry in load_index(path)} if path.exists() else {}
        if former.get(suite.name) == suite:
            return False
        if suite.name in former and not replace:
            raise UsageError(
                f"{path} has another suite {suite.name} already.", "Choose another name, or add it with --replace."
            )
        document = _document(path)
        entries = document["suites"]
        fields = CommentedMap(suite.model_dump(mode="json", exclude_defaults=True))
        if suite.name in former:
            entries[list(former).index(suite.name)] = fields
        else:
            entries.append(fields)
        _write(path, document)
        return True


def set_fields(path: Path, changes: Mapping[str, Mapping[str, Any]], lock_file: Path) -> None:
    """Sets fields of entries, by the name of the suite; None takes a field out.

    Raises:
        UsageError: the index is wrong, or has no such suite.
    """
    with lock(lock_file):
        names = [suite.name for suite in load_index(path)]
        if unknown := sorted(set(changes) - set(names)):
            raise UsageError(f"{path} has no suite {', '.join(unknown)}.", "`mondegreen regression list` shows them.")
        document = _document(path)
        for name, fields in changes.items():
            entry = document["suites"][names.index(name)]
            for field, value in fields.items():
                if value is None:
                    entry.pop(field, None)
                else:
                    entry[field] = value
        _write(path, document)


def _document(path: Path) -> CommentedMap:
    """The index with its comments."""
    document = _yaml().load(path.read_text(encoding="utf-8") if path.exists() else _HEAD)
    if document["suites"] is None or (isinstance(document["suites"], CommentedSeq) and not document["suites"]):
        document["suites"] = CommentedSeq()  # an empty list in brackets would be added to in brackets
    return document  # type: ignore[no-any-return]


def _write(path: Path, document: CommentedMap) -> None:
    """Whole or not at all, and never what could not be read again."""
    stream = io.StringIO()
    _yaml().dump(document, stream)
    parse_index(stream.getvalue(), path)
    for leftover in path.parent.glob(f".{path.name}.*"):  # of a killed writer; DVC would take it for data
        leftover.unlink()
    write_text(path, stream.getvalue())


def _yaml() -> YAML:
    editor = YAML()
    editor.preserve_quotes = True
    editor.width = 120
    editor.indent(mapping=2, sequence=4, offset=2)
    return editor
