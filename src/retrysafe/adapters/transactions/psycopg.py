"""Transactions of psycopg 3, in the database that is also the store's; for threads and for event loops."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

try:
    import psycopg
    from psycopg import AsyncConnection, Connection
    from psycopg.pq import ConnStatus, TransactionStatus
    from psycopg.rows import tuple_row
    from psycopg_pool import AsyncConnectionPool, ConnectionPool
except ImportError as missing:
    raise ImportError("this binding needs psycopg: pip install 'retrysafe[postgres]'") from missing

from retrysafe.adapters.transactions.ending import to_the_end
from retrysafe.adapters.transactions.statements import ENDED, arun, limit_postgres, worded
from retrysafe.errors import ConfigurationError
from retrysafe.runtime import sqlstates
from retrysafe.runtime.transactions import CommitUnknown
from retrysafe.stores.program import Answer, Factory, Program, Statement, run

T = TypeVar("T")


class PsycopgTransactions:
    """Connections of a pool of the application's, or one of its own for each transaction."""

    def __init__(self, source: ConnectionPool[Any] | str) -> None:
        """Know where connections come from; nothing connects.

        Args:
            source: the application's pool, or where to connect. Connections may be in autocommit mode or not, and give
                rows of any kind.
        """
        self._source = source

    def begin(self, limit_seconds: float) -> PsycopgTransaction:
        """Open a transaction which the server ends after ``limit_seconds`` without a sign of life (R11).

        Raises:
            psycopg.Error: the server cannot be reached.
            psycopg_pool.PoolTimeout: no connection became free in time.
        """
        if isinstance(self._source, str):
            connection, pool = psycopg.connect(self._source), None
        else:
            pool = self._source
            connection = pool.getconn(min(pool.timeout, limit_seconds))
        transaction = PsycopgTransaction(connection, pool)
        try:
            transaction.enter(limit_seconds)
        except BaseException:
            transaction.rollback()
            raise
        return transaction

    def conflicted(self, error: BaseException) -> bool:
        """Tell whether the server rolled back because of another transaction."""
        return sqlstates.conflicted(error)


class PsycopgTransaction:
    """One open transaction; ``handle`` is its connection, whose ``commit`` and ``rollback`` psycopg refuses in it."""

    def __init__(self, connection: Connection[Any], pool: ConnectionPool[Any] | None) -> None:
        """Take over a connection."""
        self.handle = connection
        self._pool = pool
        self._block = connection.transaction()
        self._open = True

    def enter(self, limit_seconds: float) -> None:
        """Begin."""
        self._block.__enter__()
        run_on(self.handle, lambda: _limit(self.handle, limit_seconds))

    def run(self, program: Factory[T]) -> T:
        """Run a program of the store in this transaction.

        Raises:
            ConfigurationError: the operation's code has ended the transaction, by statements of its own.
        """
        _still_open(self.handle)
        return run_on(self.handle, program)

    def commit(self) -> None:
        """Commit and give the connection back.

        Raises:
            CommitUnknown: the connection died.
            psycopg.Error: the server rolled back.
        """
        self._open = False
        try:
            _can_commit(self.handle)
            with _said_by_whom():
                self._block.__exit__(None, None, None)
        finally:
            self._give_back()

    def rollback(self) -> None:
        """Roll back and give the connection back; safe to repeat."""
        if self._open:
            self._open = False
            with suppress(Exception):
                self._block.__exit__(psycopg.Rollback, psycopg.Rollback(), None)
            self._give_back()

    def _give_back(self) -> None:
        if self._pool is None or self.handle.info.transaction_status is not TransactionStatus.IDLE:
            self.handle.close()
        if self._pool is not None:
            with suppress(Exception):
                self._pool.putconn(self.handle)


class AsyncPsycopgTransactions:
    """The same for event loops."""

    def __init__(self, source: AsyncConnectionPool[Any] | str) -> None:
        """Know where connections come from; see :class:`PsycopgTransactions`."""
        self._source = source

    async def begin(self, limit_seconds: float) -> AsyncPsycopgTransaction:
        """Open a transaction; see :meth:`PsycopgTransactions.begin`."""
        if isinstance(self._source, str):
            connection, pool = await AsyncConnection.connect(self._source), None
        else:
            pool = self._source
            connection = await pool.getconn(min(pool.timeout, limit_seconds))
        transaction = AsyncPsycopgTransaction(connection, pool)
        try:
            await transaction.enter(limit_seconds)
        except BaseException:
            await transaction.rollback()
            raise
        return transaction

    def conflicted(self, error: BaseException) -> bool:
        """Tell whether the server rolled back because of another transaction."""
        return sqlstates.conflicted(error)


