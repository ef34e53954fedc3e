"""Connections that are kept: for threads, and for one event loop.

Ours and not the driver's, because that one has threads of its own, tells of a server that is down only when its time is
over, and asks the server before each use whether it is still there.
"""

from __future__ import annotations

import asyncio
import os
import select
import threading
from collections import deque
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from time import monotonic
from typing import Generic, TypeVar

import psycopg
from psycopg import IsolationLevel

from retrysafe.errors import StoreUnavailable
from retrysafe.stores.postgres.connect import AsyncConnection, Connection, Settings, aconnect, connect
from retrysafe.stores.postgres.failures import spares_connection

C = TypeVar("C", Connection, AsyncConnection)

# Names of hosts move, and sessions grow with all that they have ever planned.
_LIFE_SECONDS = 3600.0
_REST_SECONDS = 300.0


class Shelf(Generic[C]):
    """The open connections of one pool, those that rest with the latest on top; safe for threads."""

    def __init__(self) -> None:
        """Begin empty."""
        self._born_at: dict[C, float] = {}
        self._resting: deque[tuple[float, C]] = deque()
        self.closed = False

    def add(self, connection: C) -> C:
        """Keep account of a new connection, which is lent at once."""
        self._born_at[connection] = monotonic()
        return connection

    def take(self) -> C | None:
        """Lend the connection that rested last, unless it has ended meanwhile; None when none is left."""
        while True:
            try:
                _, connection = self._resting.pop()
            except IndexError:
                return None
            if _is_quiet(connection) and monotonic() - self._born_at[connection] < _LIFE_SECONDS:
                return connection
            self.drop(connection)

    def put(self, connection: C) -> None:
        """Let a connection rest, and close the one that rested longest if it is not needed."""
        now = monotonic()
        self._resting.append((now, connection))
        if self.closed:
            self.close()
        elif self._resting[0][0] < now - _REST_SECONDS:
            self.drop(self._resting.popleft()[1])

    def drop(self, connection: C) -> None:
        """Close a connection."""
        self._born_at.pop(connection, None)
        connection.pgconn.finish()

    def close(self) -> None:
        """Close what rests, and what is put back from now on."""
        self.closed = True
        while self._resting:
            self.drop(self._resting.pop()[1])

    def close_all(self) -> None:
        """Close what is lent as well; whoever had it is gone."""
        self.close()
        for connection in list(self._born_at):
            self.drop(connection)

    def disown(self) -> list[C]:
        """Let go of sockets that belong to the process that forked, without a word to the server.

        As long as a child had them open, too, the server would not notice the death of the parent.

        Returns:
            The connections, which must never be used nor collected.
        """
        inherited = list(self._born_at)
        nowhere = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        for connection in inherited:
            if not connection.closed:
                os.dup2(nowhere, connection.pgconn.socket, inheritable=False)
        os.close(nowhere)
        return inherited


class Pool:
    """Connections for threads."""

    def __init__(self, settings: Settings) -> None:
        """Connect to nothing yet."""
        self._settings = settings
        self._slots = threading.Semaphore(settings.pool)
        self.shelf: Shelf[Connection] = Shelf()

    @contextmanager
    def transaction(self, *, reads: bool) -> Generator[Connection]:
        """Lend a connection for one transaction, which is committed unless an exception leaves.

        Args:
            reads: whether it only reads, all of it as of one moment.

        Raises:
            StoreUnavailable: every connection is in use, for as long as we wait.
            psycopg.Error: the server is not there, or did not commit; or nobody knows.
        """
        if not self._slots.acquire(timeout=self._settings.timeout_seconds):
            raise _exhausted(self._settings)
        try:
            connection = self.shelf.take() or self.shelf.add(connect(self._settings))
            try:
                connection.isolation_level = _level(reads=reads)
                connection.read_only = reads or None
                if self._settings.limits is not None:
                    connection.execute(*self._settings.limits)
                yield connection
                connection.commit()
            except BaseException as error:
                self._mend(connection, error)
                raise
            self.shelf.put(connection)
        finally:
            self._slots.release()

    def _mend(self, connection: Connection, error: BaseException) -> None:
        if spares_connection(error):
            try:
                connection.rollback()
            except psycopg.Error:
                pass
            else:
                self.shelf.put(connection)
                return
        self.shelf.drop(connection)


class AsyncPool:
    """Connections for one event loop; see :class:`Pool`."""

    def __init__(self, settings: Settings) -> None:
        """Connect to nothing yet."""
        self._settings = settings
        self._slots = asyncio.Semaphore(settings.pool)
        self.shelf: Shelf[AsyncConnection] = Shelf()

    @asynccontextmanager
    async def transaction(self, *, reads: bool) -> AsyncGenerator[AsyncConnection]:
        """Lend a connection for one transaction; see :meth:`Pool.transaction`."""
        try:
            async with asyncio.timeout(self._settings.timeout_seconds):
                await self._slots.acquire()
        except TimeoutError:
            raise _exhausted(self._settings) from None
        try:
            connection = self.shelf.take() or self.shelf.add(await aconnect(self._settings))
            try:
                await connection.set_isolation_level(_level(reads=reads))
                await connection.set_read_only(reads or None)
                if self._settings.limits is not None:
                    await connection.execute(*self._settings.limits)
                yield connection
                await connection.commit()
            except BaseException as error:
                await self._mend(connection, error)
                raise
            self.shelf.put(connection)
        finally:
            self._slots.release()

    async def _mend(self, connection: AsyncConnection, error: BaseException) -> None:
        if spares_connection(error):
            try:
                await connection.rollback()
            except psycopg.Error:
                pass
            else:
                self.shelf.put(connection)
                return
        self.shelf.drop(connection)


def _level(*, reads: bool) -> IsolationLevel:
    # Said with each BEGIN, at no cost, because a database or a role may have another default.
    return IsolationLevel.REPEATABLE_READ if reads else IsolationLevel.READ_COMMITTED


def _is_quiet(connection: Connection | AsyncConnection) -> bool:
    """Tell whether a resting connection is still there: a server has nothing to say to it but that it has ended."""
    if connection.closed:
        return False
    look = select.poll()
    look.register(connection.pgconn.socket, select.POLLIN)
    return not look.poll(0)


def _exhausted(settings: Settings) -> StoreUnavailable:
    return StoreUnavailable(
        f"PostgreSQL: all {settings.pool} connections have been in use for {settings.timeout_seconds:.0f} s"
    )
