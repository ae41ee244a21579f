"""A model as the regression suites use it: a function over many recordings, and the digest of who hears."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from mondegreen.records import Hypothesis, Utterance

OnProgress = Callable[[int], None]
TranscribeFn = Callable[[str], Any]  # a path in; text, or a thing with a text, out

_DIGEST = 64  # characters of a sha256; what a stranger's attribute of that name holds is nobody's digest


@dataclass(frozen=True)
class Ear:
    """`hear` gives one hypothesis an utterance, in the order given, and tells how many are done."""

    hear: Callable[[Sequence[Utterance], OnProgress], list[Hypothesis]]
    digest: str = ""  # of the model, "" when nobody knows


def ear_of_model(model: Any) -> Ear:
    """A `BaselineSTTModel`: in batches, and what it has heard before is not transcribed again."""
    from mondegreen.speech.hearing import hear

    return Ear(lambda utterances, on_progress: hear(utterances, model, on_progress=on_progress), model.digest)


def ear_of_function(transcribe: TranscribeFn) -> Ear:
    """A function that transcribes one file; of a `BaselineSTTModel`'s own method, the model.

    A recording at which the function raises, or gives no text, has no transcript: it counts as fully wrong.
    """
    owner = getattr(transcribe, "__self__", None)
    if hasattr(owner, "transcribe_many") and getattr(transcribe, "__name__", "") == "transcribe":
        from mondegreen.speech.transcriber import BaselineSTTModel

        if isinstance(owner, BaselineSTTModel):
            return ear_of_model(owner)
    known = getattr(owner, "digest", "")
    digest = known if isinstance(known, str) and len(known) <= _DIGEST else ""

    def hear(utterances: Sequence[Utterance], on_progress: OnProgress) -> list[Hypothesis]:
        found = []
        for done, utterance in enumerate(utterances, 1):
            found.append(_heard(transcribe, utterance, digest))
            on_progress(done)
        return found

    return Ear(hear, digest)


def _heard(transcribe: TranscribeFn, utterance: Utterance, digest: str) -> Hypothesis:
    text, error = "", ""
    try:
        text = _text_of(transcribe(utterance.path))
    except Exception as raised:  # whatever a user's model raises, the other recordings are still heard
        error = f"{type(raised).__name__}: {raised}".encode("utf-8", "replace").decode()
    return Hypothesis(
        id=utterance.id,
        path=utterance.path,
        text=text,
        confidence=0.0,
        duration=utterance.duration,
        words=[],
        nbest=[],
        model=digest,
        error=error,
    )


def _text_of(result: Any) -> str:
    text = result.get("text") if isinstance(result, dict) else getattr(result, "text", result)
    if not isinstance(text, str):
        raise TypeError(f"the model gave {type(result).__name__} instead of a text")
    text.encode()  # half a surrogate pair is no text: it can be written nowhere
    return text
