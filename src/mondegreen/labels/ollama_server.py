"""The one way to an Ollama server: its own client, bounded in time and size, with errors that say the next step."""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import httpx
import ollama

from mondegreen.config import Seconds
from mondegreen.errors import UsageError
from mondegreen.labels.bounded_http import BoundedTransport
from mondegreen.labels.server_errors import LONGEST_CONNECT, ServerError, explained, no_model

DEFAULT_URL = "http://localhost:11434"
_LIST: Seconds = 30.0  # for the list of models, which a server has at hand
_PULL: Seconds = 600.0  # between two lines of a download


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
            timeout=httpx.Timeout(timeout or _PULL, connect=min(timeout or LONGEST_CONNECT, LONGEST_CONNECT)),
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

    def pull(self, model: str) -> Iterator[PullStep]:
        """Downloads a model to the server, step by step; broken off, the next call goes on. Raises ServerError."""
        with explained(self.url, _PULL, model):
            for step in self._pulling.pull(model, stream=True):
                yield PullStep(step.status or "", step.digest or "", step.completed or 0, step.total or 0)


def full_name(model: str) -> str:
    """A model's name with its tag, as Ollama lists it: "llama3.2" is "llama3.2:latest"."""
    return model if ":" in model.rpartition("/")[2] else f"{model}:latest"
