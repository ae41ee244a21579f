"""The one way to an Ollama server: its own client, bounded in time and size, with errors that say the next step."""

import os
import re
import socket
import ssl
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx
import ollama
from pydantic import BaseModel, ConfigDict

from mondegreen.config import Seconds
from mondegreen.errors import MondegreenError, UsageError

if TYPE_CHECKING:
    from mondegreen.labels.prompt import FailureReason

DEFAULT_URL = "http://localhost:11434"
LONGEST_CONNECT: Seconds = 10.0
_LIST: Seconds = 30.0  # for the list of models, which a server has at hand
_PULL: Seconds = 600.0  # between two lines of a download
LONGEST_ANSWER = 1_000_000  # bytes; a list of some hundred models is far below it
_QUOTED = 160  # characters of a server's words that a message repeats
# Models that the fine-tuning guide names, with download sizes as https://ollama.com/library names them.
RECOMMENDED = {
    "llama3.2:3b": ("2.0 GB", "the default"),
    "llama3.1:8b": ("4.9 GB", "better, slower"),
    "llama2:7b": ("3.8 GB", "older"),
}


@dataclass(frozen=True)
class InstalledModel:
    """A model that the server holds. `size` in bytes."""

    name: str
    digest: str
    size: int


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
            timeout=httpx.Timeout(timeout or _PULL, connect=min(timeout or LONGEST_CONNECT, LONGEST_CONNECT)),
            headers={"accept-encoding": "identity"},
            follow_redirects=False,
            transport=BoundedTransport(timeout),
        )

    def close(self) -> None:
        """Lets the connections go."""
        for client in (self._client, self._listing, self._pulling):
            client.close()  # type: ignore[no-untyped-call]  # the library's, untyped

    def models(self) -> list[InstalledModel]:
        """What is installed, by name; raises ServerError."""
        with explained(self.url, min(self.timeout, _LIST)):
            listed = self._listing.list().models
        found = (InstalledModel(m.model or "", m.digest or "", int(m.size or 0)) for m in listed)
        return sorted((model for model in found if model.name), key=lambda model: model.name)

    def digest(self, model: str) -> str:
        """Hex digest of the weights that the server has under this name; raises ServerError."""
        named = {item.name: item.digest for item in self.models()}
        if full_name(model) not in named:
            raise no_model(self.url, model)
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
        with explained(self.url, self.timeout, model):
            answer = self._client.chat(
                model, messages, format=dict(schema), options=dict(options), keep_alive=keep_alive, stream=False
            )
            if answer.done is False:
                raise httpx.RemoteProtocolError("the answer ends before it is done")
        return str(answer.message.content or "")

    def pull(self, model: str) -> Iterator[ollama.ProgressResponse]:
        """Downloads a model to the server, step by step; broken off, the next call goes on. Raises ServerError."""
        with explained(self.url, _PULL, model):
            yield from self._pulling.pull(model, stream=True)


def full_name(model: str) -> str:
    """A model's name with its tag, as Ollama lists it: "llama3.2" is "llama3.2:latest"."""
    return model if ":" in model.rpartition("/")[2] else f"{model}:latest"


class ModelRow(BaseModel):
    """A model that is installed, recommended, or both. `pull` is empty for what is installed."""

    model_config = ConfigDict(frozen=True)

    name: str
    installed: bool
    size: str
    note: str
    digest: str = ""
    pull: str = ""


def model_rows(installed: Sequence[InstalledModel], used: str) -> list[ModelRow]:
    """What is installed, then what the guide recommends beside it. `used` is label.model."""
    names = {model.name for model in installed}
    missing = [name for name in dict.fromkeys([*RECOMMENDED, used]) if full_name(name) not in names]

    def row(name: str, found: InstalledModel | None = None) -> ModelRow:
        size, note = RECOMMENDED.get(name, ("", ""))
        is_used = name == (full_name(used) if found else used)
        return ModelRow(
            name=name,
            installed=found is not None,
            size=f"{found.size / 1e9:.1f} GB" if found else size,
            note=", ".join(filter(None, [note, "label.model" if is_used else ""])),
            digest=found.digest.removeprefix("sha256:")[:12] if found else "",
            pull="" if found else f"mondegreen llm pull {name}",
        )

    return [*(row(model.name, model) for model in installed), *(row(name) for name in missing)]


class ServerError(MondegreenError):
    """The server did not do what was asked.

    Args:
        reason: what a question gets instead of a suggestion.
        passing: the same request may succeed in a moment.
    """

    def __init__(self, problem: str, next_step: str, reason: "FailureReason", passing: bool = False) -> None:
        self.reason, self.passing = reason, passing
        super().__init__(problem, next_step)


@contextmanager
def explained(url: str, timeout: Seconds, model: str = "") -> Iterator[None]:
    """Whatever the client raises within it becomes a ServerError.

    Args:
        url: of the server, as messages show it.
        timeout: that the client has for an answer.
        model: that is asked; "" where it is about none.
    """
    try:
        yield
    except ollama.ResponseError as error:
        raise _refused(url, error, model) from None
    except httpx.TimeoutException as error:
        raise _late(url, error, timeout) from None
    except (ConnectionError, httpx.ConnectError) as error:
        raise _unreachable(url, error) from None
    except TooLongError as error:
        said = f"The answer of {url} is over {error} bytes."
        raise ServerError(said, "Take another model.", "invalid_answer") from None
    except httpx.HTTPError as error:
        raise _broken_off(url, error) from None
    except (ValueError, TypeError, AttributeError):  # no JSON, or JSON of another shape
        raise _not_ollama(url, "its answer is not Ollama's") from None


