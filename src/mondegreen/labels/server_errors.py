"""What went wrong between the `ollama` client and a server, said with its remedy."""

import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import ollama

from mondegreen.config import Seconds
from mondegreen.errors import MondegreenError
from mondegreen.labels.bounded_http import TooLongError
from mondegreen.labels.suggestion import FailureReason

LONGEST_CONNECT: Seconds = 10.0
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
