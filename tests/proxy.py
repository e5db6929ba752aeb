"""A TCP proxy on loopback: what passes may come late, be lost, or be an answer that the client never gets."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable
from typing import Any

Whole = Callable[[bytes], bool]


class Proxy:
    """Stands before a server; a context manager that closes all connections at its end.

    :param ask: called when a client has sent something: it may wait, and False loses what was sent.
    :param answer: the same for what the server sends.
    :param instead: what the server sends -> what the client gets.
    """

    def __init__(
        self, port: int, ask: Callable[[], bool] = lambda: True, answer: Callable[[], bool] = lambda: True,
        instead: Callable[[bytes], bytes] = lambda data: data,
    ) -> None:  # fmt: skip
        self._target, self._ask, self._answer, self._instead = port, ask, answer, instead
        self._sockets: list[socket.socket] = []
        self._cuts: dict[int, Whole] = {}
        self.lost: list[bytes] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Proxy:
        return self

    def __exit__(self, *_: Any) -> None:
        _end(self._listener, *self._sockets)

    def cut(self, client: int, whole: Whole) -> None:
        """Lose the next answer to the client with this port: once the server has given all of it, the connection ends.

        :param whole: whether these bytes are the whole answer.
        """
        self._cuts[client] = whole

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, (_, port) = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._target))
                for one in (client, server):
                    one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    self._sockets.append(one)
                threading.Thread(target=self._asks, args=(client, server), daemon=True).start()
                threading.Thread(target=self._answers, args=(server, client, port), daemon=True).start()

    def _asks(self, client: socket.socket, server: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := client.recv(65536):
                if self._ask():
                    server.sendall(data)
            server.shutdown(socket.SHUT_WR)

    def _answers(self, server: socket.socket, client: socket.socket, port: int) -> None:
        kept = b""
        with contextlib.suppress(OSError):
            while data := server.recv(65536):
                if whole := self._cuts.get(port):
                    kept += data
                    if whole(kept):
                        self.lost.append(kept)
                        _end(client, server)
                        return
                elif self._answer():
                    client.sendall(self._instead(data))
            client.shutdown(socket.SHUT_WR)


def _end(*sockets: socket.socket) -> None:
    for one in sockets:
        with contextlib.suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)
        one.close()
