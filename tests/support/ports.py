"""Ports of this machine."""

import socket


def closed_port() -> int:
    """One that nobody listens on; free for whoever takes it soon."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])
