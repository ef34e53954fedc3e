"""Transactions of the standard library's ``sqlite3``, in the file that is also the store's."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Any, TypeVar

from retrysafe.runtime.transactions import CommitUnknown
from retrysafe.stores.program import Answer, Factory, Statement, run

T = TypeVar("T")

_CONFLICTS = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})
_PRIMARY_CODE = 0xFF
_BUSY_SECONDS = 5.0


class SQLite3Transactions:
    """One connection for each transaction, to one file.

    A transaction takes the file's write lock with its first write, not before: while one holds it, no checkpoint of the
    file can be written. Keep it short, at most a third of the lease (R11). Freezing the process inside one stops every
    writer of the file; that is a window that SQLite leaves open.
    """

    def __init__(self, path: str, *, connect: Callable[[str], sqlite3.Connection] | None = None) -> None:
        """Know the file; nothing is opened yet.

        Args:
            path: the store's file.
            connect: opens it the application's way, such as with foreign keys on; in autocommit mode
                (``isolation_level=None``) and usable from several threads.
        """
        self._path = path
        self._connect = connect or _connect

    def begin(self, limit_seconds: float) -> SQLite3Transaction:
        """Open a transaction; SQLite itself cannot end it, whatever ``limit_seconds`` says (R11)."""
        connection = self._connect(self._path)
        connection.execute(f"PRAGMA busy_timeout = {int(min(limit_seconds / 3, _BUSY_SECONDS) * 1000)}")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("BEGIN")
        return SQLite3Transaction(connection)

    def conflicted(self, error: BaseException) -> bool:
        """Tell whether another writer was in the way."""
        code = getattr(error, "sqlite_errorcode", None)
        return code is not None and code & _PRIMARY_CODE in _CONFLICTS


class SQLite3Transaction:
    """One open transaction; ``handle`` is its connection."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        """Take over a connection with an open transaction."""
        self.handle = connection

    def run(self, program: Factory[T]) -> T:
        """Run a program of the store in this transaction."""
        return run(program(), self._fetch)

    def commit(self) -> None:
        """Commit and close.

        Raises:
            CommitUnknown: the disk failed in the middle of it.
            sqlite3.Error: it was rolled back.
        """
        try:
            self.handle.execute("COMMIT")
        except sqlite3.OperationalError as error:
            if not self.handle.in_transaction:
                raise CommitUnknown from error
            raise
        self.handle.close()

    def rollback(self) -> None:
        """Roll back and close; safe to repeat."""
        # Closing rolls back whatever is open.
        self.handle.close()

    def _fetch(self, statement: Statement) -> Answer:
        cursor = self.handle.execute(statement.text, statement.parameters)
        rows: list[Any] = cursor.fetchall() if cursor.description is not None else []
        return Answer(rows, max(cursor.rowcount, 0))


def _connect(path: str) -> sqlite3.Connection:
    return sqlite3.connect(path, isolation_level=None, check_same_thread=False)
