"""Transactions of asyncpg, in the database that is also the store's; for event loops."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import Any, TypeVar

try:
    # asyncpg has no types of its own.
    asyncpg: Any = import_module("asyncpg")
except ImportError as missing:
    raise ImportError("this binding needs asyncpg: pip install 'retrysafe[asyncpg]'") from missing

from retrysafe.runtime.transactions import CommitUnknown
from retrysafe.stores.program import Answer, Factory

T = TypeVar("T")

_LIMITS = (
    "SELECT set_config('idle_in_transaction_session_timeout', $1, true), set_config('statement_timeout', $1, true)"
)


class AsyncpgTransactions:
    """Connections of the application's pool."""

    def __init__(self, pool: Any) -> None:  # noqa: ANN401 - asyncpg has no types of its own
        """Know the pool; nothing is taken from it yet.

        Args:
            pool: an ``asyncpg.Pool``.
        """
        self._pool = pool

    async def begin(self, limit_seconds: float) -> AsyncpgTransaction:
        """Open a transaction which the server ends after ``limit_seconds`` without a sign of life (R11)."""
        connection = await self._pool.acquire()
        transaction = connection.transaction()
        await transaction.start()
        await connection.fetch(_LIMITS, str(max(1, int(limit_seconds * 1000))))
        return AsyncpgTransaction(self._pool, connection, transaction)

    def conflicted(self, error: BaseException) -> bool:
        """Tell whether the server rolled back because of another transaction."""
        return isinstance(error, (asyncpg.SerializationError, asyncpg.DeadlockDetectedError))


class AsyncpgTransaction:
    """One open transaction; ``handle`` is its connection."""

    def __init__(self, pool: Any, connection: Any, transaction: Any) -> None:  # noqa: ANN401 - asyncpg has no types
        """Take over a connection with an open transaction."""
        self.handle = connection
        self._pool = pool
        self._transaction = transaction
        self._open = True

    async def run(self, program: Factory[T]) -> T:
        """Run a program of the store in this transaction."""
        made = program()
        try:
            statement = next(made)
            while True:
                prepared = await self.handle.prepare(_worded(statement.text))
                rows = [tuple(row) for row in await prepared.fetch(*statement.parameters)]
                # Such as "UPDATE 1".
                last = (prepared.get_statusmsg() or "").rpartition(" ")[2]
                statement = made.send(Answer(rows, int(last) if last.isdigit() else 0))
        except StopIteration as end:
            reply: T = end.value
            return reply

    async def commit(self) -> None:
        """Commit and give the connection back.

        Raises:
            CommitUnknown: the connection died.
            asyncpg.PostgresError: the server rolled back.
        """
        try:
            await self._transaction.commit()
        except (asyncpg.PostgresConnectionError, asyncpg.InterfaceError, OSError) as error:
            await self._give_back()
            raise CommitUnknown from error
        await self._give_back()

    async def rollback(self) -> None:
        """Roll back and give the connection back; safe to repeat."""
        if self._open:
            try:
                await self._transaction.rollback()
            except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
                self.handle.terminate()
            await self._give_back()

    async def _give_back(self) -> None:
        self._open = False
        await self._pool.release(self.handle)


@cache
def _worded(text: str) -> str:
    """Number the placeholders, as asyncpg has them."""
    parts = text.split("?")
    return "".join(part + (f"${number}" if number < len(parts) else "") for number, part in enumerate(parts, 1))
