"""The corrector: asks a language model behind Ollama's API what was spoken, and never takes an answer on trust.

Many questions are asked at once and answered in their order, from the cache of answers that were paid for before, else
by the server, with further tries where it fails and the same weights from start to end.
"""

import hashlib
import json
import sqlite3
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue
from typing import Self, TypeVar

from tenacity import Retrying, retry_if_exception, stop_after_attempt, stop_when_event_set, wait_exponential_jitter
from tenacity.nap import sleep_using_event

from mondegreen.config import LabelParams, Seconds
from mondegreen.errors import UsageError
from mondegreen.labels.ollama import OllamaServer, ServerError
from mondegreen.labels.prompt import (
    SCHEMA,
    FailureReason,
    InvalidResponseError,
    NoSuggestion,
    Prompt,
    PromptTooLongError,
    Question,
    Shot,
    Suggestion,
    longest_response,
    parse_response,
)
from mondegreen.records import Alternative

Item = TypeVar("Item")
Result = TypeVar("Result")

ANSWERS = Path("var/llm/answers.db")
DEFAULT_MODEL = "llama3.2:3b"
THREADS = "mondegreen-corrector"  # their name
_AHEAD = 4  # questions in hand for each thread, so that a slow one holds nobody up
_GIVE_UP = 3  # questions in a row that the server failed with all tries: the rest are not asked


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
        self.cache = SuggestionCache(cache)
        self.retries, self.backoff, self.concurrency = retries, backoff, concurrency

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

    def weights(self, stopped: threading.Event | None = None) -> str:
        """Digest of the weights that the server has now under the model's name.

        Args:
            stopped: when it is set, nothing is tried again.

        Raises:
            ServerError: with all tries.
        """
        return self.tried(lambda: self.server.digest(self.model_name), stopped or threading.Event())

    def tried(self, request: Callable[[], str], stopped: threading.Event) -> str:
        """What `request` gives, with further tries where a ServerError may pass; the last one is raised."""
        tries = Retrying(
            stop=stop_after_attempt(1 + self.retries) | stop_when_event_set(stopped),
            wait=wait_exponential_jitter(initial=self.backoff, max=30, jitter=self.backoff / 2),
            retry=retry_if_exception(lambda error: isinstance(error, ServerError) and error.passing),
            sleep=sleep_using_event(stopped),
            reraise=True,
        )
        return tries(request)

    def key(self, question: Question, weights: str) -> str | None:
        """Of its answer in the cache, for these weights; None for a question that is not asked."""
        if not _has_words(question):
            return None
        try:
            return cache_key(self.prompt.messages(question), self.prompt.version, weights)
        except PromptTooLongError:
            return None

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
        run = _SuggestionRun(self)
        for done, result in enumerate(map_in_order(run.answer, questions, self.concurrency, run.stopped), 1):
            if on_progress:
                on_progress(done)
            yield result

    def correct(
        self, transcript: str, nbest: Sequence[Alternative] = (), confidence: float = 0.0
    ) -> Suggestion | NoSuggestion:
        """One transcript. A suggestion is no label: read it, or leave it to the guards of the `label` stage."""
        question = Question(id="transcript", text=transcript, confidence=confidence, nbest=tuple(nbest))
        return next(self.suggest([question]))

    def close(self) -> None:
        """Lets connections and the cache's file go."""
        self.server.close()
        self.cache.close()


class _SuggestionRun:
    """One call of `suggest`: the weights it began with, and what it learnt of the server."""

    def __init__(self, corrector: LlamaLLMCorrector) -> None:
        self._of = corrector
        self._lock = threading.Lock()
        self._weights: str | None = None
        self._failed_in_row = 0
        self._down: NoSuggestion | None = None  # why nobody is asked any more
        self.stopped = threading.Event()

    def answer(self, question: Question) -> Suggestion | NoSuggestion:
        """From the cache, else from the server."""
        of = self._of
        if not _has_words(question):
            return _none(question.id, "nothing_heard", "There is no word to correct.")
        try:
            messages = of.prompt.messages(question)
        except PromptTooLongError:
            said = f"{len(question.text)} characters do not fit into {of.prompt.context} tokens of context."
            return _none(question.id, "too_long", said)
        if (digest := self._digest()) is None:
            return self._not_asked(question)
        key = cache_key(messages, of.prompt.version, digest)
        if (answer := of.cache.answer(key)) is None:
            if self._down is not None:
                return self._not_asked(question)
            try:
                asked = self._ask(question, messages)
                now = of.weights(self.stopped)
            except ServerError as error:
                return self._failed(question, error)
            self._failed_in_row = 0
            if now != digest:
                return self._changed(question, digest, now)
            answer = of.cache.store_answer(key, asked)
        return self._checked(question, answer, digest)

    def _digest(self) -> str | None:
        """Of the weights of this run; None when neither the server nor the cache knows them."""
        with self._lock:
            if self._weights is None and self._down is None:
                name, cache = self._of.model_name, self._of.cache
                try:
                    self._weights = self._of.weights(self.stopped)
                    cache.store_digest(name, self._weights)
                except ServerError as error:
                    self._weights = cache.digest(name)
                    reason: FailureReason = "unavailable" if error.reason == "invalid_answer" else error.reason
                    self._down = _none("", reason, f"{error.problem} {error.next_step}")
            return self._weights

    def _ask(self, question: Question, messages: list[dict[str, str]]) -> str:
        """The raw answer of the server, cut where it is too long for any transcript."""
        of = self._of
        options = of.prompt.options(question)

        def chat() -> str:
            return of.server.chat(of.model_name, messages, SCHEMA, options, of.prompt.keep_alive)

        return of.tried(chat, self.stopped)[: longest_response(question) + 1]

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
            f"{self._of.model_name} was {before[:12]} when the run began and is {now[:12]} now. "
            "Run again: what the former weights wrote says so."
        )
        found = _none(question.id, "changed_model", said)
        with self._lock:
            self._down = self._down or found
        return found

    def _not_asked(self, question: Question) -> NoSuggestion:
        assert self._down is not None
        return _none(question.id, self._down.reason, f"Not asked: {self._down.message}")

    def _checked(self, question: Question, answer: str, digest: str) -> Suggestion | NoSuggestion:
        name, version = self._of.model_name, self._of.prompt.version
        try:
            text = parse_response(answer, question)
        except InvalidResponseError as error:
            return _none(question.id, "invalid_answer", f"{name}: {error}.")
        return Suggestion(id=question.id, text=text, model=name, digest=digest, prompt_version=version)


