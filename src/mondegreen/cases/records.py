"""What goes into the case store and what comes out of it: one record a kind."""

import json
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Protocol, TypeVar

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from mondegreen.config import Seconds
from mondegreen.errors import UsageError, first_fault
from mondegreen.records import CorrectionMethod

PEOPLE: tuple[CorrectionMethod, ...] = ("manual", "import")  # their word beats a machine's
AUDIT = "audit"  # the source of a case that is no failed case: it was drawn to be heard, judges and never teaches


def _storable(text: str) -> str:
    """PostgreSQL takes no NUL, and no database half a surrogate pair."""
    if "\0" in text:
        raise ValueError("a NUL character cannot be stored")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("this is not valid Unicode text") from None
    return text


def _plain_json(tree: dict[str, Any]) -> dict[str, Any]:
    try:
        _storable(json.dumps(tree, allow_nan=False, ensure_ascii=False))
    except (TypeError, UnicodeEncodeError) as error:
        raise ValueError(str(error)) from None
    return tree


Text = Annotated[str, AfterValidator(_storable)]
Metadata = Annotated[dict[str, Any], AfterValidator(_plain_json)]
ErrorType = Annotated[str, Field(min_length=1), AfterValidator(_storable)]


class CaseRecord(BaseModel):
    """A frozen record; a field that it does not know is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


Record = TypeVar("Record", bound=BaseModel)


class NewCase(CaseRecord):
    """A recording that a model misheard, before it is stored."""

    audio_path: Path
    original_transcript: Text
    corrected_transcript: Text | None = None  # None: nobody wrote one; "": nothing was said
    correction_method: CorrectionMethod = "manual"
    author: Text = ""
    error_types: tuple[ErrorType, ...] = ()
    error_score: float | None = Field(None, ge=0, le=1)
    metadata: Metadata = Field(default_factory=dict)
    model_version: Text = ""
    duration: Seconds | None = Field(None, gt=0, allow_inf_nan=False)  # None: as the file says
    source: Text = Field("manual", min_length=1)


class NewCorrection(CaseRecord):
    """What somebody wrote for a case, before it is stored."""

    case_id: str
    transcript: Text
    method: CorrectionMethod = "manual"
    author: Text = ""
    metadata: Metadata = Field(default_factory=dict)


class NewSuggestion(CaseRecord):
    """What a language model wrote for a case, and the guards' decision."""

    case_id: str  # whole
    text: Text
    model: Text  # as the server names it
    digest: str  # of its weights
    prompt_version: str
    accepted: bool
    guard: str  # the one that decided
    reason: Text


class CaseSuggestion(NewSuggestion):
    """A stored suggestion. A larger id is newer, whatever the clock said."""

    id: int
    at: datetime


class Case(CaseRecord):
    """A stored case with its current correction."""

    id: str
    audio_sha256: str
    audio_name: str  # as it was called where it came from
    model_version: str
    original_transcript: str
    corrected_transcript: str | None  # None: nobody wrote one; "": nothing was said
    label_method: CorrectionMethod | None
    error_types: tuple[str, ...]  # by name
    error_score: float | None
    duration: Seconds | None
    source: str
    metadata: dict[str, Any]
    first_seen: datetime
    last_seen: datetime
    times_seen: int
    dataset_version: int | None  # the first snapshot that holds it

    @property
    def is_corrected(self) -> bool:
        return self.label_method is not None


class Correction(CaseRecord):
    """One entry of a case's history. A larger id is newer, whatever the clock said."""

    id: int
    case_id: str
    transcript: str
    method: CorrectionMethod
    author: str
    at: datetime
    metadata: dict[str, Any]
    taken_back: bool = False  # by the person who wrote it, while reviewing


class CaseFilter(CaseRecord):
    """Which cases are wanted; None: any. Times are aware and mean when a case was first seen."""

    model_version: str | None = None
    source: str | None = None
    audit: bool | None = None  # drawn to be heard, or (False) misheard
    error_type: str | None = None
    corrected: bool | None = None
    method: CorrectionMethod | None = None
    used: bool | None = None  # by any dataset version
    dataset_version: int | None = None
    since: AwareDatetime | None = None  # from this moment on
    until: AwareDatetime | None = None  # before this moment
    text: str | None = None  # beginnings of words in either transcript or the file's name, all of them


class CasePage(CaseRecord):
    """Some cases, newest first. `next` is what `after` takes for the following page, None on the last one."""

    cases: list[Case]
    next: str | None


class Statistics(CaseRecord):
    """The store in numbers. `used` cases are in a dataset version."""

    total: int
    corrected: int
    uncorrected: int
    correction_rate: float  # 0 for an empty store
    used: int
    unused: int
    unused_corrected: int
    by_method: dict[str, int]
    by_model_version: dict[str, int]
    by_source: dict[str, int]
    error_types: dict[str, int]  # a case may have several, or none


class Verification(CaseRecord):
    """What was found. Orphans and leftovers are what killed writers leave: they take room and do no harm."""

    blobs: int  # that were hashed
    cases: int
    corrupt: list[str]  # sha256 of audio whose bytes have changed
    missing: list[str]  # sha256 of audio that is not there
    damaged_cases: list[str]  # ids of the cases whose audio is one of these
    orphans: list[str]  # sha256 of audio without a case
    deleted_orphans: int
    swept_leftovers: int  # temporary files, removed
    miscounted: bool  # the counters were wrong, and were counted again

    @property
    def is_sound(self) -> bool:
        return not (self.corrupt or self.missing or self.miscounted)


class _Written(Protocol):
    @property
    def method(self) -> str: ...


WrittenRecord = TypeVar("WrittenRecord", bound=_Written)
# In the metadata of a correction: it was written before the one that counted when it was imported.
LATE = "came_late"


def preferred(corrections: Sequence[WrittenRecord]) -> WrittenRecord | None:
    """Of corrections, oldest first: a person's newest, else the newest."""
    people = [item for item in corrections if item.method in PEOPLE]
    return (people or corrections)[-1] if corrections else None


def checked(kind: type[Record], **fields: Any) -> Record:
    """A record from a caller's arguments; raises UsageError naming the field."""
    try:
        return kind(**fields)
    except ValidationError as error:
        fault = first_fault(error, kind)
        raise UsageError(f"{fault.field}: {fault.message}.", f"Give a {fault.field} that can be stored.") from None
