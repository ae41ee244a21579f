"""Exceptions whose message ends with the user's next step."""

import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from pydantic import ValidationError


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


class CloudError(MondegreenError):
    """A bucket or a machine in the cloud refuses or cannot be reached."""


class JobError(MondegreenError):
    """A round cannot be asked for or go on, or a job is not in the state that was expected."""


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


def first_fault(error: "ValidationError") -> Fault:
    """The first of what pydantic found: people correct one field after the other."""
    first = error.errors()[0]
    return Fault(first["loc"], first["msg"].removeprefix("Value error, "), first["type"], first["input"])
