"""A server that is there and is none, and one that goes away in mid answer."""

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Literal

Manner = Literal["reset", "close", "silent"]


@contextmanager
def cut_after(port: int) -> Iterator[tuple[int, list[int]]]:
    """A port that leads to another one of this machine; each connection is reset when so many bytes were answered.

    Yields:
        The port, and a list whose only item is the number of bytes, which may be changed.
    """
    left = [1 << 60]

    def forward(source: socket.socket, target: socket.socket, allowed: int | None) -> None:
        try:
            while content := source.recv(65_536):
                target.sendall(content if allowed is None else content[:allowed])
                if allowed is not None and (allowed := allowed - len(content)) <= 0:
                    target.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    break
        except OSError:
            pass
        for one in (source, target):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def take() -> None:
        while True:
            try:
                client, _ = listening.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", port))
            for way in ((client, server, None), (server, client, left[0])):
                threading.Thread(target=forward, args=way, daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=take, daemon=True).start()
        yield listening.getsockname()[1], left
        listening.shutdown(socket.SHUT_RDWR)


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
