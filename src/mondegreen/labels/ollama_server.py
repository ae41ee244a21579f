"""The one way to an Ollama server: its own client, bounded in time and size, with errors that say the next step."""

import os
import re
import socket
import ssl
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import ollama

from mondegreen.config import Seconds
from mondegreen.errors import MondegreenError, UsageError
from mondegreen.labels.bounded_http import BoundedTransport, TooLongError
from mondegreen.labels.suggestion import FailureReason

DEFAULT_URL = "http://localhost:11434"
_CONNECT: Seconds = 10.0
_LIST: Seconds = 30.0  # for the list of models, which a server has at hand
_PULL: Seconds = 600.0  # between two lines of a download
_QUOTED = 160  # characters of a server's words that a message repeats


class ServerError(MondegreenError):
    """The server did not do what was asked.

    Args:
        reason: what a question gets instead of a suggestion.
        passing: the same request may succeed in a moment.
    """

    def __init__(self, problem: str, next_step: str, reason: FailureReason, passing: bool = False) -> None:
        self.reason, self.passing = reason, passing
        super().__init__(problem, next_step)


@dataclass(frozen=True)
class InstalledModel:
    """A model that the server holds. `size` in bytes."""

    name: str
    digest: str
    size: int


@dataclass(frozen=True)
class PullStep:
    """One line of a download: bytes `completed` of `total`, both 0 where the server counts nothing."""

    status: str
    layer: str
    completed: int
    total: int


