"""How fast suggestions come: other questions at each concurrency, in the normal and the fast mode."""

import time
from collections.abc import Iterator, Sequence

from pydantic import BaseModel, ConfigDict

from mondegreen.config import LabelParams, Seconds
from mondegreen.labels.corrector import LlamaLLMCorrector
from mondegreen.labels.prompt import Shot
from mondegreen.labels.suggestion import Question, Suggestion

CONCURRENCIES = (1, 2, 4)


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
    concurrencies: Sequence[int] = CONCURRENCIES,
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
