"""A case on its way between stores: what every file format holds, and the problems of a file with their places."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from mondegreen.cases.records import PEOPLE, ErrorType, Metadata, Text
from mondegreen.config import Seconds
from mondegreen.errors import UsageError
from mondegreen.records import CorrectionMethod

Format = Literal["csv", "jsonl", "label-studio"]
_SUFFIXES: dict[str, Format] = {".csv": "csv", ".jsonl": "jsonl", ".json": "label-studio"}
SHOWN = 20  # problems of one error


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class SentCorrection(_Record):
    """One correction. `at` None: nobody wrote down when."""

    transcript: Text
    method: CorrectionMethod = "import"
    author: Text = ""
    at: AwareDatetime | None = None
    metadata: Metadata = Field(default_factory=dict)


class SentCase(_Record):
    """A case with all its corrections, oldest first. What is None or "" was not said.

    The dataset version is not sent: it is a fact of a project, not of a case.
    """

    id: Annotated[str, Field(pattern=r"^([0-9a-f]{16})?$")] = ""
    audio: str = ""  # relative to the file's folder
    sha256: Annotated[str, Field(pattern=r"^([0-9a-f]{64})?$")] = ""
    audio_name: Text = ""
    model_version: Text = ""
    original_transcript: Text | None = None
    error_types: tuple[ErrorType, ...] = ()
    error_score: float | None = Field(None, ge=0, le=1, allow_inf_nan=False)
    duration: Seconds | None = Field(None, gt=0, allow_inf_nan=False)
    source: Text = Field("import", min_length=1)
    metadata: Metadata = Field(default_factory=dict)
    first_seen: AwareDatetime | None = None
    last_seen: AwareDatetime | None = None
    times_seen: int | None = Field(None, ge=1, lt=2**31)
    corrections: tuple[SentCorrection, ...] = ()


class Row(NamedTuple):
    """One entry of a file: a case, or what is wrong with it. `where` is its line, or its task."""

    where: str
    case: SentCase | None
    problem: str = ""


class Problems:
    """What is wrong with a file, place by place."""

    def __init__(self, path: Path) -> None:
        self._path, self._found = path, list[str]()

    def add(self, where: str, problem: str) -> None:
        self._found.append(f"{where}: {problem.rstrip('.')}.")

    @property
    def enough(self) -> bool:
        """No more would be shown."""
        return len(self._found) >= SHOWN

    def refuse(self) -> None:
        """Raises UsageError when there are any."""
        if self._found:
            more = "There may be more. " if self.enough else ""
            listed = "\n  ".join(self._found[:SHOWN])
            raise UsageError(
                f"{self._path} cannot be imported:\n  {listed}", f"{more}Correct the file; nothing was imported."
            )


def format_of(path: Path, given: str | None) -> Format:
    """The format as given, else by the file's name. Raises UsageError."""
    found = next((kind for kind in _SUFFIXES.values() if kind == given), None) if given else None
    found = found or (None if given else _SUFFIXES.get(path.suffix.lower()))
    if found is None:
        raise UsageError(
            f"{given or path.name} is no format of ours.", "Use csv (.csv), jsonl (.jsonl) or label-studio (.json)."
        )
    return found


def explained(error: ValidationError) -> str:
    """Field and problem, of every field that is wrong."""
    return "; ".join(
        f"field {'.'.join(str(part) for part in item['loc']) or 'the whole entry'}: {item['msg']}"
        for item in error.errors()
    )


def undecodable(path: Path) -> Iterator[tuple[str, str]]:
    """The lines that are not UTF-8, with what is wrong."""
    with path.open("rb") as stream:
        head = stream.read(4)
        if head.startswith((b"\xff\xfe", b"\xfe\xff")) or (len(head) > 1 and 0 in head[:2]):
            yield "line 1", "this is UTF-16 or UTF-32, not UTF-8: save the file as UTF-8"
            return
        stream.seek(0)
        for number, line in enumerate(stream, 1):
            try:
                line.decode()
            except UnicodeDecodeError as error:
                yield f"line {number}", f"byte {error.start + 1} is not UTF-8: save the file as UTF-8"


def counting(corrections: Sequence[SentCorrection]) -> SentCorrection | None:
    """The correction that counts: a person's newest, else a machine's."""
    people = [item for item in corrections if item.method in PEOPLE]
    return (people or corrections)[-1] if corrections else None
