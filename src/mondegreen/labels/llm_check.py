"""Can the language model be used, and how fast is it? A check step by step, and a benchmark of suggestions."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict

from mondegreen.config import LabelParams, Seconds
from mondegreen.labels.corrector import LlamaLLMCorrector
from mondegreen.labels.ollama import OllamaServer, ServerError
from mondegreen.labels.prompt import SCHEMA, InvalidResponseError, Prompt, Question, Shot, Suggestion, parse_response
from mondegreen.records import Alternative

# Misheard, as a weak recogniser would.
EXAMPLES = tuple(
    Question(
        id=f"example-{number}",
        text=text,
        confidence=0.8,
        nbest=(Alternative(text=text, score=-8.0), Alternative(text=other, score=-8.5)),
    )
    for number, (text, other) in enumerate(
        (
            ("please leaf a massage after the tone", "please leave a massage after the tone"),
            ("your cal may be recorded for training", "your call may be recorded four training"),
            ("thank you for holed ing", "thank you for holding"),
            ("for english press won", "fore english press one"),
        ),
        1,
    )
)


class CheckStep(BaseModel):
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
    steps: tuple[CheckStep, ...]


def check(
    server: OllamaServer, model: str, prompt: Prompt, on_step: Callable[[CheckStep], None] | None = None
) -> CheckReport:
    """Server reachable, model present, answers, schema honoured, and how long a transcript takes.

    Args:
        server: that is asked.
        model: as Ollama names it.
        prompt: how it will be asked.
        on_step: gets each step when it is done.
    """
    steps: list[CheckStep] = []
    found = _ServerCheck(server, model, prompt)
    tries: dict[str, Callable[[], str]] = {
        "server reachable": found.reach,
        "model present": found.find,
        "model answers": found.ask,
        "schema honoured": found.read,
        "seconds per transcript": found.measure,
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
        digest=found.digest,
        seconds_per_transcript=found.seconds,
        steps=tuple(steps),
    )


@dataclass
class _ServerCheck:
    """The steps of a check, each in one line, and what they find out for the next ones and the report."""

    server: OllamaServer
    model: str
    prompt: Prompt
    digest: str = ""
    answer: str = ""  # to the first example
    seconds: Seconds | None = None

    def reach(self) -> str:
        return f"{self.server.url}, models installed: {len(self.server.models())}"

    def find(self) -> str:
        self.digest = self.server.digest(self.model)
        return f"{self.model}, {self.digest[:12]}"

    def ask(self) -> str:
        started = time.monotonic()
        self.answer = self._answer(EXAMPLES[0])
        return f"after {time.monotonic() - started:.1f} s, loading it included"

    def read(self) -> str:
        return f"{EXAMPLES[0].text!r} -> {parse_response(self.answer, EXAMPLES[0])!r}"

    def measure(self) -> str:
        started = time.monotonic()
        for other in EXAMPLES[1:]:
            self._answer(other)
        self.seconds = (time.monotonic() - started) / len(EXAMPLES[1:])
        return f"{self.seconds:.2f} s, one after the other"

    def _answer(self, question: Question) -> str:
        messages, options = self.prompt.messages(question), self.prompt.options(question)
        return self.server.chat(self.model, messages, SCHEMA, options, self.prompt.keep_alive)


def _taken(name: str, step: Callable[[], str]) -> CheckStep:
    try:
        return CheckStep(name=name, ok=True, found=step())
    except ServerError as error:
        return CheckStep(name=name, ok=False, found=error.problem, remedy=error.next_step)
    except InvalidResponseError as error:
        remedy = "Take another model, `mondegreen llm models` shows some; an old Ollama (before 0.5) knows no schema."
        return CheckStep(name=name, ok=False, found=str(error), remedy=remedy)


class BenchRow(BaseModel):
    """One pass over the questions."""

    model_config = ConfigDict(frozen=True)

    fast_mode: bool
    concurrency: int
    transcripts: int
    suggestions: int  # of them with a usable answer
    seconds_per_transcript: Seconds  # that one takes, in the midst of the others
    transcripts_per_second: float


def bench(
    questions: Sequence[Question],
    params: LabelParams,
    shots: Sequence[Shot] = (),
    concurrencies: Sequence[int] = (1, 2, 4),
) -> Iterator[BenchRow]:
    """Without the cache; one question before each mode, which loads the model, is not counted.

    Args:
        questions: each concurrency gets its share of them, since a server remembers prompts that it has read.
        params: model, server and prompt.
        shots: examples of the prompt.
        concurrencies: one row for each, in both modes.

    Raises:
        ServerError: the server or the model is not there.
    """
    _corrector(params, shots, False, 1).server.digest(params.model)
    for fast in (False, True):
        _corrector(params, shots, fast, 1).correct(questions[0].text)
        for place, concurrency in enumerate(concurrencies):
            corrector = _corrector(params, shots, fast, concurrency)
            started = time.monotonic()
            answers = list(corrector.suggest(questions[place :: len(concurrencies)]))
            seconds = time.monotonic() - started
            corrector.close()
            yield BenchRow(
                fast_mode=fast,
                concurrency=concurrency,
                transcripts=len(answers),
                suggestions=sum(isinstance(answer, Suggestion) for answer in answers),
                seconds_per_transcript=seconds * min(concurrency, len(answers)) / len(answers),
                transcripts_per_second=len(answers) / seconds,
            )


def _corrector(params: LabelParams, shots: Sequence[Shot], fast: bool, concurrency: int) -> LlamaLLMCorrector:
    changed = params.model_copy(update={"fast_mode": fast, "concurrency": concurrency})
    return LlamaLLMCorrector.from_params(changed, shots, cache=None)
