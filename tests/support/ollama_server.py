"""A server on 127.0.0.1 that speaks Ollama's HTTP API to the real client, and lies as it is told."""

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

MODEL = "llama3.2:3b"
DIGEST = "a80c4f17acd55265feec403c7aef86be0c25983ab279d83f3bcd3abbcb5b8b72"


@dataclass(frozen=True)
class Content:
    """The answer is this text, whatever it is."""

    text: str
    after: float = 0.0  # seconds


@dataclass(frozen=True)
class Status:
    """An HTTP error, worded as Ollama does."""

    code: int
    error: str = "something broke"


@dataclass(frozen=True)
class Raw:
    """These bytes in place of an answer, then the connection closes."""

    data: bytes


HANGS = Raw(b"")  # nothing until the server stops
CUT_OFF = Raw(
    b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 5000\r\n\r\n{"model": "llama3.2:3b", "mess'
)
CUT_STREAM = Raw(
    b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n"
    b'1f\r\n{"message": {"role": "assistant'
)
Reply = Content | Status | Raw


def transcript(text: str) -> Content:
    """What a model that keeps to the schema answers."""
    return Content(json.dumps({"transcript": text}))


@dataclass
class FakeOllama:
    """What the server holds, what it was asked, and how it answers: `reply` gets the request and its number from 0."""

    reply: Callable[[dict[str, Any], int], Reply]
    models: dict[str, str] = field(default_factory=lambda: {MODEL: DIGEST})
    tags: Reply | None = None  # instead of the list of models
    pulls: Sequence[dict[str, Any]] = ()
    port: int = 0
    asked: list[dict[str, Any]] = field(default_factory=list)
    most_at_once: int = 0
    stop: threading.Event = field(default_factory=threading.Event)
    _working: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def chat(self, request: dict[str, Any]) -> Reply:
        with self._lock:
            number = len(self.asked)
            self.asked.append(request)
            self._working += 1
            self.most_at_once = max(self.most_at_once, self._working)
        reply = self.reply(request, number)
        if isinstance(reply, Content) and reply.after:
            self.stop.wait(reply.after)
        with self._lock:
            self._working -= 1
        return reply if request["model"] in self.models else Status(404, f"model '{request['model']}' not found")


def hypothesis(request: dict[str, Any]) -> str:
    """What the recogniser wrote, as a chat request asks about it."""
    return str(json.loads(request["messages"][-1]["content"])["heard"])


@contextmanager
def ollama(reply: Callable[[dict[str, Any], int], Reply] | Reply, port: int = 0, **given: Any) -> Iterator[FakeOllama]:
    """The server while the block runs; one reply, or a function of request and number."""
    fake = FakeOllama(reply if callable(reply) else lambda request, number: reply, **given)
    server = ThreadingHTTPServer(("127.0.0.1", port), _handler(fake))
    server.daemon_threads = True
    fake.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield fake
    finally:
        fake.stop.set()
        server.shutdown()
        server.server_close()


@contextmanager
def dripping() -> Iterator[str]:
    """The URL of a server whose answers never end: a blank every 50 ms."""
    stop = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: Any) -> None:
            pass

        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "100000")
            self.end_headers()
            with suppress(OSError):
                while not stop.wait(0.05):
                    self.wfile.write(b" ")

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        stop.set()
        server.shutdown()
        server.server_close()


def _handler(fake: FakeOllama) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: Any) -> None:
            pass

        def do_GET(self) -> None:
            if self.path == "/api/tags":
                if fake.tags is not None:
                    return self._send(fake.tags, {})
                models = [
                    {
                        "name": name,
                        "model": name,
                        "digest": digest,
                        "size": 2_019_393_189,
                        "details": {"family": "llama"},
                    }
                    for name, digest in fake.models.items()
                ]
                return self._json({"models": models})
            return self._json({"error": "not found"}, 404)

        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if self.path == "/api/pull":
                return self._stream(fake.pulls)
            assert self.path == "/api/chat"
            return self._send(fake.chat(request), request)

        def _send(self, reply: Reply, request: dict[str, Any]) -> None:
            if isinstance(reply, Status):
                return self._json({"error": reply.error}, reply.code)
            if isinstance(reply, Raw):
                fake.stop.wait(30) if reply is HANGS else self.wfile.write(reply.data)
                self.close_connection = True
                return None
            message = {"role": "assistant", "content": reply.text}
            return self._json({"model": request["model"], "message": message, "done": True, "done_reason": "stop"})

        def _json(self, body: dict[str, Any], code: int = 200) -> None:
            data = json.dumps(body).encode()
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def _stream(self, lines: Sequence[dict[str, Any]]) -> None:
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for line in lines:
                data = json.dumps(line).encode() + b"\n"
                self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
            self.wfile.write(b"0\r\n\r\n")

    return Handler
