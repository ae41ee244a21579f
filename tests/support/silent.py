"""A server that is there and is none."""

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

Manner = Literal["reset", "close", "silent"]


@contextmanager
def useless_server(manner: Manner) -> Iterator[int]:
    """Takes connections on 127.0.0.1 and resets or closes them, or never says a word; its port."""
    held: list[socket.socket] = []

    def take() -> None:
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            if manner == "silent":
                held.append(connection)
                continue
            connection.recv(8)
            if manner == "reset":
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.close()

    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=take, daemon=True).start()
        yield listening.getsockname()[1]
        listening.shutdown(socket.SHUT_RDWR)
    for connection in held:
        connection.close()
