"""A wire to a PostgreSQL server that is cut where a test says."""

from __future__ import annotations

import selectors
import socket
import threading
from contextlib import suppress
from typing import Self
from urllib.parse import urlsplit, urlunsplit

_COMMIT = b"COMMIT"


class Wire:
    """Forwards every connection to a server; once it is armed, the answer to a COMMIT is swallowed and the wire cut.

    Attributes:
        armed: cut with the next COMMIT.
        cut: it was.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._server = (parts.hostname or "127.0.0.1", parts.port or 5432)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = urlunsplit(parts._replace(netloc=f"{parts.username}@127.0.0.1:{self._listener.getsockname()[1]}"))
        self.armed = False
        self.cut = threading.Event()
        self._open: list[socket.socket] = []
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for one in self._open:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(30)
        for one in self._open:
            one.close()

    def _start(self, work: object, *args: object) -> None:
        thread = threading.Thread(target=work, args=args, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(self._server)
            self._open += [client, server]
            self._start(self._forward, client, server)

    def _forward(self, client: socket.socket, server: socket.socket) -> None:
        with selectors.DefaultSelector() as watched:
            watched.register(client, selectors.EVENT_READ)
            watched.register(server, selectors.EVENT_READ)
            committing = False
            while True:
                for key, _ in watched.select():
                    source = client if key.fileobj is client else server
                    try:
                        said = source.recv(65_536)
                        if said and not (committing and source is server):
                            (server if source is client else client).sendall(said)
                    except OSError:
                        said = b""
                    if not said or (committing and source is server):
                        if said:
                            # The server has answered; nobody hears it.
                            self.cut.set()
                        for one in (client, server):
                            with suppress(OSError):
                                one.shutdown(socket.SHUT_RDWR)
                        return
                    committing = committing or (self.armed and source is client and _COMMIT in said)
