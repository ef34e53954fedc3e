"""Transactions of asyncpg, in the database that is also the store's; for event loops."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from importlib import import_module
from typing import Any, TypeVar

try:
    # asyncpg has no types of its own.
    asyncpg: Any = import_module("asyncpg")
except ImportError as missing:
    raise ImportError("this binding needs asyncpg: pip install 'retrysafe[asyncpg]'") from missing

from retrysafe.adapters.transactions.ending import to_the_end
from retrysafe.adapters.transactions.statements import ENDED, arun, limit_postgres, worded
from retrysafe.errors import ConfigurationError
from retrysafe.runtime import sqlstates
from retrysafe.runtime.transactions import CommitUnknown
from retrysafe.stores.program import Answer, Factory, Statement

T = TypeVar("T")

_GIVES_ROWS = re.compile(r"\s*(SELECT|WITH|VALUES)\b|.*\bRETURNING\b", re.DOTALL | re.IGNORECASE)


class AsyncpgTransactions:
    """Connections of the application's pool."""

    def __init__(self, pool: Any | Callable[[], Any]) -> None:  # noqa: ANN401 - asyncpg has no types of its own
        """Know the pool; nothing is taken from it yet.

        Args:
            pool: an ``asyncpg.Pool``, or a function that returns it: a pool is made on the event loop that it serves,
                and so mostly later than the guard.
        """
        self._pool: Any = pool

    async def begin(self, limit_seconds: float) -> AsyncpgTransaction:
        """Open a transaction which the server ends after ``limit_seconds`` without a sign of life (R11).

        Raises:
            asyncpg.PostgresError: the server cannot be reached.
            TimeoutError: no connection became free in ``limit_seconds``.
        """
        pool: Any = self._pool() if callable(self._pool) else self._pool
        connection = await pool.acquire(timeout=limit_seconds)
        transaction = AsyncpgTransaction(pool, connection)
        try:
            await transaction.enter(limit_seconds)
        except BaseException:
            await transaction.rollback()
            raise
        return transaction

    def conflicted(self, error: BaseException) -> bool:
        """Tell whether the server rolled back because of another transaction."""
        return sqlstates.conflicted(error)


class AsyncpgTransaction:
    """One open transaction; ``handle`` is its connection."""

    def __init__(self, pool: Any, connection: Any) -> None:  # noqa: ANN401 - asyncpg has no types of its own
        """Take over a connection."""
        self.handle = connection
        self._pool = pool
        self._block = connection.transaction()
        self._open = True

    async def enter(self, limit_seconds: float) -> None:
        """Begin."""
        await self._block.start()
        version = self.handle.get_server_version().major
        await arun_on(self.handle, lambda: limit_postgres(version, limit_seconds))

    async def run(self, program: Factory[T]) -> T:
        """Run a program of the store in this transaction.

        Raises:
            ConfigurationError: the operation's code has ended the transaction, by statements of its own.
        """
        if not self.handle.is_closed() and not self.handle.is_in_transaction():
            raise ConfigurationError([ENDED])
        return await arun_on(self.handle, program)

    async def commit(self) -> None:
        """Commit and give the connection back, also when the caller is cancelled.

        Raises:
            CommitUnknown: the connection died.
            asyncpg.PostgresError: the server rolled back.
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
            await self._block.commit()
        except Exception as error:
            if sqlstates.refused(error):
                raise
            self._cut()
            raise CommitUnknown from error
        finally:
            await self._give_back()

    async def _roll_back(self) -> None:
        try:
            await self._block.rollback()
        except Exception:  # noqa: BLE001 - whatever it is, the server rolls back when the connection ends
            self._cut()
        await self._give_back()

    def _cut(self) -> None:
        # The pool may have taken a dead connection back by itself; then there is nothing to terminate.
        with suppress(Exception):
            self.handle.terminate()

    async def _give_back(self) -> None:
        with suppress(Exception):
            await self._pool.release(self.handle)


async def arun_on(connection: Any, program: Factory[T]) -> T:  # noqa: ANN401 - asyncpg has no types of its own
    """Run a program of ours on a connection, in whatever transaction it has open."""

    async def fetch(statement: Statement) -> Answer:
        text = worded(statement.text, "numeric_dollar")
        if _gives_rows(text):
            return Answer([tuple(row) for row in await connection.fetch(text, *statement.parameters)])
        # Such as "UPDATE 1" or "INSERT 0 1".
        last = (await connection.execute(text, *statement.parameters)).rpartition(" ")[2]
        return Answer(changed=int(last) if last.isdigit() else 0)

    return await arun(program(), fetch)


def dialect_of(_: Any) -> str:  # noqa: ANN401 - asyncpg has no types of its own
    """Name the database's SQL."""
    return "postgresql"


@cache
def _gives_rows(text: str) -> bool:
    """Tell what to ask asyncpg for: it gives either rows, or how many there were."""
    return _GIVES_ROWS.match(text) is not None
