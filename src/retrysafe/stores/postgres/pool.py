"""Sessions that are kept: for threads, and for one event loop.

Ours and not the driver's. psycopg's pool has threads of its own, tells of a server that is down only when its time is
over, and asks the server before each use whether it is still there; asyncpg's has it forget everything after each use.
A session that is given back goes to whoever has waited longest, and never past them.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import asynccontextmanager, contextmanager, suppress
from time import monotonic
from typing import Generic, TypeVar

from retrysafe.errors import StoreUnavailable
from retrysafe.stores.postgres.connect import Settings
from retrysafe.stores.postgres.failures import spares_session
from retrysafe.stores.postgres.sessions import Ending, LoopSession, ThreadSession, is_quiet

S = TypeVar("S", bound=Ending)

# Names of hosts move, and sessions grow with all that they have ever planned.
_LIFE_SECONDS = 3600.0
_REST_SECONDS = 300.0


class Shelf(Generic[S]):
    """The open sessions of one pool, those that rest with the latest on top; safe for threads."""

    def __init__(self) -> None:
        """Begin empty."""
        self._born_at: dict[S, float] = {}
        self._resting: deque[tuple[float, S]] = deque()
        self.closed = False

    def add(self, session: S) -> S:
        """Keep account of a new session, which is lent at once."""
        self._born_at[session] = monotonic()
        return session

    def take(self) -> S | None:
        """Lend the session that rested last, unless it has ended meanwhile; None when none is left."""
        while True:
            try:
                _, session = self._resting.pop()
            except IndexError:
                return None
            if is_quiet(session) and self.keeps(session):
                return session
            self.drop(session)

    def keeps(self, session: S) -> bool:
        """Tell whether a session that was just used can be lent again."""
        return not session.closed and monotonic() - self._born_at[session] < _LIFE_SECONDS

    def put(self, session: S) -> None:
        """Let a session rest, and close the one that rested longest if it is not needed."""
        now = monotonic()
        self._resting.append((now, session))
        if self.closed:
            self.close()
            return
        with suppress(IndexError):
            # Another thread may have taken the last one.
            if self._resting[0][0] < now - _REST_SECONDS:
                self.drop(self._resting.popleft()[1])

    def drop(self, session: S) -> None:
        """Close a session."""
        self._born_at.pop(session, None)
        session.end()

    def close(self) -> None:
        """Close what rests, and what is put back from now on."""
        self.closed = True
        while True:
            try:
                _, session = self._resting.pop()
            except IndexError:
                return
            self.drop(session)

    def close_all(self) -> None:
        """Close what is lent as well; whoever had it is gone."""
        self.close()
        for session in list(self._born_at):
            self.drop(session)

    def disown(self) -> list[S]:
        """Let go of sockets that belong to the process that forked, without a word to the server.

        As long as a child had them open, too, the server would not notice the death of the parent.

        Returns:
            The sessions, which must never be used nor collected.
        """
        inherited = list(self._born_at)
        nowhere = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        for session in inherited:
            if not session.closed:
                os.dup2(nowhere, session.socket, inheritable=False)
        os.close(nowhere)
        return inherited


class Pool:
    """Sessions for threads."""

    def __init__(self, settings: Settings) -> None:
        """Connect to nothing yet."""
        self._settings = settings
        self._door = threading.Lock()
        self._lent = 0
        self._waiting: deque[_Turn] = deque()
        self.shelf: Shelf[ThreadSession] = Shelf()

    @contextmanager
    def session(self) -> Generator[ThreadSession]:
        """Lend a session, outside of any transaction.

        Raises:
            StoreUnavailable: every session is in use, for as long as we wait.
            psycopg.Error: the server is not there.
        """
        handed = self._wait_for_turn()
        session: ThreadSession | None = None
        try:
            session = handed or self.shelf.take() or self.shelf.add(ThreadSession.connect(self._settings))
            yield session
        except BaseException as error:
            if session is not None and not spares_session(error):
                session.end()
            raise
        finally:
            if session is not None and not self.shelf.keeps(session):
                self.shelf.drop(session)
                session = None
            self._give_on(session)

    @contextmanager
    def transaction(self, *, reads: bool, patient: bool = True) -> Generator[ThreadSession]:
        """Lend a session for one transaction, which is committed unless an exception leaves.

        Args:
            reads: whether it only reads, all of it as of one moment.
            patient: whether it waits for a row that another has locked for as long as a statement may take.

        Raises:
            StoreUnavailable: every session is in use, for as long as we wait.
            psycopg.Error: the server is not there, or did not commit; or nobody knows.
        """
        with self.session() as session:
            session.command(self._settings.begin(reads=reads, patient=patient))
            try:
                yield session
            except BaseException as error:
                self._roll_back(session, error)
                raise
            session.command("COMMIT")

    @staticmethod
    def _roll_back(session: ThreadSession, error: BaseException) -> None:
        if spares_session(error):
            try:
                session.command("ROLLBACK")
            except Exception:  # noqa: BLE001 - whatever it is, the server rolls back when the session ends
                session.end()

    def _wait_for_turn(self) -> ThreadSession | None:
        with self._door:
            if self._lent < self._settings.pool:
                self._lent += 1
                return None
            turn = _Turn()
            self._waiting.append(turn)
        try:
            came = turn.came.acquire(timeout=self._settings.timeout_seconds)
        except BaseException:
            self._leave(turn)
            raise
        if not came:
            self._leave(turn)
            raise _exhausted(self._settings)
        return turn.session

    def _leave(self, turn: _Turn) -> None:
        with self._door:
            if turn in self._waiting:
                self._waiting.remove(turn)
                return
        # It came in this very moment.
        self._give_on(turn.session)

    def _give_on(self, session: ThreadSession | None) -> None:
        """Hand a session, or the right to make one, to whoever waits longest."""
        with self._door:
            turn = self._waiting.popleft() if self._waiting else None
            if turn is None:
                self._lent -= 1
        if turn is not None and not self.shelf.closed:
            turn.session = session
            turn.came.release()
            return
        if session is not None:
            self.shelf.put(session)
        if turn is not None:
            turn.came.release()


class _Turn:
    """A thread's wait for a session."""

    __slots__ = ("came", "session")

    def __init__(self) -> None:
        self.session: ThreadSession | None = None
        self.came = threading.Lock()
        self.came.acquire()


