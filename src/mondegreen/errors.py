"""Exceptions whose message ends with the user's next step."""

import errno
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, get_args

if TYPE_CHECKING:
    from pydantic import BaseModel, ValidationError
    from pydantic_core import ErrorDetails


_PASSWORD = re.compile(r"(?<=://)([^\s:/@]*):\S*@")  # of `scheme://user:password@host`


def without_passwords(text: str) -> str:
    """A text whose URLs show no password, as they come along in other libraries' messages."""
    return _PASSWORD.sub(r"\1:***@", text)


class MondegreenError(Exception):
    """Something the user can act on.

    Args:
        problem: what is wrong, naming file and field.
        next_step: what to do now, as a sentence.
    """

    exit_code = 1

    def __init__(self, problem: str, next_step: str = "") -> None:
        self.problem = without_passwords(problem)
        self.next_step = without_passwords(next_step)
        super().__init__(f"{self.problem}\n  What now: {self.next_step}" if next_step else self.problem)


class UsageError(MondegreenError):
    """The command, the parameters or the layout of the inputs are wrong."""

    exit_code = 2


class AudioError(MondegreenError):
    """A recording that cannot be used. `reason` is a short stable code for reports."""

    def __init__(self, problem: str, next_step: str = "", reason: str = "unreadable") -> None:
        self.reason = reason
        super().__init__(problem, next_step)


class LeakageError(MondegreenError):
    """A recording, a text or a speaker stands in two splits."""


class VocabularyError(MondegreenError):
    """A transcript holds characters that the tokenizer cannot write."""


class TrainingError(MondegreenError):
    """Training cannot start or must stop."""


class RegistryError(MondegreenError):
    """The model registry refuses, or its state is not what was expected."""


class CaseError(MondegreenError):
    """The case store refuses, or what it holds is not what was expected."""


class StoreAwayError(CaseError):
    """What it is to be kept in takes nothing just now, whatever it is given; the same may be tried again."""


class CloudError(MondegreenError):
    """A bucket or a machine in the cloud refuses or cannot be reached."""


class JobError(MondegreenError):
    """A round cannot be asked for or go on, or a job is not in the state that was expected."""


def told(error: Exception) -> str:
    """An error in a line, for a log or a record: what a person can act on is told as it is, else with its kind."""
    return error.problem if isinstance(error, MondegreenError) else f"{type(error).__name__}: {error}"


def is_full(error: OSError) -> bool:
    """Whether the disk, a quota or what one file may take is used up."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def full_disk_told() -> Iterator[None]:
    """Around a whole command or stage: a full disk, wherever that was found out, raises MondegreenError."""
    try:
        yield
    except OSError as error:
        if not is_full(error):
            raise
        named = error.filename2 or error.filename
        problem = f"{named or 'A file'} cannot be written: {error.strerror}."
        raise MondegreenError(problem, "Make room. Then run it again.") from None


class Fault(NamedTuple):
    """What pydantic finds wrong with one field.

    Args:
        place: names and indices from the root.
        kind: pydantic's name of the error, as in `string_type`.
        given: the field's value.
    """

    place: tuple[int | str, ...]
    message: str
    kind: str
    given: object

    @property
    def field(self) -> str:
        """The place in dots, as in `train.epochs`."""
        return ".".join(map(str, self.place)) or "the whole record"


def faults(error: "ValidationError", kind: "type[BaseModel] | None" = None) -> list[Fault]:
    """What pydantic found, in our words where its own say little.

    Args:
        kind: what was to be read, so that a field that it does not have is told with one that it has.
    """
    found = error.errors()
    return [Fault(one["loc"], _message(one, kind), one["type"], one["input"]) for one in found]


def first_fault(error: "ValidationError", kind: "type[BaseModel] | None" = None) -> Fault:
    """The first of `faults`: people correct one field after the other."""
    return faults(error, kind)[0]


def _message(found: "ErrorDetails", kind: "type[BaseModel] | None") -> str:
    if found["type"] != "extra_forbidden":
        return found["msg"].removeprefix("Value error, ")
    from difflib import get_close_matches

    *above, name = found["loc"]
    near = get_close_matches(str(name), _fields(kind, above), 1)
    return "there is no such field" + (f" (is {near[0]} meant?)" if near else "")


def _fields(kind: Any, place: Sequence[int | str]) -> list[str]:
    """The fields of the model at a place below `kind`, none where the types do not say which one that is."""
    for part in place:
        if isinstance(part, str) and kind:
            hints = {field.alias or name: field.annotation for name, field in kind.model_fields.items()}
            kind = _model_in(hints.get(part))
    return [field.alias or name for name, field in kind.model_fields.items()] if kind else []


def _model_in(hint: Any) -> Any:
    """The first model that a type is or holds, as in `list[Phrase] | None`."""
    if hasattr(hint, "model_fields"):
        return hint
    return next(filter(None, map(_model_in, get_args(hint))), None)
