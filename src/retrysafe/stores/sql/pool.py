"""Connections that are kept: for threads, and for one event loop. A free one goes to whoever has waited longest.

Ours and not the drivers', which ask the server before each use whether it is still there, have threads of their own, or
give what is free to whoever comes first.
"""

from __future__ import annotations

import asyncio
import os
import select
import threading
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import suppress
from time import monotonic
from typing import Final, Generic, Protocol, TypeVar

from retrysafe.errors import StoreUnavailable

# Names of hosts move, and sessions grow with all that they have ever planned.
_LIFE_SECONDS = 3600.0
_REST_SECONDS = 300.0


class Kept(Protocol):
    """A connection, as far as a pool needs to know it."""

    def fileno(self) -> int:
        """Return its socket's descriptor, -1 when it is closed."""
        ...

    def finish(self) -> None:
        """Close it without waiting for the server; safe to call again."""
        ...


K = TypeVar("K", bound=Kept)


class Shelf(Generic[K]):
    """The open connections of one pool, those that rest with the latest on top; safe for threads."""

    def __init__(self) -> None:
        """Begin empty."""
        self._born_at: dict[K, float] = {}
        self._resting: deque[tuple[float, K]] = deque()
        self.closed = False

    def add(self, connection: K) -> K:
        """Keep account of a new connection, which is lent at once."""
        self._born_at[connection] = monotonic()
        return connection

    def take(self) -> K | None:
        """Lend the connection that rested last, unless it has ended meanwhile; None when none is left."""
        while True:
            try:
                _, connection = self._resting.pop()
            except IndexError:
                return None
            if is_quiet(connection) and self.keeps(connection):
                return connection
            self.drop(connection)

    def keeps(self, connection: K) -> bool:
        """Tell whether a connection is young enough to be lent again; one that was closed meanwhile is not."""
        born_at = self._born_at.get(connection)
        return born_at is not None and monotonic() - born_at < _LIFE_SECONDS

    def put(self, connection: K) -> None:
        """Let a connection rest, and close the one that rested longest if it is not needed."""
        now = monotonic()
        self._resting.append((now, connection))
        if self.closed:
            self.close()
            return
        with suppress(IndexError):
            # Another thread may have taken the last one.
            if self._resting[0][0] < now - _REST_SECONDS:
                self.drop(self._resting.popleft()[1])

    def drop(self, connection: K) -> None:
        """Close a connection."""
        self._born_at.pop(connection, None)
        connection.finish()

    def close(self) -> None:
        """Close what rests, and what is put back from now on."""
        self.closed = True
        while True:
            try:
                _, connection = self._resting.pop()
            except IndexError:
                return
            self.drop(connection)

    def close_all(self) -> None:
        """Close what is lent as well; whoever had it is gone."""
        self.close()
        for connection in list(self._born_at):
            self.drop(connection)

    def disown(self) -> list[K]:
        """Let go of sockets that belong to the process that forked, without a word to the server.

        As long as a child had them open, too, the server would not notice the death of the parent.

        Returns:
            The connections, which must never be used nor collected.
        """
        inherited = list(self._born_at)
        nowhere = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        for connection in inherited:
            descriptor = connection.fileno()
            if descriptor >= 0:
                os.dup2(nowhere, descriptor, inheritable=False)
        os.close(nowhere)
        return inherited


