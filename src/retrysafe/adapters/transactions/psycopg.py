"""Transactions of psycopg 3, in the database that is also the store's; for threads and for event loops."""

from __future__ import annotations

from functools import cache
from typing import Any, TypeVar

try:
    import psycopg
    from psycopg import errors
    from psycopg_pool import AsyncConnectionPool, ConnectionPool
except ImportError as missing:
    raise ImportError("this binding needs psycopg: pip install 'retrysafe[postgres]'") from missing

from retrysafe.runtime.transactions import CommitUnknown
from retrysafe.stores.program import Answer, Factory, Statement, run

T = TypeVar("T")

_CONFLICTS = (errors.SerializationFailure, errors.DeadlockDetected)
# The server ends a frozen session before its lease does, so that it cannot keep rows locked against its successor.
_LIMITS = (
    "SELECT set_config('idle_in_transaction_session_timeout', %s, true), set_config('statement_timeout', %s, true), "
    "set_config('transaction_timeout', %s, true)"
)
_LIMITS_BEFORE_17 = (
    "SELECT set_config('idle_in_transaction_session_timeout', %s, true), set_config('statement_timeout', %s, true)"
)


class PsycopgTransactions:
    """Connections of a pool of the application's, or one of its own for each transaction."""

    def __init__(self, source: ConnectionPool[Any] | str) -> None:
        """Know where connections come from.

        Args:
            source: the application's pool, or where to connect.
        """
        self._source = source

    def begin(self, limit_seconds: float) -> PsycopgTransaction:
        """Open a transaction which the server ends after ``limit_seconds`` without a sign of life (R11)."""
        if isinstance(self._source, str):
            connection, pool = psycopg.connect(self._source), None
        else:
            connection, pool = self._source.getconn(), self._source
        text, parameters = _limits(connection.info.server_version, limit_seconds)
        connection.execute(text, parameters)
        return PsycopgTransaction(connection, pool)

    def conflicted(self, error: BaseException) -> bool:
        """Tell whether the server rolled back because of another transaction."""
        return isinstance(error, _CONFLICTS)


class PsycopgTransaction:
    """One open transaction; ``handle`` is its connection."""

    def __init__(self, connection: psycopg.Connection[Any], pool: ConnectionPool[Any] | None) -> None:
        """Take over a connection."""
        self.handle = connection
        self._pool = pool
        self._open = True

    def run(self, program: Factory[T]) -> T:
        """Run a program of the store in this transaction."""
        with self.handle.cursor() as cursor:
            return run(program(), lambda statement: _fetch(cursor, statement))

    def commit(self) -> None:
        """Commit and give the connection back.

        Raises:
            CommitUnknown: the connection died.
            psycopg.Error: the server rolled back.
        """
        try:
            self.handle.commit()
        except psycopg.Error as error:
            if self.handle.broken:
                self._give_back()
                raise CommitUnknown from error
            raise
        self._give_back()

    def rollback(self) -> None:
        """Roll back and give the connection back; safe to repeat."""
        if self._open:
            try:
                self.handle.rollback()
            except psycopg.Error:
                self.handle.close()
            self._give_back()

    def _give_back(self) -> None:
        self._open = False
        if self._pool is None:
            self.handle.close()
        else:
            self._pool.putconn(self.handle)


class AsyncPsycopgTransactions:
    """The same for event loops."""

    def __init__(self, source: AsyncConnectionPool[Any] | str) -> None:
        """Know where connections come from; see :class:`PsycopgTransactions`."""
        self._source = source

    async def begin(self, limit_seconds: float) -> AsyncPsycopgTransaction:
        """Open a transaction; see :meth:`PsycopgTransactions.begin`."""
        if isinstance(self._source, str):
            connection, pool = await psycopg.AsyncConnection.connect(self._source), None
        else:
            connection, pool = await self._source.getconn(), self._source
        text, parameters = _limits(connection.info.server_version, limit_seconds)
        await connection.execute(text, parameters)
        return AsyncPsycopgTransaction(connection, pool)

    def conflicted(self, error: BaseException) -> bool:
        """Tell whether the server rolled back because of another transaction."""
        return isinstance(error, _CONFLICTS)


class AsyncPsycopgTransaction:
    """One open transaction; ``handle`` is its connection."""

    def __init__(self, connection: psycopg.AsyncConnection[Any], pool: AsyncConnectionPool[Any] | None) -> None:
        """Take over a connection."""
        self.handle = connection
        self._pool = pool
        self._open = True

    async def run(self, program: Factory[T]) -> T:
        """Run a program of the store in this transaction."""
        made = program()
        async with self.handle.cursor() as cursor:
            try:
                statement = next(made)
                while True:
                    await cursor.execute(_worded(statement.text), statement.parameters)
                    rows = await cursor.fetchall() if cursor.description is not None else []
                    statement = made.send(Answer(rows, cursor.rowcount))
            except StopIteration as end:
                reply: T = end.value
                return reply

    async def commit(self) -> None:
        """Commit and give the connection back; see :meth:`PsycopgTransaction.commit`."""
        try:
            await self.handle.commit()
        except psycopg.Error as error:
            if self.handle.broken:
                await self._give_back()
                raise CommitUnknown from error
            raise
        await self._give_back()

    async def rollback(self) -> None:
        """Roll back and give the connection back; safe to repeat."""
        if self._open:
            try:
                await self.handle.rollback()
            except psycopg.Error:
                await self.handle.close()
            await self._give_back()

    async def _give_back(self) -> None:
        self._open = False
        if self._pool is None:
            await self.handle.close()
        else:
            await self._pool.putconn(self.handle)


def _limits(version: int, limit_seconds: float) -> tuple[bytes, tuple[str, ...]]:
    milliseconds = str(max(1, int(limit_seconds * 1000)))
    if version >= 170_000:
        return _LIMITS.encode(), (milliseconds,) * 3
    return _LIMITS_BEFORE_17.encode(), (milliseconds,) * 2


@cache
def _worded(text: str) -> bytes:
    """Rewrite placeholders as psycopg has them."""
    return text.replace("?", "%s").encode()


def _fetch(cursor: psycopg.Cursor[Any], statement: Statement) -> Answer:
    cursor.execute(_worded(statement.text), statement.parameters)
    if cursor.description is None:
        return Answer(changed=cursor.rowcount)
    return Answer(cursor.fetchall(), cursor.rowcount)
