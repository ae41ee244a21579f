"""Questions to a language model on a cluster: every machine of a Ray asks the server that runs on it.

What they answer goes into this machine's cache of answers as it comes, and then the ordinary run goes through the
questions and finds them there. So the labels are the same whoever asked, and what was answered before somebody was
killed is not asked again.
"""

import logging
import socket
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mondegreen.compute import FailedShard, in_parts, map_shards
from mondegreen.config import ComputeParams, LabelParams
from mondegreen.errors import CloudError, MondegreenError, UsageError
from mondegreen.labels.corrector import LlamaLLMCorrector
from mondegreen.labels.ollama import ServerError
from mondegreen.labels.prompt import NoSuggestion, Question, Shot, Suggestion

logger = logging.getLogger(__name__)
SHARD = 8  # questions that a worker gets at a time: few, since a death costs all of them


class ClusterCorrector:
    """A corrector whose questions the machines of `compute` ask; what they leave is asked from here.

    Args:
        params: model, prompt and limits. The server is `label.url` where it is set, one for all; else what
            OLLAMA_HOST says on each machine, else port 11434 of it.
        shots: examples for the prompt.
        compute: the cluster. A machine has one worker, which asks `label.concurrency` questions at the same time.
        sample: see `LlamaLLMCorrector.from_params`.
    """

    def __init__(self, params: LabelParams, shots: Sequence[Shot], compute: ComputeParams, sample: int = 0) -> None:
        self._params, self._shots, self._compute, self._sample = params, tuple(shots), compute, sample
        self._here = LlamaLLMCorrector.from_params(params, shots, sample=sample)

    def suggest(
        self, questions: Iterable[Question], on_progress: Callable[[int], None] | None = None
    ) -> Iterator[Suggestion | NoSuggestion]:
        """As `LlamaLLMCorrector.suggest`; all questions are taken before the first answer is yielded.

        Raises:
            MondegreenError: a machine has no server or other weights, and label.on_unavailable is "fail".
            UsageError: the extra `ray` is not installed.
            CloudError: no Ray answers at RAY_ADDRESS.
        """
        asked, most = list(questions), 0

        def progress(done: int) -> None:
            nonlocal most
            if on_progress and done > most:
                most = done
                on_progress(done)

        try:
            self._fill_cache(asked, progress)
        except (UsageError, CloudError):
            raise
        except MondegreenError as error:
            if self._params.on_unavailable == "fail":
                raise
            logger.warning("%s What the cluster did not answer is asked from here.", error.problem)
        yield from self._here.suggest(asked, progress)

    def _fill_cache(self, questions: Sequence[Question], on_progress: Callable[[int], None]) -> None:
        weights, cache = self._weights(), self._here.cache
        missing = [item for item in questions if (key := self._here.key(item, weights)) and cache.answer(key) is None]
        parts = in_parts(missing, SHARD)
        done = len(questions) - len(missing)
        on_progress(done)
        worker = QuestionWorker(self._params, self._shots, self._sample, weights)
        for number, found in map_shards(worker, parts, self._compute, one_a_machine=True):
            if isinstance(found, FailedShard):
                found = Answers({}, found.why)
            for key, answer in found.by_key.items():
                cache.store_answer(key, answer)
            if left := len(parts[number]) - len(found.by_key):
                logger.warning("%d questions were not answered on the cluster: %s", left, found.failure)
            done += len(found.by_key)
            on_progress(done)

    def _weights(self) -> str:
        """Digest of the weights that are asked: those of this machine's server, else those of the cluster's."""
        try:
            return self._here.weights()
        except ServerError:
            worker = QuestionWorker(self._params, self._shots, self._sample, "")
            [(_, found)] = map_shards(worker, [()], self._compute, one_a_machine=True)
            if isinstance(found, FailedShard):
                raise MondegreenError(found.why) from None
            self._here.cache.store_digest(self._params.model, found.weights)
            return found.weights


@dataclass(frozen=True)
class Answers:
    """Of a worker: raw answers by their keys in the cache, why others are missing, and the weights that it asked."""

    by_key: dict[str, str]
    failure: str = ""
    weights: str = ""


@dataclass(frozen=True)
class QuestionWorker:
    """Opens a worker: it asks the server of its machine, which must hold `weights`, or any where that is ""."""

    params: LabelParams
    shots: tuple[Shot, ...]
    sample: int
    weights: str

    def __call__(self, folder: Path | None) -> Callable[[Sequence[Question]], Answers]:
        corrector = LlamaLLMCorrector.from_params(self.params, self.shots, None, sample=self.sample)
        try:
            weights = corrector.weights()
        except ServerError as error:
            raise MondegreenError(f"On {socket.gethostname()}: {error.problem}", error.next_step) from None
        if self.weights not in ("", weights):
            raise MondegreenError(
                f"On {socket.gethostname()} {self.params.model} is {weights[:12]}, elsewhere {self.weights[:12]}.",
                f"Pull the same model on every machine: `mondegreen llm pull {self.params.model}`.",
            )

        def ask(questions: Sequence[Question]) -> Answers:
            failed = [item.message for item in corrector.suggest(questions) if isinstance(item, NoSuggestion)]
            keys = filter(None, (corrector.key(question, weights) for question in questions))
            found = {key: answer for key in keys if (answer := corrector.cache.answer(key)) is not None}
            return Answers(found, failed[0] if failed else "", weights)

        return ask