class AsyncPool:
    """Sessions for one event loop; see :class:`Pool`.

    Args:
        settings: how the server is reached.
        connect: makes a session.
    """

    def __init__(self, settings: Settings, connect: Callable[[Settings], Awaitable[LoopSession]]) -> None:
        """Connect to nothing yet."""
        self._settings = settings
        self._connect = connect
        self._lent = 0
        self._waiting: deque[asyncio.Future[LoopSession | None]] = deque()
        self.shelf: Shelf[LoopSession] = Shelf()

    @asynccontextmanager
    async def transaction(self, *, reads: bool, patient: bool = True) -> AsyncGenerator[LoopSession]:
        """Lend a session for one transaction; see :meth:`Pool.transaction`."""
        session = await self.take()
        try:
            await session.command(self._settings.begin(reads=reads, patient=patient))
            try:
                yield session
            except BaseException as error:
                await self._roll_back(session, error)
                raise
            await session.command("COMMIT")
        except BaseException as error:
            self.give_back(session, error)
            raise
        self.give_back(session)

    async def take(self) -> LoopSession:
        """Borrow a session, outside of any transaction.

        Raises:
            StoreUnavailable: every session is in use, for as long as we wait.
            Exception: the driver's own; the server is not there.
        """
        handed: LoopSession | None = None
        if self._lent < self._settings.pool:
            self._lent += 1
        else:
            handed = await self._wait_for_turn()
        try:
            return handed or self.shelf.take() or self.shelf.add(await self._connect(self._settings))
        except BaseException:
            self._give_on(None)
            raise

    def give_back(self, session: LoopSession, error: BaseException | None = None) -> None:
        """Give back what was borrowed.

        Args:
            session: what was borrowed.
            error: what it was used for failed with; one that may have spoilt the session ends it.
        """
        if (error is None or spares_session(error)) and self.shelf.keeps(session):
            self._give_on(session)
        else:
            self.shelf.drop(session)
            self._give_on(None)

    @staticmethod
    async def _roll_back(session: LoopSession, error: BaseException) -> None:
        if spares_session(error):
            try:
                await session.command("ROLLBACK")
            except Exception:  # noqa: BLE001 - whatever it is, the server rolls back when the session ends
                session.end()

    async def _wait_for_turn(self) -> LoopSession | None:
        turn: asyncio.Future[LoopSession | None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            async with asyncio.timeout(self._settings.timeout_seconds):
                return await turn
        except TimeoutError:
            self._leave(turn)
            raise _exhausted(self._settings) from None
        except BaseException:
            self._leave(turn)
            raise

    def _leave(self, turn: asyncio.Future[LoopSession | None]) -> None:
        if turn.done() and not turn.cancelled():
            # It came in this very moment.
            self._give_on(turn.result())

    def _give_on(self, session: LoopSession | None) -> None:
        """Hand a session, or the right to make one, to whoever waits longest."""
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                if self.shelf.closed and session is not None:
                    self.shelf.put(session)
                    session = None
                turn.set_result(session)
                return
        self._lent -= 1
        if session is not None:
            self.shelf.put(session)


def _exhausted(settings: Settings) -> StoreUnavailable:
    return StoreUnavailable(
        f"PostgreSQL: all {settings.pool} connections have been in use for {settings.timeout_seconds:.0f} s"
    )
