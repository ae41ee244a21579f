"""The corrector: asks a language model behind Ollama's API what was spoken, and never takes an answer on trust."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Self

from mondegreen.config import LabelParams, Seconds
from mondegreen.labels.asking import in_order
from mondegreen.labels.corrector_run import Asked, Run
from mondegreen.labels.ollama_server import OllamaServer
from mondegreen.labels.prompt import Prompt, Shot
from mondegreen.labels.suggestion import NoSuggestion, Question, Suggestion
from mondegreen.labels.suggestion_cache import ANSWERS, SuggestionCache
from mondegreen.records import Alternative

DEFAULT_MODEL = "llama3.2:3b"


class LlamaLLMCorrector:
    """Suggestions of a language model for hypotheses.

    Args:
        model_name: as Ollama names it: llama3.2:3b, llama3.1:8b, llama2:7b, or any other.
        ollama_base_url: of the server, here or elsewhere; OLLAMA_HOST when not given, else http://localhost:11434.
        fast_mode: a short prompt, a small context, and the model stays loaded.
        prompt: domain words, examples and the rest of what shapes an answer; `fast_mode` makes one when not given.
        timeout: for one answer, in seconds, with the wait for others in the server's queue.
        retries: further tries where the server is away, too late, broken off or answers 5xx.
        backoff: seconds before the second try; it doubles from try to try.
        concurrency: questions asked at the same time.
        cache: file of the answers; None forgets them with this object.

    Raises:
        UsageError: the URL or the cache cannot be used.
    """

    def __init__(
        self,
        model_name: str = DEFAULT_MODEL,
        ollama_base_url: str | None = None,
        fast_mode: bool = False,
        *,
        prompt: Prompt | None = None,
        timeout: Seconds = 120.0,
        retries: int = 3,
        backoff: Seconds = 1.0,
        concurrency: int = 2,
        cache: Path | None = None,
    ) -> None:
        self.model_name = model_name
        self.prompt = prompt or Prompt(fast=fast_mode)
        self.server = OllamaServer(ollama_base_url, timeout)
        self.concurrency = concurrency
        self._cache = SuggestionCache(cache)
        self._asked = Asked(self.server, model_name, self.prompt, self._cache, retries, backoff)

    @classmethod
    def from_params(
        cls, params: LabelParams, shots: Sequence[Shot] = (), cache: Path | None = ANSWERS, *, sample: int = 0
    ) -> Self:
        """The corrector that `label` in params.yaml describes.

        Args:
            sample: 0 for the likeliest answer, else the seed of one that is drawn at `label.sample_temperature`.

        Raises:
            LeakageError: shots that must not be shown.
        """
        prompt = Prompt(
            domain_words=params.domain_words,
            shots=tuple(shots),
            fast=params.fast_mode,
            doubtful_below=params.doubtful_below,
            temperature=params.sample_temperature if sample else 0.0,
            seed=sample,
        )
        return cls(
            params.model,
            params.url,
            prompt=prompt,
            timeout=params.timeout,
            retries=params.retries,
            concurrency=params.concurrency,
            cache=cache,
        )

    @property
    def prompt_version(self) -> str:
        """Digest of the prompt with its domain words, examples and options."""
        return self.prompt.version

    def suggest(
        self, questions: Iterable[Question], on_progress: Callable[[int], None] | None = None
    ) -> Iterator[Suggestion | NoSuggestion]:
        """One suggestion, or why there is none, for each question and in their order.

        What was asked before, of the same weights with the same prompt, comes from the cache. So it does while the
        server is away; then the weights are those that the server had when it was last seen.

        Args:
            questions: taken a few ahead of what is yielded.
            on_progress: gets the number of questions that are done.
        """
        run = Run(self._asked)
        for done, result in enumerate(in_order(run.answer, questions, self.concurrency, run.stopped), 1):
            if on_progress:
                on_progress(done)
            yield result

    def correct(
        self, transcript: str, nbest: Sequence[Alternative] = (), confidence: float = 0.0
    ) -> Suggestion | NoSuggestion:
        """One transcript. A suggestion is no label: read it, or let the guards of the `label` stage."""
        question = Question(id="transcript", text=transcript, confidence=confidence, nbest=tuple(nbest))
        return next(self.suggest([question]))

    def close(self) -> None:
        """Lets connections and the cache's file go."""
        self.server.close()
        self._cache.close()
