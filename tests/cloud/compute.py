"""A stand-in of Compute Engine's REST API on 127.0.0.1: it keeps instances and every request that it got."""

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

INSTANCES = re.compile(r"/compute/v1/projects/(?P<project>[^/]+)/zones/(?P<zone>[^/]+)/instances/?(?P<rest>[^?]*)")


class Compute:
    """What is there, and what was asked."""

    def __init__(self) -> None:
        self.instances: dict[str, dict[str, Any]] = {}
        self.requests: list[tuple[str, str, dict[str, Any]]] = []
        self.refuse: tuple[int, str] | None = None

    def answer(self, method: str, path: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        self.requests.append((method, path, body))
        if self.refuse:
            return self.refuse[0], {"error": {"code": self.refuse[0], "message": self.refuse[1]}}
        if "/operations/" in path:
            return 200, {"name": "operation-1", "status": "DONE"}
        match = INSTANCES.match(path)
        assert match, path
        name, _, verb = match["rest"].partition("/")
        if method == "POST" and not name:
            self.instances[body["name"]] = body | {"status": "RUNNING"}
        elif name not in self.instances:
            return 404, {"error": {"code": 404, "message": f"{name} was not found"}}
        elif method == "GET":
            return 200, self.instances[name]
        elif method == "DELETE":
            del self.instances[name]
        elif verb == "setMetadata":
            self.instances[name]["metadata"] = body
        elif verb in ("start", "reset"):
            self.instances[name]["status"] = "RUNNING"
        return 200, {"name": "operation-1", "status": "DONE", "selfLink": "x"}


@contextmanager
def emulated_compute(patch: pytest.MonkeyPatch) -> Iterator[Compute]:
    """Starts it on a free port and points the environment to it."""
    state = Compute()

    class Handler(BaseHTTPRequestHandler):
        def _serve(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            status, found = state.answer(self.command, self.path, json.loads(self.rfile.read(length) or b"{}"))
            content = json.dumps(found).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_DELETE = _serve

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        patch.setenv("COMPUTE_EMULATOR_HOST", f"http://127.0.0.1:{server.server_port}")
        yield state
    finally:
        server.shutdown()
        server.server_close()
