"""A real server on 127.0.0.1 that answers as it is told, one behaviour a request."""

import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"
CUT_SHORT = b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\nConnection: close\r\n\r\nok"
SILENT_CLOSE, HANG = b"", b"hang"


def status(code: int, headers: str = "") -> bytes:
    return f"HTTP/1.1 {code} X\r\n{headers}Content-Length: 0\r\nConnection: close\r\n\r\n".encode()


@dataclass
class Listener:
    """What came in, and what goes out: the last answer is repeated."""

    answers: Sequence[bytes]
    port: int = 0
    requests: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hooks/T0P-SECRET"

    def serve(self, server: socket.socket) -> None:
        while not self.stop.is_set():
            try:
                connection, _ = server.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as stream:
            if not stream.readline():
                return
            headers = {}
            while line := stream.readline().strip():
                name, _, value = line.decode().partition(": ")
                headers[name] = value
            body = stream.read(int(headers.get("Content-Length", 0)))
            answer = self.answers[min(len(self.requests), len(self.answers) - 1)]
            self.requests.append((headers, body))
            self.times.append(time.monotonic())
            if answer == HANG:
                self.stop.wait(30)
            else:
                connection.sendall(answer)


@contextmanager
def listening(*answers: bytes) -> Iterator[Listener]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        found = Listener(answers, server.getsockname()[1])
        thread = threading.Thread(target=found.serve, args=(server,), daemon=True)
        thread.start()
        yield found
        found.stop.set()
        server.shutdown(socket.SHUT_RDWR)
