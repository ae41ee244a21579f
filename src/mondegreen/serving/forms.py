"""The form of a request, bounded in every way while it is read: a length that a client states proves nothing.

How many bytes it has, how many fields, how long each is, and how long nothing of it may come: a client that vanished
closes no connection, and would hold its place until the server ends. What comes slowly may take its time.
"""

import asyncio

from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request
from starlette.types import Message, Receive

from mondegreen.config import Seconds, ServeParams
from mondegreen.scoring.phrases import LONGEST
from mondegreen.serving.openai_api import RefusedError

_MEGABYTE = 1_000_000
_FIELDS, _FIELD_BYTES = 20, 10_000  # of a form, besides the recording
# What JSON may make of a phrase: \ud83d\ude00 for a character, and what stands around it.
_PHRASE_BYTES = 12 * LONGEST + 200
_SILENT: Seconds = 60.0  # between two pieces of a body; as long as nginx waits for one


class UploadedForm:
    """A request's form with a recording, closed at the end of `async with`.

    Args:
        silent: after as long without a byte the client counts as gone; serve.timeout if that is less.

    Raises:
        RefusedError: on entering, what is wrong with it.
    """

    def __init__(self, request: Request, params: ServeParams, silent: Seconds = _SILENT) -> None:
        self._request, self._params = request, params
        self._most, self._silent = params.max_megabytes * _MEGABYTE, min(silent, params.timeout)
        self._form: FormData | None = None

    async def __aenter__(self) -> FormData:
        if not self._request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
            raise self._no_recording()
        if int(self._request.headers.get("content-length") or 0) > self._most:
            raise self._too_large()
        try:
            self._form = await _Parser(Request(self._request.scope, self._limited()), self._params).parse()
        except MultiPartException as error:
            raise RefusedError(400, f"The form cannot be read: {error.message}") from None
        except ClientDisconnect:
            raise RefusedError(499, "The client is gone.") from None
        if not isinstance(self._form.get("file"), UploadFile):
            await self._form.close()
            raise self._no_recording()
        return self._form

    async def __aexit__(self, *_: object) -> None:
        if self._form:
            await self._form.close()

    def _limited(self) -> Receive:
        read = 0

        async def some() -> Message:
            nonlocal read
            try:
                async with asyncio.timeout(self._silent):
                    message = await self._request.receive()
            except TimeoutError:
                raise self._nothing_comes() from None
            read += len(message.get("body", b""))
            if read > self._most:
                raise self._too_large()
            return message

        return some

    def _no_recording(self) -> RefusedError:
        return RefusedError(400, "There is no recording. Send one as multipart/form-data, in the field file.", "file")

    def _too_large(self) -> RefusedError:
        most = f"{self._most / _MEGABYTE:.0f} MB (serve.max_megabytes)"
        return RefusedError(413, f"The request has more than {most}.", "file")

    def _nothing_comes(self) -> RefusedError:
        said = f"file: nothing of the request came for {self._silent:g} seconds. Send it again."
        return RefusedError(408, said, "file", {"connection": "close"})


class _Parser(MultiPartParser):
    """One that bounds each field by what it may hold, and names the one that is too long."""

    def __init__(self, request: Request, params: ServeParams) -> None:
        super().__init__(request.headers, request.stream(), max_files=1, max_fields=_FIELDS)
        self._phrases = params.max_phrases

    def on_part_data(self, data: bytes, start: int, end: int) -> None:
        name, taken = self._current_part.field_name, ""
        self.max_part_size = _FIELD_BYTES
        if name == "phrases":
            self.max_part_size += self._phrases * _PHRASE_BYTES
            taken = f" for {self._phrases} phrases (serve.max_phrases)"
        try:
            super().on_part_data(data, start, end)
        except MultiPartException:
            said = f"{name}: more than {self.max_part_size:,} bytes; as many are taken{taken}. Send less."
            raise RefusedError(400, said, name) from None
