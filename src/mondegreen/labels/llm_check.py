"""Can the language model be used? Each step with what was found, and what to do where it fails."""

import time
from collections.abc import Callable

from pydantic import BaseModel, ConfigDict

from mondegreen.config import Seconds
from mondegreen.labels.answer import InvalidAnswerError, transcript
from mondegreen.labels.ollama_server import OllamaServer
from mondegreen.labels.prompt import SCHEMA, Prompt
from mondegreen.labels.server_errors import ServerError
from mondegreen.labels.suggestion import Question
from mondegreen.records import Alternative, Word

# Misheard, as a weak recogniser would.
EXAMPLES = tuple(
    Question(
        id=f"example-{number}",
        text=text,
        confidence=0.8,
        words=tuple(
            Word(text=word, start=place, end=place + 1, confidence=0.5 if word in doubtful else 0.9)
            for place, word in enumerate(text.split())
        ),
        nbest=(Alternative(text=text, score=-8.0), Alternative(text=other, score=-8.5)),
    )
    for number, (text, other, doubtful) in enumerate(
        (
            ("please leaf a massage after the tone", "please leave a massage after the tone", ("leaf", "massage")),
            ("your cal may be recorded for training", "your call may be recorded four training", ("cal",)),
            ("thank you for holed ing", "thank you for holding", ("holed", "ing")),
            ("for english press won", "fore english press one", ("won",)),
        ),
        1,
    )
)


class Step(BaseModel):
    """One question to the server and what came of it. `remedy` is empty when it went well."""

    model_config = ConfigDict(frozen=True)

    name: str
    ok: bool
    found: str
    remedy: str = ""


class CheckReport(BaseModel):
    """Steps up to the first that failed."""

    model_config = ConfigDict(frozen=True)

    ok: bool
    url: str
    model: str
    digest: str
    seconds_per_transcript: Seconds | None  # with the model loaded
    steps: tuple[Step, ...]


def check(
    server: OllamaServer, model: str, prompt: Prompt, on_step: Callable[[Step], None] | None = None
) -> CheckReport:
    """Server reachable, model present, answers, schema honoured, and how long a transcript takes.

    Args:
        server: that is asked.
        model: as Ollama names it.
        prompt: how it will be asked.
        on_step: gets each step when it is done.
    """
    steps: list[Step] = []
    digest, answer, seconds = "", "", None
    question = EXAMPLES[0]

    def reach() -> str:
        return f"{server.url}, models installed: {len(server.models())}"

    def find() -> str:
        nonlocal digest
        digest = server.digest(model)
        return f"{model}, {digest[:12]}"

    def ask() -> str:
        nonlocal answer
        started = time.monotonic()
        answer = _asked(server, model, prompt, question)
        return f"after {time.monotonic() - started:.1f} s, loading it included"

    def read() -> str:
        return f"{question.text!r} -> {transcript(answer, question)!r}"

    def measure() -> str:
        nonlocal seconds
        started = time.monotonic()
        for other in EXAMPLES[1:]:
            _asked(server, model, prompt, other)
        seconds = (time.monotonic() - started) / len(EXAMPLES[1:])
        return f"{seconds:.2f} s, one after the other"

    tries: dict[str, Callable[[], str]] = {
        "server reachable": reach,
        "model present": find,
        "model answers": ask,
        "schema honoured": read,
        "seconds per transcript": measure,
    }
    for name, step in tries.items():
        steps.append(_taken(name, step))
        if on_step:
            on_step(steps[-1])
        if not steps[-1].ok:
            break
    return CheckReport(
        ok=all(step.ok for step in steps),
        url=server.url,
        model=model,
        digest=digest,
        seconds_per_transcript=seconds,
        steps=tuple(steps),
    )


def _asked(server: OllamaServer, model: str, prompt: Prompt, question: Question) -> str:
    return server.chat(model, prompt.messages(question), SCHEMA, prompt.options(question), prompt.keep_alive)


def _taken(name: str, step: Callable[[], str]) -> Step:
    try:
        return Step(name=name, ok=True, found=step())
    except ServerError as error:
        return Step(name=name, ok=False, found=error.problem, remedy=error.next_step)
    except InvalidAnswerError as error:
        remedy = "Take another model, `mondegreen llm models` shows some; an old Ollama (before 0.5) knows no schema."
        return Step(name=name, ok=False, found=str(error), remedy=remedy)