def _has_words(question: Question) -> bool:
    return any(text.strip() for text in question.guesses)


def _none(id_: str, reason: FailureReason, message: str) -> NoSuggestion:
    return NoSuggestion(id=id_, reason=reason, message=" ".join(message.split()))


_SCHEMA = """
CREATE TABLE IF NOT EXISTS answers (key TEXT PRIMARY KEY, answer TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS models (name TEXT PRIMARY KEY, digest TEXT NOT NULL) WITHOUT ROWID;
"""


class SuggestionCache:
    """Answers by what was asked of which weights, in SQLite, and the digest that each model's name last stood for.

    Processes share the file, and a run that is killed loses nothing. The digest is what lets a run go by the cache
    alone while the server is away.

    Args:
        path: of the file; made where it is missing. None keeps all in memory.

    Raises:
        UsageError: the file is no such cache.
    """

    def __init__(self, path: Path | None = ANSWERS) -> None:
        self._path, self._lock = path, threading.Lock()
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
        with self._readable():
            self._connection = sqlite3.connect(
                path or ":memory:", timeout=60.0, isolation_level=None, check_same_thread=False
            )
            self._connection.execute("PRAGMA journal_mode=WAL")
            self._connection.executescript(_SCHEMA)

    def close(self) -> None:
        """Closes the file."""
        self._connection.close()

    def answer(self, key: str) -> str | None:
        """The raw answer, or None when this was never asked."""
        return self._value("SELECT answer FROM answers WHERE key = ?", key)

    def digest(self, model: str) -> str | None:
        """The digest that the model's name stood for when a server was last asked."""
        return self._value("SELECT digest FROM models WHERE name = ?", model)

    def store_answer(self, key: str, answer: str) -> str:
        """Keeps an answer and gives the one that counts: of two processes with the same question, the first."""
        with self._readable(), self._lock:
            self._connection.execute("INSERT OR IGNORE INTO answers VALUES (?, ?)", (key, answer))
        return self.answer(key) or answer

    def store_digest(self, model: str, digest: str) -> None:
        """Notes what a model's name stands for now."""
        with self._readable(), self._lock:
            self._connection.execute("INSERT OR REPLACE INTO models VALUES (?, ?)", (model, digest))

    def _value(self, query: str, key: str) -> str | None:
        with self._readable(), self._lock:
            row = self._connection.execute(query, (key,)).fetchone()
        return None if row is None else str(row[0])

    @contextmanager
    def _readable(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise UsageError(
                f"{self._path} cannot be used: {error}.",
                "It holds answers of the LLM and only saves work: delete it with its -wal and -shm, or free the disk.",
            ) from None


def cache_key(messages: Sequence[Mapping[str, str]], prompt_version: str, digest: str) -> str:
    """Of the hypotheses (as the messages hold them), the prompt version and the weights."""
    return hashlib.sha256(json.dumps([list(messages), prompt_version, digest]).encode()).hexdigest()


def map_in_order(
    work: Callable[[Item], Result], items: Iterable[Item], at_once: int, stop: threading.Event
) -> Iterator[Result]:
    """Yields work(item) for each item, in their order, from a pool of `at_once` threads.

    The threads are daemons: ctrl-C ends the program without waiting for a server that hangs. `stop` is set when the
    caller takes no more; what was not begun then is left.
    """
    jobs: SimpleQueue[tuple[Item, Future[Result]] | None] = SimpleQueue()
    for _ in range(at_once):
        threading.Thread(target=_work_off, args=(work, jobs, stop), name=THREADS, daemon=True).start()
    pending: deque[Future[Result]] = deque()
    try:
        for item in items:
            pending.append(Future())
            jobs.put((item, pending[-1]))
            if len(pending) >= at_once * _AHEAD:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        stop.set()
        for _ in range(at_once):
            jobs.put(None)


def _work_off(
    work: Callable[[Item], Result],
    jobs: "SimpleQueue[tuple[Item, Future[Result]] | None]",
    stop: threading.Event,
) -> None:
    while (job := jobs.get()) is not None and not stop.is_set():
        item, future = job
        try:
            future.set_result(work(item))
        except BaseException as error:  # the caller raises it
            future.set_exception(error)