class AsyncPsycopgTransaction:
    """One open transaction; ``handle`` is its connection, whose ``commit`` and ``rollback`` psycopg refuses in it."""

    def __init__(self, connection: AsyncConnection[Any], pool: AsyncConnectionPool[Any] | None) -> None:
        """Take over a connection."""
        self.handle = connection
        self._pool = pool
        self._block = connection.transaction()
        self._open = True

    async def enter(self, limit_seconds: float) -> None:
        """Begin."""
        await self._block.__aenter__()
        await arun_on(self.handle, lambda: _limit(self.handle, limit_seconds))

    async def run(self, program: Factory[T]) -> T:
        """Run a program of the store in this transaction; see :meth:`PsycopgTransaction.run`."""
        _still_open(self.handle)
        return await arun_on(self.handle, program)

    async def commit(self) -> None:
        """Commit and give the connection back, also when the caller is cancelled; else as for threads."""
        self._open = False
        await to_the_end(self._commit())

    async def rollback(self) -> None:
        """Roll back and give the connection back, also when the caller is cancelled; safe to repeat."""
        if self._open:
            self._open = False
            await to_the_end(self._roll_back())

    async def _commit(self) -> None:
        try:
            _can_commit(self.handle)
            with _said_by_whom():
                await self._block.__aexit__(None, None, None)
        finally:
            await self._give_back()

    async def _roll_back(self) -> None:
        with suppress(Exception):
            await self._block.__aexit__(psycopg.Rollback, psycopg.Rollback(), None)
        await self._give_back()

    async def _give_back(self) -> None:
        if self._pool is None or self.handle.info.transaction_status is not TransactionStatus.IDLE:
            await self.handle.close()
        if self._pool is not None:
            with suppress(Exception):
                await self._pool.putconn(self.handle)


def run_on(connection: Connection[Any], program: Factory[T]) -> T:
    """Run a program of ours on a connection, in whatever transaction it has open."""

    def fetch(statement: Statement) -> Answer:
        cursor.execute(_text(statement), statement.parameters)
        return Answer(cursor.fetchall() if cursor.description is not None else (), max(cursor.rowcount, 0))

    # The application's rows may look like anything.
    with connection.cursor(row_factory=tuple_row) as cursor:
        return run(program(), fetch)


async def arun_on(connection: AsyncConnection[Any], program: Factory[T]) -> T:
    """Run a program of ours on a connection, in whatever transaction it has open."""

    async def fetch(statement: Statement) -> Answer:
        await cursor.execute(_text(statement), statement.parameters)
        return Answer(await cursor.fetchall() if cursor.description is not None else (), max(cursor.rowcount, 0))

    async with connection.cursor(row_factory=tuple_row) as cursor:
        return await arun(program(), fetch)


def dialect_of(_: Connection[Any] | AsyncConnection[Any]) -> str:
    """Name the database's SQL."""
    return "postgresql"


def _text(statement: Statement) -> bytes:
    return worded(statement.text, "pyformat").encode()


def _limit(connection: Connection[Any] | AsyncConnection[Any], limit_seconds: float) -> Program[None]:
    return limit_postgres(connection.info.server_version // 10_000, limit_seconds)


def _still_open(connection: Connection[Any] | AsyncConnection[Any]) -> None:
    # After statements like COMMIT there is none; psycopg refuses its methods of that name by itself.
    if connection.info.transaction_status is TransactionStatus.IDLE:
        raise ConfigurationError([ENDED])


def _can_commit(connection: Connection[Any] | AsyncConnection[Any]) -> None:
    """Raise what psycopg would not: a block whose connection is dead ends in silence."""
    if connection.pgconn.status != ConnStatus.OK:
        raise psycopg.OperationalError("the connection was lost before the commit")


@contextmanager
def _said_by_whom() -> Generator[None]:
    """Let an error of a commit pass when it means that nothing was committed, and say so when nobody knows."""
    try:
        yield
    except psycopg.Error as error:
        # Blocks of the author's that were left open are noticed before anything is sent.
        if sqlstates.refused(error) or isinstance(error, psycopg.ProgrammingError):
            raise
        raise CommitUnknown from error
