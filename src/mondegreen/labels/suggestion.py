"""What is asked of a corrector and what it answers: the hand-over between the LLM and the guards."""

from typing import Literal

from pydantic import BaseModel, ConfigDict

from mondegreen.records import Alternative, Word

FailureReason = Literal[
    "unavailable",
    "timeout",
    "no_model",
    "invalid_answer",
    "changed_model",  # the server holds other weights under that name since the run began
    "too_long",  # for the model's context
    "nothing_heard",  # the recogniser wrote no word that could be corrected
]


class Question(BaseModel):
    """A hypothesis that may need correcting."""

    model_config = ConfigDict(frozen=True)

    id: str
    recording: str = ""  # the source recording, where the caller knows it: examples of it are left out of the prompt
    text: str
    confidence: float
    words: tuple[Word, ...] = ()
    nbest: tuple[Alternative, ...] = ()


class Suggestion(BaseModel):
    """What an LLM wrote for a hypothesis. Not a label yet: the guards decide."""

    model_config = ConfigDict(frozen=True)

    id: str
    text: str
    model: str  # as Ollama names it
    digest: str  # of the model's weights, as Ollama gives it
    prompt_version: str


class NoSuggestion(BaseModel):
    """Why there is none."""

    model_config = ConfigDict(frozen=True)

    id: str
    reason: FailureReason
    message: str