class OllamaServer:
    """A server that speaks Ollama's HTTP API.

    Redirects are not followed and no proxy is used: transcripts go to the server that was named, and nowhere else.

    Args:
        url: http://host:port, also of another machine; OLLAMA_HOST when not given, else http://localhost:11434.
        timeout: for one answer. A server that works on several waits for some of them first, and loads a model first.

    Raises:
        UsageError: the URL cannot be read.
    """

    def __init__(self, url: str | None = None, timeout: Seconds = 120.0) -> None:
        wanted = url or os.environ.get("OLLAMA_HOST") or DEFAULT_URL
        self.url = re.sub(r"//[^@/]*@", "//", wanted)  # as messages show it: without a password
        self.timeout = timeout
        try:
            self._client = self._connected(wanted, timeout)
            self._listing = self._connected(wanted, min(timeout, _LIST))
            self._pulling = self._connected(wanted, None)
        except (ValueError, httpx.InvalidURL) as error:
            raise UsageError(
                f"{self.url} is no URL of a server ({error}).", f"Set label.url or OLLAMA_HOST, such as {DEFAULT_URL}."
            ) from None

    @staticmethod
    def _connected(url: str, timeout: Seconds | None) -> ollama.Client:
        return ollama.Client(
            url,
            timeout=httpx.Timeout(timeout or _PULL, connect=min(timeout or _CONNECT, _CONNECT)),
            headers={"accept-encoding": "identity"},
            follow_redirects=False,
            transport=BoundedTransport(timeout),
        )

    def close(self) -> None:
        """Lets the connections go."""
        for client in (self._client, self._listing, self._pulling):
            client.close()  # type: ignore[no-untyped-call]

    def models(self) -> list[InstalledModel]:
        """What is installed, by name; raises ServerError."""
        with self._explained():
            listed = self._listing.list().models
        found = (InstalledModel(m.model or "", m.digest or "", int(m.size or 0)) for m in listed)
        return sorted((model for model in found if model.name), key=lambda model: model.name)

    def digest(self, model: str) -> str:
        """Hex digest of the weights that the server has under this name; raises ServerError."""
        named = {item.name: item.digest for item in self.models()}
        if full_name(model) not in named:
            raise self._no_model(model)
        if not (digest := named[full_name(model)].removeprefix("sha256:")):
            raise ServerError(
                f"{self.url} names no digest for {model}.",
                "Update Ollama: labels must say which weights wrote them.",
                "no_model",
            )
        return digest

    def chat(
        self,
        model: str,
        messages: Sequence[Mapping[str, str]],
        schema: Mapping[str, Any],
        options: Mapping[str, Any],
        keep_alive: str | None = None,
    ) -> str:
        """The text of one answer, which should be JSON by `schema`; raises ServerError."""
        with self._explained(model):
            answer = self._client.chat(
                model, messages, format=dict(schema), options=dict(options), keep_alive=keep_alive, stream=False
            )
            if answer.done is False:
                raise httpx.RemoteProtocolError("the answer ends before it is done")
        return str(answer.message.content or "")

    def pull(self, model: str) -> Iterator[PullStep]:
        """Downloads a model to the server, step by step; broken off, the next call goes on. Raises ServerError."""
        with self._explained(model):
            for step in self._pulling.pull(model, stream=True):
                yield PullStep(step.status or "", step.digest or "", step.completed or 0, step.total or 0)

    @contextmanager
    def _explained(self, model: str = "") -> Iterator[None]:
        try:
            yield
        except ollama.ResponseError as error:
            raise self._refused(error, model) from None
        except httpx.TimeoutException as error:
            raise self._late(error) from None
        except (ConnectionError, httpx.ConnectError) as error:
            raise self._unreachable(error) from None
        except TooLongError as error:
            said = f"The answer of {self.url} is over {error} bytes."
            raise ServerError(said, "Take another model.", "invalid_answer") from None
        except httpx.HTTPError as error:
            raise self._broken_off(error) from None
        except (ValueError, TypeError, AttributeError):  # no JSON, or JSON of another shape
            raise self._not_ollama("its answer is not Ollama's") from None

    def _refused(self, error: ollama.ResponseError, model: str) -> ServerError:
        code, said = error.status_code, " ".join(str(error.error).split())[:_QUOTED]
        if code == 404 and model and "not found" in said:
            return self._no_model(model)
        if code < 0:  # within a stream: what a download says when it fails
            return ServerError(
                f"{self.url} cannot pull {model}: {said}.", "Check the name at https://ollama.com/library.", "no_model"
            )
        if code in (408, 429) or code >= 500:
            return ServerError(
                f"{self.url} answered {code}: {said}.",
                "Look into the server's log (out of memory?), or take a smaller model.",
                "unavailable",
                passing=True,
            )
        return self._not_ollama(f"it answered {code}")

    def _late(self, error: httpx.TimeoutException) -> ServerError:
        if isinstance(error, httpx.ConnectTimeout):
            return ServerError(
                f"{self.url} cannot be reached: no connection within {min(self.timeout, _CONNECT):g} s.",
                "Check host, port and firewall (label.url or OLLAMA_HOST).",
                "unavailable",
                passing=True,
            )
        return ServerError(
            f"{self.url} did not answer within {self.timeout:g} s.",
            "Raise label.timeout, lower label.concurrency, or take a smaller model.",
            "timeout",
            passing=True,
        )

    def _broken_off(self, error: httpx.HTTPError) -> ServerError:
        if "illegal" in str(error):  # an answer that is no HTTP at all
            return self._not_ollama("it speaks no HTTP")
        return ServerError(
            f"{self.url} broke off in the middle of its answer ({type(error).__name__}).",
            "Look into the server's log (out of memory?), and whether it is Ollama.",
            "invalid_answer",
            passing=True,
        )

    def _unreachable(self, error: BaseException) -> ServerError:
        causes = list(_causes(error))
        if any(isinstance(cause, socket.gaierror) for cause in causes):
            step, why = "Check the host's name in label.url or OLLAMA_HOST.", "nobody knows that host"
        elif any(isinstance(cause, ssl.SSLError) for cause in causes):
            step, why = "Check whether the URL should begin with http:// instead.", "it speaks no TLS, or not ours"
        elif any(isinstance(cause, ConnectionRefusedError) for cause in causes):
            step, why = "Start it: `ollama serve`; or name another: label.url or OLLAMA_HOST.", "nothing listens there"
        else:
            step, why = "Check host and port: label.url or OLLAMA_HOST.", str(causes[-1]) or "no connection"
        return ServerError(f"{self.url} cannot be reached: {why}.", step, "unavailable", passing=True)

    def _not_ollama(self, why: str) -> ServerError:
        return ServerError(
            f"What listens on {self.url} is not Ollama: {why}.",
            "Another program uses the port: stop it, or start Ollama elsewhere "
            "(`OLLAMA_HOST=127.0.0.1:11435 ollama serve`) and name that in label.url or OLLAMA_HOST.",
            "unavailable",
        )

    def _no_model(self, model: str) -> ServerError:
        return ServerError(
            f"{self.url} has no model {model}.",
            f"Get it: `mondegreen llm pull {model}`; `mondegreen llm models` shows what is there.",
            "no_model",
        )


def full_name(model: str) -> str:
    """A model's name with its tag, as Ollama lists it: "llama3.2" is "llama3.2:latest"."""
    return model if ":" in model.rpartition("/")[2] else f"{model}:latest"


def _causes(error: BaseException) -> Iterator[BaseException]:
    found: BaseException | None = error
    while found is not None:
        yield found
        found = found.__cause__ or found.__context__
