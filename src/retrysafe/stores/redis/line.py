"""Connections for threads: each is lent to one thread for one exchange."""

from __future__ import annotations

import select
import socket
import threading
from collections import deque
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from time import monotonic
from typing import Any

import hiredis

from retrysafe.errors import StoreUnavailable
from retrysafe.stores.redis.calls import Call, Introduction, Reply, Words
from retrysafe.stores.redis.resp import (
    ReplyError,
    check_introduced,
    check_waited,
    is_unknown_script,
    leads_away,
    lost,
    packed,
    packed_command,
    packed_whole,
    reader,
    translated,
)
from retrysafe.stores.redis.settings import Settings

_CHUNK_BYTES = 65_536
_BELIEVED_SECONDS = 0.1


class Line:
    """One connection that blocks.

    Raises:
        StoreUnavailable: the server is not there, not ready, or refuses us.
    """

    def __init__(self, settings: Settings, introduction: Introduction | None = None) -> None:
        self._settings = settings
        self._reader = reader()
        self.used_at = 0.0
        try:
            self.socket = socket.create_connection((settings.host, settings.port), settings.timeout_seconds)
        except OSError as error:
            raise lost(error) from error
        try:
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if settings.tls is not None:
                self.socket = settings.tls.context().wrap_socket(self.socket, server_hostname=settings.host)
            _check(self._exchange(list(map(packed_command, settings.handshake()))))
            if introduction is not None:
                [reply] = self.exchange([introduction.call])
                check_introduced(reply, introduction)
        except BaseException as error:
            self.close()
            if isinstance(error, OSError):
                raise self._lost(error) from error
            raise

    def exchange(self, calls: Sequence[Call]) -> Sequence[Reply]:
        """Run scripts, all on their way together.

        Whatever goes wrong besides an answer of the server's closes the connection, so that the answer to this is never
        mistaken for one to something else.

        Raises:
            StoreUnavailable: nothing is known about any of them (D4).
        """
        try:
            replies = self._settled([packed(call) for call in calls])
            unknown = [number for number, reply in enumerate(replies) if is_unknown_script(reply)]
            if unknown:
                again = self._settled([packed_whole(calls[number]) for number in unknown])
                for number, reply in zip(unknown, again, strict=True):
                    replies[number] = reply
        except BaseException as error:
            self.close()
            if isinstance(error, OSError | hiredis.ProtocolError):
                raise self._lost(error) from error
            raise
        if any(map(leads_away, replies)):
            self.close()
        _check(replies)
        return replies

    def command(self, words: Words) -> object:
        """Send a command that is no script's, and return what is answered, an error too."""
        try:
            [reply] = self._exchange([packed_command(words)])
        except BaseException as error:
            self.close()
            if isinstance(error, OSError):
                raise self._lost(error) from error
            raise
        return reply

    def is_quiet(self) -> bool:
        """Tell whether the connection is open and has nothing to say, as it should when nobody asked.

        One that was in use a moment ago is believed to be: a look costs as much as all else that is done here.
        """
        if monotonic() - self.used_at < _BELIEVED_SECONDS:
            return True
        look = select.poll()
        # What can be read is the end, or an answer to nobody.
        look.register(self.socket, select.POLLIN)
        return not look.poll(0)

    def close(self) -> None:
        """Close the connection."""
        self.socket.close()

    def _lost(self, error: Exception) -> StoreUnavailable:
        if isinstance(error, TimeoutError):
            return lost(f"the server has not answered for {self._settings.timeout_seconds:g} s")
        return lost(error)

    def _settled(self, commands: list[bytes]) -> list[Any]:
        if not self._settings.wait:
            return self._exchange(commands)
        *replies, waited = self._exchange([*commands, packed_command(self._settings.waiting)])
        problem = check_waited(waited, self._settings.wait)
        if problem is not None:
            raise problem
        return replies

    def _exchange(self, commands: list[bytes]) -> list[Any]:
        self.socket.sendall(b"".join(commands))
        replies: list[Any] = []
        gets, feed = self._reader.gets, self._reader.feed
        while len(replies) < len(commands):
            reply = gets()
            if reply is not False:
                replies.append(reply)
                continue
            some = self.socket.recv(_CHUNK_BYTES)
            if not some:
                raise ConnectionResetError("the server closed the connection")
            feed(some)
        self.used_at = monotonic()
        return replies


class Lines:
    """Connections that are kept for threads.

    Attributes:
        introduction: with what new ones begin; None before the store is open.
    """

    def __init__(self, settings: Settings, introduction: Introduction | None) -> None:
        self._settings = settings
        self.introduction = introduction
        self._slots = threading.Semaphore(settings.pool)
        self._resting: deque[Line] = deque()
        self._every: set[Line] = set()
        self._closed = False

    def exchange(self, calls: Sequence[Call]) -> Sequence[Reply]:
        """Run scripts on a connection that nobody else uses meanwhile; see :meth:`Line.exchange`."""
        if not calls:
            return ()
        with self._line() as line:
            return line.exchange(calls)

    def command(self, words: Words) -> object:
        """Send any other command; see :meth:`Line.command`."""
        with self._line() as line:
            return line.command(words)

    def close(self) -> None:
        """Close what rests, and what is given back from now on."""
        self._closed = True
        while self._resting:
            self._drop(self._resting.pop())

    def disown(self) -> None:
        """Close a forked child's copies, without a word to the server: the connections are its parent's."""
        for line in self._every:
            # Not `close` of a connection with TLS, which says good-bye in the parent's name.
            inherited = line.socket.detach()
            if inherited >= 0:
                socket.close(inherited)

    @contextmanager
    def _line(self) -> Generator[Line]:
        if not self._slots.acquire(timeout=self._settings.timeout_seconds):
            raise StoreUnavailable(f"Redis: all {self._settings.pool} connections are in use: raise pool=")
        try:
            line = self._take()
            try:
                yield line
            finally:
                if line.socket.fileno() < 0 or self._closed:
                    self._drop(line)
                else:
                    self._resting.append(line)
        finally:
            self._slots.release()

    def _take(self) -> Line:
        while self._resting:
            try:
                line = self._resting.pop()
            except IndexError:
                break
            if line.is_quiet():
                return line
            self._drop(line)
        line = Line(self._settings, self.introduction)
        self._every.add(line)
        return line

    def _drop(self, line: Line) -> None:
        self._every.discard(line)
        line.close()


def _check(replies: Sequence[object]) -> None:
    for reply in replies:
        if isinstance(reply, ReplyError):
            raise translated(reply)
