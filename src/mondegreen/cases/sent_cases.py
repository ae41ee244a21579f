"""Cases on their way between stores: what a file says of a case, and what is to be said of the file."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from pydantic import AwareDatetime, Field, ValidationError

from mondegreen.cases.origin import named, nameless
from mondegreen.cases.records import CaseRecord, ErrorType, Metadata, Text
from mondegreen.config import Seconds
from mondegreen.delimited import Notice, some
from mondegreen.errors import faults
from mondegreen.records import CorrectionMethod

OURS = "mondegreen"  # the key of what other programs keep for us


class SentCorrection(CaseRecord):
    """One correction. `at` None: nobody wrote down when."""

    transcript: Text
    method: CorrectionMethod = "import"
    author: Text = ""
    at: AwareDatetime | None = None
    metadata: Metadata = Field(default_factory=dict)


class SentCase(CaseRecord):
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


class Remark(NamedTuple):
    """What a reader understood of a case, or did not take. Those with one code and message are told together."""

    code: str
    message: str
    example: str = ""
    known_only: bool = False  # the store's case does without what cannot be read; a new one is refused


class CaseInFile(NamedTuple):
    """A case of a file, or what is wrong with it. `where` is its line, or its task."""

    where: str
    case: SentCase | None
    problem: str = ""
    remarks: tuple[Remark, ...] = ()


def parsed(where: str, fields: Callable[[list[Remark]], Any], problem: str = "") -> CaseInFile:
    """The case of these fields, or what is wrong with them: `problem` goes before what is wrong with all of them."""
    remarks: list[Remark] = []
    try:
        case = SentCase.model_validate(fields(remarks))
        remarks += origin_remarks(case.metadata)
        case = case.model_copy(update={"metadata": named(case.metadata)})
        return CaseInFile(where, case, "", tuple(remarks))
    except ValidationError as error:
        wrong = (
            (fault.field if fault.place else "the whole entry", fault.message) for fault in faults(error, SentCase)
        )
        return CaseInFile(where, None, "; ".join(f"field {name}: {message}" for name, message in wrong))
    except (AttributeError, TypeError, KeyError, ValueError, RecursionError) as error:
        return CaseInFile(where, None, f"{problem}{error}")


def origin_remarks(details: Mapping[str, Any]) -> list[Remark]:
    """What says of a speaker, recording or channel nothing that could be compared."""
    return [
        Remark("origin", f"field {name}: neither text nor whole number, and not used", repr(value)[:60])
        for name, value in nameless(details).items()
    ]


def told(path: Path, remarks: Iterable[tuple[str, Remark]]) -> list[Notice]:
    """A notice for each kind of remark, with how many there are and where the first stand."""
    kinds: dict[tuple[str, str], list[str]] = {}
    for where, remark in remarks:
        example = f"{where} ({remark.example})" if remark.example else where
        kinds.setdefault(remark[:2], []).append(example)
    return [
        Notice(code, f"{message} ({len(examples)}): {some(examples)}", str(path), count=len(examples))
        for (code, message), examples in kinds.items()
    ]
