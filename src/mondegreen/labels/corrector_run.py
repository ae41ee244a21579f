"""One run over many questions: the cache first, then the server, with tries, and the same weights from start to end."""

import threading
from collections.abc import Callable
from dataclasses import dataclass

from tenacity import Retrying, retry_if_exception, stop_after_attempt, stop_when_event_set, wait_exponential_jitter
from tenacity.nap import sleep_using_event

from mondegreen.config import Seconds
from mondegreen.labels.answer import InvalidAnswerError, longest_answer, transcript
from mondegreen.labels.ollama_server import OllamaServer
from mondegreen.labels.prompt import SCHEMA, Prompt, PromptTooLongError
from mondegreen.labels.server_errors import ServerError
from mondegreen.labels.suggestion import FailureReason, NoSuggestion, Question, Suggestion
from mondegreen.labels.suggestion_cache import SuggestionCache, cache_key

_GIVE_UP = 3  # questions in a row that the server failed with all tries: the rest are not asked


@dataclass(frozen=True)
class Asked:
    """Who is asked, and how. `retries` are further tries, `backoff` the seconds before the first of them."""

    server: OllamaServer
    model: str
    prompt: Prompt
    cache: SuggestionCache
    retries: int
    backoff: Seconds


class Run:
    """One call of `suggest`: the weights it began with, and what it learnt of the server."""

    def __init__(self, asked: Asked) -> None:
        self._of = asked
        self._lock = threading.Lock()
        self._weights: str | None = None
        self._failed_in_row = 0
        self._down: NoSuggestion | None = None  # why nobody is asked any more
        self.stopped = threading.Event()

    def answer(self, question: Question) -> Suggestion | NoSuggestion:
        """Of the cache, else of the server."""
        if not any(text.strip() for text in (question.text, *(item.text for item in question.nbest))):
            return NoSuggestion(id=question.id, reason="nothing_heard", message="There is no word to correct.")
        try:
            messages = self._of.prompt.messages(question)
        except PromptTooLongError:
            said = f"{len(question.text)} characters do not fit into {self._of.prompt.context} tokens of context."
            return NoSuggestion(id=question.id, reason="too_long", message=said)
        if (digest := self._digest()) is None:
            return self._not_asked(question)
        key = cache_key(messages, self._of.prompt.version, digest)
        answer = self._of.cache.answer(key)
        if answer is None:
            if self._down is not None:
                return self._not_asked(question)
            asked = self._ask(question, messages, digest)
            if isinstance(asked, NoSuggestion):
                return asked
            answer = self._of.cache.store_answer(key, asked)
        return self._checked(question, answer, digest)

    def _digest(self) -> str | None:
        """Of the weights of this run; None when neither the server nor the cache knows them."""
        with self._lock:
            if self._weights is None and self._down is None:
                name = self._of.model
                try:
                    self._weights = self._tried(lambda: self._of.server.digest(name))
                    self._of.cache.store_digest(name, self._weights)
                except ServerError as error:
                    self._weights = self._of.cache.digest(name)
                    reason: FailureReason = "unavailable" if error.reason == "invalid_answer" else error.reason
                    self._down = _none("", reason, f"{error.problem} {error.next_step}")
            return self._weights

    def _ask(self, question: Question, messages: list[dict[str, str]], digest: str) -> str | NoSuggestion:
        """The raw answer of the weights that the run began with."""
        of = self._of
        try:
            answer = self._tried(
                lambda: of.server.chat(of.model, messages, SCHEMA, of.prompt.options(question), of.prompt.keep_alive)
            )
            now = self._tried(lambda: of.server.digest(of.model))
        except ServerError as error:
            return self._failed(question, error)
        self._failed_in_row = 0
        if now != digest:
            return self._changed(question, digest, now)
        return answer[: longest_answer(question) + 1]

    def _tried(self, request: Callable[[], str]) -> str:
        tries = Retrying(
            stop=stop_after_attempt(1 + self._of.retries) | stop_when_event_set(self.stopped),
            wait=wait_exponential_jitter(initial=self._of.backoff, max=30, jitter=self._of.backoff / 2),
            retry=retry_if_exception(lambda error: isinstance(error, ServerError) and error.passing),
            sleep=sleep_using_event(self.stopped),
            reraise=True,
        )
        return tries(request)

    def _failed(self, question: Question, error: ServerError) -> NoSuggestion:
        tries = f" ({1 + self._of.retries} tries)" if error.passing and self._of.retries else ""
        found = _none(question.id, error.reason, f"{error.problem}{tries} {error.next_step}")
        with self._lock:
            self._failed_in_row += 1
            if self._failed_in_row >= _GIVE_UP or not (error.passing or error.reason == "invalid_answer"):
                self._down = self._down or found
        return found

    def _changed(self, question: Question, before: str, now: str) -> NoSuggestion:
        said = (
            f"{self._of.model} was {before[:12]} when the run began and is {now[:12]} now. "
            "Run again: what the former weights wrote says so."
        )
        found = _none(question.id, "changed_model", said)
        with self._lock:
            self._down = self._down or found
        return found

    def _not_asked(self, question: Question) -> NoSuggestion:
        assert self._down is not None
        return self._down.model_copy(update={"id": question.id, "message": f"Not asked: {self._down.message}"})

    def _checked(self, question: Question, answer: str, digest: str) -> Suggestion | NoSuggestion:
        try:
            text = transcript(answer, question)
        except InvalidAnswerError as error:
            return _none(question.id, "invalid_answer", f"{self._of.model}: {error}.")
        return Suggestion(
            id=question.id,
            text=text,
            model=self._of.model,
            digest=digest,
            prompt_version=self._of.prompt.version,
        )


def _none(id_: str, reason: FailureReason, message: str) -> NoSuggestion:
    return NoSuggestion(id=id_, reason=reason, message=" ".join(message.split()))