class Pool(Generic[K]):
    """Connections for threads.

    Args:
        most: how many at the same time.
        patience_seconds: how long a thread waits for one.
        connect: makes one.
    """

    def __init__(self, most: int, patience_seconds: float, connect: Callable[[], K]) -> None:
        self._most: Final = most
        self._patience_seconds: Final = patience_seconds
        self._connect = connect
        self._door = threading.Lock()
        self._free = most
        self._waiting: deque[_Waiter[K]] = deque()
        self.shelf: Shelf[K] = Shelf()

    def lend(self) -> K:
        """Lend a connection, which whoever got it gives back.

        Raises:
            StoreUnavailable: every connection is in use, for as long as we wait.
            Exception: whatever connecting raises.
        """
        with self._door:
            waiter = None
            if self._free and not self._waiting:
                self._free -= 1
            else:
                waiter = _Waiter[K]()
                self._waiting.append(waiter)
        given = self.shelf.take() if waiter is None else self._await(waiter)
        if given is not None:
            return given
        try:
            return self.shelf.add(self._connect())
        except BaseException:
            self._pass_on(None)
            raise

    def give_back(self, connection: K, *, fit: bool) -> None:
        """Take a connection back.

        Args:
            connection: as it was lent.
            fit: whether it can be used again.
        """
        if fit and self.shelf.keeps(connection):
            self._pass_on(connection)
        else:
            self.shelf.drop(connection)
            self._pass_on(None)

    def _await(self, waiter: _Waiter[K]) -> K | None:
        try:
            served = waiter.served.wait(self._patience_seconds)
        except BaseException:
            if not self._leave(waiter):
                self._pass_on(waiter.connection)
            raise
        if not served and self._leave(waiter):
            raise exhausted(self._most, self._patience_seconds)
        return waiter.connection

    def _leave(self, waiter: _Waiter[K]) -> bool:
        """Wait no longer; False when it was served in this very moment."""
        with self._door:
            if waiter.served.is_set():
                return False
            self._waiting.remove(waiter)
            return True

    def _pass_on(self, connection: K | None) -> None:
        """Give a connection, or the right to make one, to whoever has waited longest."""
        with self._door:
            if self._waiting and not self.shelf.closed:
                waiter = self._waiting.popleft()
                waiter.connection = connection
                waiter.served.set()
                return
            if connection is not None:
                self.shelf.put(connection)
            if self._waiting:
                # A pool that was closed has nothing to hand on but the right to connect.
                self._waiting.popleft().served.set()
            else:
                self._free += 1


class _Waiter(Generic[K]):
    """A thread that waits for a connection."""

    def __init__(self) -> None:
        self.served = threading.Event()
        self.connection: K | None = None


class AsyncPool(Generic[K]):
    """Connections for one event loop, on which it is made; see :class:`Pool`."""

    def __init__(self, most: int, patience_seconds: float, connect: Callable[[], Awaitable[K]]) -> None:
        """Connect to nothing yet."""
        self._most: Final = most
        self._patience_seconds: Final = patience_seconds
        self._connect = connect
        self._free = most
        self._waiting: deque[asyncio.Future[K | None]] = deque()
        self.shelf: Shelf[K] = Shelf()
        self._end = _closed_with_its_loop(self.shelf)
        with suppress(StopIteration):
            # From its first step on, the loop closes it when it shuts down: transports can't be closed afterwards.
            self._end.__anext__().__await__().__next__()

    async def lend(self) -> K:
        """Lend a connection; see :meth:`Pool.lend`."""
        if self._free and not self._waiting:
            self._free -= 1
            given = self.shelf.take()
        else:
            given = await self._await()
        if given is not None:
            return given
        try:
            return self.shelf.add(await self._connect())
        except BaseException:
            self._pass_on(None)
            raise

    def give_back(self, connection: K, *, fit: bool) -> None:
        """Take a connection back; see :meth:`Pool.give_back`."""
        if fit and self.shelf.keeps(connection):
            self._pass_on(connection)
        else:
            self.shelf.drop(connection)
            self._pass_on(None)

    async def aclose(self) -> None:
        """Close what rests, and what is given back from now on."""
        self.shelf.close()
        # Here, and not by the loop's finalizer at some later time.
        await self._end.aclose()
        # Sockets are closed in the loop's next turns.
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    async def _await(self) -> K | None:
        waiter: asyncio.Future[K | None] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        try:
            async with asyncio.timeout(self._patience_seconds):
                return await waiter
        except BaseException as error:
            if waiter.done() and not waiter.cancelled():
                # Served in the very moment in which it was given up.
                self._pass_on(waiter.result())
            else:
                with suppress(ValueError):
                    self._waiting.remove(waiter)
            if isinstance(error, TimeoutError):
                raise exhausted(self._most, self._patience_seconds) from None
            raise

    def _pass_on(self, connection: K | None) -> None:
        if connection is not None and self.shelf.closed:
            self.shelf.drop(connection)
            connection = None
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(connection)
                return
        if connection is not None:
            self.shelf.put(connection)
        self._free += 1


async def _closed_with_its_loop(shelf: Shelf[K]) -> AsyncGenerator[None]:
    try:
        yield
    finally:
        if not shelf.closed:
            shelf.close_all()
            await asyncio.sleep(0)


def is_quiet(connection: Kept) -> bool:
    """Tell whether a resting connection is still there: a server has nothing to say to it but that it has ended."""
    descriptor = connection.fileno()
    if descriptor < 0:
        return False
    look = select.poll()
    look.register(descriptor, select.POLLIN)
    return not look.poll(0)


def exhausted(most: int, patience_seconds: float) -> StoreUnavailable:
    """Say that no connection became free."""
    return StoreUnavailable(f"all {most} connections to the store have been in use for {patience_seconds:.0f} s")
