"""A wire between a client and a server that can be cut at a chosen moment."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress


class Relay:
    """Carries bytes to a server; once told so, it delivers what it sees, and loses the answer."""

    def __init__(self, port: int) -> None:
        self._target = ("127.0.0.1", port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._loses: bytes | None = None
        self._lost = threading.Event()
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    @contextmanager
    def losing_answers_to(self, part: bytes) -> Iterator[None]:
        """Deliver what has ``part`` in it, and cut the wire when its answer comes; it does once or more."""
        self._lost.clear()
        self._loses = part
        yield
        assert self._lost.wait(60)
        self._loses = None

    def close(self) -> None:
        for each in (self._listener, *self._open):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(self._target)
                self._open += [client, server]
                ends = threading.Event()
                threading.Thread(target=self._carry, args=(client, server, ends), daemon=True).start()
                threading.Thread(target=self._return, args=(client, server, ends), daemon=True).start()

    def _carry(self, client: socket.socket, server: socket.socket, ends: threading.Event) -> None:
        with suppress(OSError):
            while some := client.recv(65_536):
                if self._loses is not None and self._loses in some:
                    ends.set()
                server.sendall(some)
            server.shutdown(socket.SHUT_RDWR)

    def _return(self, client: socket.socket, server: socket.socket, ends: threading.Event) -> None:
        with suppress(OSError):
            while some := server.recv(65_536):
                if ends.is_set():
                    self._lost.set()
                    break
                client.sendall(some)
            client.shutdown(socket.SHUT_RDWR)


@contextmanager
def relay(port: int) -> Iterator[Relay]:
    wire = Relay(port)
    try:
        yield wire
    finally:
        wire.close()
