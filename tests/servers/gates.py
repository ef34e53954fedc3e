"""Gates: a handler stops at one until the test lets it go on, so that no test needs to sleep."""

from __future__ import annotations

import select
import socket
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

from tests.servers.wire import PATIENCE_SECONDS


class Gate:
    """A UNIX socket at which handlers arrive, wait, and leave."""

    def __init__(self, directory: Path, name: str) -> None:
        # Addresses of UNIX sockets are short, so that pytest's own directories won't do.
        self.path = str(directory / name)
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.settimeout(PATIENCE_SECONDS)
        self._listener.bind(self.path)
        self._listener.listen()
        self._inside: list[socket.socket] = []

    @property
    def step(self) -> list[Any]:
        """The step that makes a handler come here."""
        return ["gate", self.path]

    def await_arrival(self) -> None:
        """Return when a handler has come."""
        handler, _ = self._listener.accept()
        handler.settimeout(PATIENCE_SECONDS)
        self._inside.append(handler)

    def open(self) -> None:
        """Let the handler that came first go on, and return when it has left; it may have been stopped before."""
        with self._inside.pop(0) as handler, suppress(BrokenPipeError, ConnectionResetError):
            handler.sendall(b"go on\n")
            self._await_end(handler)

    def let_through(self) -> None:
        """Await a handler and let it go on."""
        self.await_arrival()
        self.open()

    def await_desertion(self) -> None:
        """Return when the handler that waits here was made to give up."""
        with self._inside.pop(0) as handler:
            self._await_end(handler)

    @staticmethod
    def _await_end(handler: socket.socket) -> None:
        while handler.recv(1024):
            pass

    @property
    def has_visitor(self) -> bool:
        """Tell whether a handler has come that was not awaited."""
        return bool(select.select([self._listener], [], [], 0)[0])

    def close(self) -> None:
        for each in (self._listener, *self._inside):
            each.close()


class Gates:
    """Makes gates and removes them all."""

    def __init__(self) -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="gates-")
        self._gates: list[Gate] = []

    def __call__(self) -> Gate:
        gate = Gate(Path(self._directory.name), str(len(self._gates)))
        self._gates.append(gate)
        return gate

    def close(self) -> None:
        for gate in self._gates:
            gate.close()
        self._directory.cleanup()
