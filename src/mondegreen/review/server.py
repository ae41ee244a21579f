"""Serving the review pages until somebody stops it."""

import socket
from collections.abc import Callable
from urllib.parse import quote

import uvicorn

from mondegreen.errors import UsageError
from mondegreen.review.app import create_app
from mondegreen.review.decisions import release
from mondegreen.review.desk import Desk


def serve(desk: Desk, port: int, on_ready: Callable[[str], None]) -> None:
    """Serves until SIGINT or SIGTERM.

    Args:
        port: 0 takes any that is free.
        on_ready: told the address as soon as requests are taken; it holds the token, where one is needed.

    Raises:
        UsageError: the address cannot be bound.
    """
    release(desk.manager.engine, desk.params)
    with _bound(desk.access.host, port) as listening:
        listening.listen(128)
        config = uvicorn.Config(
            create_app(desk),
            lifespan="off",
            log_level="warning",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=2,  # seconds; a browser may hold a connection open
        )
        on_ready(address(desk, listening.getsockname()[1]))
        uvicorn.Server(config).run(sockets=[listening])


def address(desk: Desk, port: int) -> str:
    """What a person opens."""
    host = desk.access.host
    if host in ("0.0.0.0", "::", ""):
        host = socket.gethostname()
    shown = f"[{host}]" if ":" in host else host
    token = f"enter?token={quote(desk.access.token)}" if desk.access.token else ""
    return f"http://{shown}:{port}/{token}"


def _bound(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, target = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, kind, protocol)
    except OSError as error:
        raise UsageError(
            f"--host {host}: {error.strerror}.", "Give 127.0.0.1, or an address of this machine."
        ) from None
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(target)
    except (OSError, OverflowError) as error:
        listening.close()
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise UsageError(
            f"{host}:{port} cannot be bound: {reason}.", "Give another one: --port 0 takes any that is free."
        ) from None
    return listening
