"""HTTP whose answers end: httpx limits only the wait for the next bytes, so a server that drips would hold us."""

import time
from collections.abc import Iterator

import httpx

from mondegreen.config import Seconds

LONGEST_ANSWER = 1_000_000  # bytes; a list of some hundred models is far below it


class TooLongError(Exception):
    """The answer has more bytes than the message says."""


class BoundedTransport(httpx.HTTPTransport):
    """Ends an answer that is not whole after `timeout`, or longer than `LONGEST_ANSWER`. With None, neither."""

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
