"""Transactions of asyncmy, in the database of MySQL or MariaDB that is also the store's; for event loops."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from typing import Any, TypeVar

try:
    # It has no types of its own that hold.
    cursors: Any = import_module("asyncmy.cursors")
except ImportError as missing:
    raise ImportError("this binding needs asyncmy: pip install 'retrysafe[mysql]'") from missing

from retrysafe.adapters.transactions.ending import to_the_end
from retrysafe.adapters.transactions.pymysql import IS_STILL_MARKED, MARK, raise_if_ended
from retrysafe.adapters.transactions.statements import limit_mysql, refuse_unsafe_escapes, worded
from retrysafe.runtime import sqlstates
from retrysafe.runtime.transactions import CommitUnknown
from retrysafe.stores.program import Answer, Factory, Program, Statement, arun

T = TypeVar("T")


class AsyncmyTransactions:
    """Connections of the application's pool."""

    def __init__(self, pool: Any | Callable[[], Any]) -> None:  # noqa: ANN401 - it has no types of its own
        """Know the pool; nothing is taken from it yet.

        Args:
            pool: an ``asyncmy.Pool``, or a function that returns it: a pool is made on the event loop that it serves,
                and so mostly later than the guard.
        """
        self._pool: Any = pool

    async def begin(self, limit_seconds: float) -> AsyncmyTransaction:
        """Open a transaction which the server ends after ``limit_seconds`` without a sign of life (R11).

        Raises:
            asyncmy.errors.MySQLError: the server cannot be reached.
        """
        pool: Any = self._pool() if callable(self._pool) else self._pool
        transaction = AsyncmyTransaction(pool, await pool.acquire())
        try:
            await transaction.enter(limit_seconds)
        except BaseException:
            await transaction.rollback()
            raise
        return transaction

    def conflicted(self, error: BaseException) -> bool:
        """Tell whether the server rolled back because of another transaction."""
        return sqlstates.conflicted(error)


class AsyncmyTransaction:
    """One open transaction; ``handle`` is its connection."""

    def __init__(self, pool: Any, connection: Any) -> None:  # noqa: ANN401 - it has no types of its own
        """Take over a connection."""
        self.handle = connection
        self._pool = pool
        self._set_back: Callable[[], Program[None]] | None = None
        self._open = True

    async def enter(self, limit_seconds: float) -> None:
        """Begin."""
        version = self.handle.get_server_info()
        self._set_back = await arun_on(self.handle, lambda: limit_mysql(version, limit_seconds))
        await self.handle.begin()
        await self.handle.query(MARK)

    async def run(self, program: Factory[T]) -> T:
        """Run a program of the store in this transaction.

        Raises:
            ConfigurationError: the operation's code has ended the transaction, by statements of its own.
        """
        try:
            await self.handle.query(IS_STILL_MARKED)
            await self.handle.query(MARK)
        except Exception as error:
            raise_if_ended(error)
            raise
        return await arun_on(self.handle, program)

    async def commit(self) -> None:
        """Commit and give the connection back, also when the caller is cancelled.

        Raises:
            CommitUnknown: the connection died.
            ConfigurationError: the operation's code has ended the transaction, by statements of its own.
            asyncmy.errors.MySQLError: the server rolled back.
        """
        self._open = False
        await to_the_end(self._commit())

    async def rollback(self) -> None:
        """Roll back and give the connection back, also when the caller is cancelled; safe to repeat."""
        if self._open:
            self._open = False
            await to_the_end(self._roll_back())

    async def _commit(self) -> None:
        try:
            await self.handle.query(IS_STILL_MARKED)
            await self.handle.commit()
        except Exception as error:
            await self._undo()
            raise_if_ended(error)
            if sqlstates.refused(error):
                raise
            raise CommitUnknown from error
        finally:
            await self._give_back()

    async def _roll_back(self) -> None:
        await self._undo()
        await self._give_back()

    async def _undo(self) -> None:
        try:
            await self.handle.rollback()
        except Exception:  # noqa: BLE001 - whatever it is, the server rolls back when the connection ends
            self.handle.close()

    async def _give_back(self) -> None:
        try:
            if self._set_back is not None:
                await arun_on(self.handle, self._set_back)
        except Exception:  # noqa: BLE001 - a session with limits that are not its own is not for others
            self.handle.close()
        with suppress(Exception):
            await self._pool.release(self.handle)


async def arun_on(connection: Any, program: Factory[T]) -> T:  # noqa: ANN401 - it has no types of its own
    """Run a program of ours on a connection, in whatever transaction it has open."""
    refuse_unsafe_escapes(connection)

    async def fetch(statement: Statement) -> Answer:
        await cursor.execute(worded(statement.text, "pyformat"), tuple(statement.parameters))
        rows = await cursor.fetchall() if cursor.description is not None else ()
        return Answer(rows, max(cursor.rowcount, 0))

    # The application's rows may look like anything.
    async with connection.cursor(cursors.Cursor) as cursor:
        return await arun(program(), fetch)


def dialect_of(_: Any) -> str:  # noqa: ANN401 - it has no types of its own
    """Name the database's SQL."""
    return "mysql"
