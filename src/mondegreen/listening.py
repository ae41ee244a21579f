"""Where our servers listen."""

import ipaddress
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from mondegreen.errors import UsageError

if TYPE_CHECKING:
    from fastapi import FastAPI


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches a server that is bound there."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def bound(host: str, port: int) -> socket.socket:
    """A socket that is bound and does not listen yet.

    Args:
        port: 0 takes any that is free.

    Raises:
        UsageError: the address cannot be bound.
    """
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


def run_app(app: "FastAPI", listening: socket.socket, grace_seconds: int) -> None:
    """Serves until SIGINT or SIGTERM; what a client says of its address and ours of its software goes nowhere.

    After SIGTERM it returns, so that the caller can end what it began.

    Args:
        grace_seconds: how long open connections may last from then on.
    """
    import uvicorn

    config = uvicorn.Config(
        app,
        lifespan="off",
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=grace_seconds,
    )
    with _outliving_sigterm():
        uvicorn.Server(config).run(sockets=[listening])


@contextmanager
def _outliving_sigterm() -> Iterator[None]:
    """uvicorn stops at SIGTERM and raises it once more when it has, which would end the process there and then."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    former = signal.signal(signal.SIGTERM, lambda number, frame: None)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, former)