def no_model(url: str, model: str) -> ServerError:
    """The server has no model of that name."""
    return ServerError(
        f"{url} has no model {model}.",
        f"Get it: `mondegreen llm pull {model}`; `mondegreen llm models` shows what is there.",
        "no_model",
    )


def _refused(url: str, error: ollama.ResponseError, model: str) -> ServerError:
    code, said = error.status_code, " ".join(str(error.error).split())[:_QUOTED]
    if code < 0:  # within a stream: what a download says when it fails
        step = "Check the name at https://ollama.com/library."
        return ServerError(f"{url} cannot pull {model}: {said}.", step, "no_model")
    if code == 404 and model and "not found" in said:
        return no_model(url, model)
    if code in (401, 403):
        return ServerError(
            f"{url} answered {code}: {said}.", "Set OLLAMA_API_KEY to a key that it takes.", "unavailable"
        )
    if code in (408, 429) or code >= 500:
        step = "Look into the server's log (out of memory?), or take a smaller model."
        return ServerError(f"{url} answered {code}: {said}.", step, "unavailable", passing=True)
    if code == 400 and model:
        step = "Update Ollama (JSON by schema needs 0.5 or later), or take another model."
        return ServerError(f"{url} answered {code}: {said}.", step, "unavailable")
    return _not_ollama(url, f"it answered {code}")


def _late(url: str, error: httpx.TimeoutException, timeout: Seconds) -> ServerError:
    if isinstance(error, httpx.ConnectTimeout):
        return ServerError(
            f"{url} cannot be reached: no connection within {min(timeout, LONGEST_CONNECT):g} s.",
            "Check host, port and firewall (label.url or OLLAMA_HOST).",
            "unavailable",
            passing=True,
        )
    return ServerError(
        f"{url} did not answer within {timeout:g} s.",
        "Raise label.timeout, lower label.concurrency, or take a smaller model.",
        "timeout",
        passing=True,
    )


def _broken_off(url: str, error: httpx.HTTPError) -> ServerError:
    if "illegal" in str(error):  # an answer that is no HTTP at all
        return _not_ollama(url, "it speaks no HTTP")
    return ServerError(
        f"{url} broke off in the middle of its answer ({type(error).__name__}).",
        "Look into the server's log (out of memory?), and whether it is Ollama.",
        "invalid_answer",
        passing=True,
    )


def _unreachable(url: str, error: BaseException) -> ServerError:
    causes = list(_causes(error))
    if any(isinstance(cause, socket.gaierror) for cause in causes):
        step, why = "Check the host's name in label.url or OLLAMA_HOST.", "nobody knows that host"
    elif any(isinstance(cause, ssl.SSLError) for cause in causes):
        step, why = "Check whether the URL should begin with http:// instead.", "it speaks no TLS, or not ours"
    elif any(isinstance(cause, ConnectionRefusedError) for cause in causes):
        step, why = "Start it: `ollama serve`; or name another: label.url or OLLAMA_HOST.", "nothing listens there"
    else:
        step, why = "Check host and port: label.url or OLLAMA_HOST.", str(causes[-1]) or "no connection"
    return ServerError(f"{url} cannot be reached: {why}.", step, "unavailable", passing=True)


def _causes(error: BaseException) -> Iterator[BaseException]:
    found: BaseException | None = error
    while found is not None:
        yield found
        found = found.__cause__ or found.__context__


def _not_ollama(url: str, why: str) -> ServerError:
    return ServerError(
        f"What listens on {url} is not Ollama: {why}.",
        "Another program uses the port: stop it, or start Ollama elsewhere "
        "(`OLLAMA_HOST=127.0.0.1:11435 ollama serve`) and name that in label.url or OLLAMA_HOST.",
        "unavailable",
    )


class TooLongError(Exception):
    """The answer has more bytes than the message says."""


class BoundedTransport(httpx.HTTPTransport):
    """Ends an answer that is not whole after `timeout`, or longer than `LONGEST_ANSWER`. With None, neither.

    httpx limits only the wait for the next bytes, so a server that drips would hold us, and the `ollama` client reads
    whole answers: its transport is where a deadline for all of an answer can stand.
    """

    def __init__(self, timeout: Seconds | None) -> None:
        super().__init__(limits=httpx.Limits(max_connections=None))
        self._timeout = timeout

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Raises httpx.ReadTimeout or TooLongError while the answer is read, and httpx.DecodingError for a packed one.

        Nobody asked for compression; a small packed answer could be a huge one.
        """
        started = time.monotonic()
        response = super().handle_request(request)
        if response.headers.get("content-encoding", "identity") != "identity":
            response.close()
            raise httpx.DecodingError("The answer is compressed, which was not asked for.", request=request)
        if self._timeout is not None and isinstance(response.stream, httpx.SyncByteStream):
            response.stream = _Bounded(response.stream, started + self._timeout)
        return response


class _Bounded(httpx.SyncByteStream):
    def __init__(self, stream: httpx.SyncByteStream, deadline: Seconds) -> None:
        self._stream, self._deadline = stream, deadline

    def __iter__(self) -> Iterator[bytes]:
        length = 0
        for part in self._stream:
            length += len(part)
            if length > LONGEST_ANSWER:
                raise TooLongError(LONGEST_ANSWER)
            if time.monotonic() > self._deadline:
                raise httpx.ReadTimeout("The answer is not whole yet.")
            yield part

    def close(self) -> None:
        self._stream.close()
