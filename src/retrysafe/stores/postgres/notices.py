"""Who waits for an operation of another process, and the session over which PostgreSQL tells that it has its outcome.

NOTIFY takes one lock of the whole server, so it is sent for those operations alone that somebody waits for: whoever
waits leaves a row, and the write of an outcome looks for it. It is a wake-up and no more: whoever is woken claims
again, and looks by itself now and then (S9, C6). So a session that was lost costs one look, and no correctness.
"""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, suppress
from uuid import UUID

import psycopg

from retrysafe.stores.postgres.connect import Connection, Settings, connect

Wake = Callable[[], None]

CHANNEL = "retrysafe"
_WAIT = (
    "INSERT INTO retrysafe_waiter VALUES (%s, extract(epoch FROM statement_timestamp()) + %s) "
    "ON CONFLICT (digest) DO UPDATE SET until = greatest(retrysafe_waiter.until, excluded.until)"
)
# After so long without anybody who waits the session is closed, and the thread ends.
_REST_SECONDS = 60.0
_PAUSE_SECONDS = 1.0


class Notices:
    """Wakes those who wait; the thread and its session are there only while somebody does.

    Args:
        settings: how the server is reached.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._door = threading.Lock()
        self._wakes: dict[UUID, list[Wake]] = {}
        self._new: list[tuple[UUID, float]] = []
        self._thread: threading.Thread | None = None
        self._bell: tuple[int, int] | None = None
        """A pipe by which the thread is told that there is something new."""
        self._closing = False
        self._idle = False
        """Nothing was heard for as long as the session may rest."""
        self.connection: Connection | None = None

    @contextmanager
    def watch(self, digest: bytes, seconds: float, wake: Wake) -> Generator[None]:
        """Have ``wake`` called, in another thread, when the operation has its outcome; never blocks.

        Args:
            digest: of the operation's identity.
            seconds: how long it is waited for at most.
            wake: may be called more than once, and from any thread.
        """
        name = UUID(bytes=digest)
        with self._door:
            self._wakes.setdefault(name, []).append(wake)
            self._new.append((name, seconds))
            self._ring()
        try:
            yield
        finally:
            with self._door:
                others = self._wakes[name]
                others.remove(wake)
                if not others:
                    del self._wakes[name]

    def close(self) -> None:
        """End the thread and its session; who still waits looks by itself."""
        with self._door:
            thread, self._closing = self._thread, True
            if thread is not None:
                self._ring()
        if thread is not None and thread is not threading.current_thread():
            thread.join()
        self._closing = False

    def disown(self) -> list[object]:
        """Let go of what belongs to the process that forked, and return what must never be collected."""
        for end in self._bell or ():
            os.close(end)
        if self.connection is not None and not self.connection.closed:
            nowhere = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
            os.dup2(nowhere, self.connection.pgconn.socket, inheritable=False)
            os.close(nowhere)
        return [self.connection]

    def _ring(self) -> None:
        """Tell the thread that there is something new, or start it; only behind the door."""
        if self._bell is None:
            self._bell = os.pipe()
            for end in self._bell:
                os.set_blocking(end, False)
            self._thread = threading.Thread(target=self._work, name="retrysafe-notices", daemon=True)
            self._thread.start()
        # A bell that nobody has heard for long needs no more ringing.
        with suppress(BlockingIOError):
            os.write(self._bell[1], b"!")

    def _work(self) -> None:
        try:
            while self._go_on():
                try:
                    if self.connection is None:
                        self.connection = self._connect()
                    self._say_who_waits(self.connection)
                    self._hear(self.connection)
                except (psycopg.Error, OSError):
                    # Until it works again those who wait look by themselves.
                    self._disconnect()
                    self._listen_to_bell(_PAUSE_SECONDS)
        finally:
            with self._door:
                # Whatever it dies of: a bell that nobody hears would keep the next thread from being started.
                if self._thread is threading.current_thread():
                    self._end()

    def _go_on(self) -> bool:
        """Tell whether there is anything left to do."""
        with self._door:
            if self._closing or (self._idle and not self._wakes and not self._listen_to_bell(0)):
                self._end()
                return False
            return True

    def _end(self) -> None:
        """Take session and bell along, so that whoever comes next starts another thread; only behind the door."""
        self._disconnect()
        for end in self._bell or ():
            os.close(end)
        self._bell = self._thread = None
        self._new.clear()

    def _connect(self) -> Connection:
        connection = connect(self._settings)
        connection.add_notify_handler(lambda notice: self._wake(notice.payload))
        connection.execute(f"LISTEN {CHANNEL}".encode())
        with self._door:
            # What was said over the session before may have been lost with it.
            self._new += [(name, _REST_SECONDS) for name in self._wakes]
        return connection

    def _disconnect(self) -> None:
        connection, self.connection = self.connection, None
        if connection is not None:
            with suppress(psycopg.Error):
                connection.close()

    def _say_who_waits(self, connection: Connection) -> None:
        with self._door:
            new, self._new = self._new, []
        for name, seconds in new:
            connection.execute(_WAIT, (name, seconds))

    def _hear(self, connection: Connection) -> None:
        """Wait for a notice, the bell, or the end of our patience."""
        bell = self._bell
        ready = _readable([connection.pgconn.socket, *(bell[:1] if bell else ())], _REST_SECONDS)
        self._idle = not ready
        if connection.pgconn.socket in ready:
            connection.pgconn.consume_input()
            while (notice := connection.pgconn.notifies()) is not None:
                self._wake(notice.extra.decode())
        self._listen_to_bell(0)

    def _listen_to_bell(self, seconds: float) -> bool:
        """Tell whether the bell was rung, or is within so many seconds."""
        bell = self._bell
        if bell is None or not _readable([bell[0]], seconds):
            return False
        return bool(os.read(bell[0], 4096))

    def _wake(self, payload: str) -> None:
        with suppress(ValueError):
            name = UUID(payload)
            with self._door:
                wakes = list(self._wakes.get(name, ()))
            for wake in wakes:
                # The loop of one who waits may just have been closed.
                with suppress(RuntimeError):
                    wake()


def _readable(descriptors: Sequence[int], seconds: float) -> set[int]:
    """Wait until something can be read; not by ``select``, which knows no descriptor above 1,023."""
    look = select.poll()
    for descriptor in descriptors:
        look.register(descriptor, select.POLLIN)
    return {descriptor for descriptor, _ in look.poll(seconds * 1000)}
