"""The contract of transaction bindings: retrysafe's own writes on the application's own connection (R11).

A binding opens one transaction of the application's database, gives its ``handle`` to the author's code, and can run a
program of the store on the very same connection, so that effects, memo or outcome, and messages are one commit.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, TypeVar

from retrysafe.stores.program import Factory

T = TypeVar("T")


class CommitUnknown(Exception):
    """The connection died during the commit: nobody knows yet whether it is durable (D4)."""


class Transaction(Protocol):
    """One open transaction, for threads.

    Attributes:
        handle: what the author's code works with: a session or a connection.
    """

    handle: Any

    def run(self, program: Factory[T]) -> T:
        """Run a program of the store on this connection, in this transaction."""
        ...

    def commit(self) -> None:
        """Commit and give the connection back.

        Raises:
            CommitUnknown: nobody knows whether it is durable.
            Exception: the driver's own, when the database certainly rolled back.
        """
        ...

    def rollback(self) -> None:
        """Roll back and give the connection back; never raises, and is safe to repeat."""
        ...


class Transactions(Protocol):
    """Where transactions come from, for threads.

    A binding whose transactions may be used only by the thread that opened them says so by ``thread_bound = True``: an
    event loop must then not open one in a thread for code that runs elsewhere.
    """

    def begin(self, limit_seconds: float) -> Transaction:
        """Open a transaction which the database itself ends after so many seconds without a sign of life (R11)."""
        ...

    def conflicted(self, error: BaseException) -> bool:
        """Tell whether the database rolled back because of another transaction, so that running again may succeed."""
        ...


class AsyncTransaction(Protocol):
    """One open transaction, for event loops; see :class:`Transaction`."""

    handle: Any

    async def run(self, program: Factory[T]) -> T:
        """Run a program of the store on this connection, in this transaction."""
        ...

    async def commit(self) -> None:
        """Commit and give the connection back; see :meth:`Transaction.commit`."""
        ...

    async def rollback(self) -> None:
        """Roll back and give the connection back; never raises, and is safe to repeat."""
        ...


class AsyncTransactions(Protocol):
    """Where transactions come from, for event loops."""

    async def begin(self, limit_seconds: float) -> AsyncTransaction:
        """Open a transaction; see :meth:`Transactions.begin`."""
        ...

    def conflicted(self, error: BaseException) -> bool:
        """Tell whether running again may succeed; see :meth:`Transactions.conflicted`."""
        ...


Bindings = Transactions | AsyncTransactions | Sequence[Transactions | AsyncTransactions]
"""What a guard takes: a binding for threads, one for event loops, or both."""
