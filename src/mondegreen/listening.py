"""Where our servers listen."""

import ipaddress
import socket

from mondegreen.errors import UsageError


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
