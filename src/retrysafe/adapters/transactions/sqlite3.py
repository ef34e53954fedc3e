"""Transactions of the standard library's ``sqlite3``, in the file that is also the store's."""

from __future__ import annotations

import logging
import sqlite3
import weakref
from collections.abc import Callable
from contextlib import suppress
from os import PathLike, fspath
from typing import TypeVar

from retrysafe.adapters.transactions.statements import ENDED
from retrysafe.errors import ConfigurationError
from retrysafe.runtime import sqlstates
from retrysafe.runtime.transactions import CommitUnknown
from retrysafe.stores.program import Answer, Factory, Statement, run

T = TypeVar("T")

_MOST_BUSY_SECONDS = 5.0
_BEGUN_ALREADY = (
    "connect= gives a connection with a transaction open: have it give one with isolation_level=None, because "
    "retrysafe begins and commits"
)


class SQLite3Transactions:
    """One connection for each transaction, to one file.

    A transaction begins with SQLite's one write lock. SQLite refuses a transaction that read first and wants to write
    after anybody else did, without waiting, and a store's file is written all the time: under load, transactions that
    read before they wrote never came through. And the wait for the lock is in :meth:`begin`, never on an event loop in
    the operation's own statements.

    So no checkpoint of the file can be written while a transaction is open: keep it short, at most a third of the lease
    (R11). Freezing the process inside one stops every writer of the file; that is a window that SQLite leaves open.
    """

    def __init__(
        self, path: str | PathLike[str], *, connect: Callable[[str], sqlite3.Connection] | None = None
    ) -> None:
        """Know the file; nothing is opened yet.

        Args:
            path: the store's file.
            connect: opens it the application's way, such as with foreign keys on; in autocommit mode
                (``isolation_level=None``) and, where operations are ``async``, with ``check_same_thread=False``. An
                authorizer that it sets is replaced.
        """
        self._path = fspath(path)
        self._connect = connect or _connect

    def begin(self, limit_seconds: float) -> SQLite3Transaction:
        """Open a transaction; SQLite itself cannot end it, whatever ``limit_seconds`` says (R11).

        Raises:
            ConfigurationError: ``connect`` gives a connection with a transaction open.
            sqlite3.OperationalError: the file stayed locked for a third of ``limit_seconds``, at most for 5 s.
        """
        connection = self._connect(self._path)
        try:
            if connection.in_transaction:
                raise ConfigurationError([_BEGUN_ALREADY])  # noqa: TRY301 - closed like after any other failure
            connection.execute(f"PRAGMA busy_timeout = {int(min(limit_seconds / 3, _MOST_BUSY_SECONDS) * 1000)}")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("BEGIN IMMEDIATE")
            return SQLite3Transaction(connection)
        except BaseException:
            connection.close()
            raise

    def conflicted(self, error: BaseException) -> bool:
        """Tell whether another writer was in the way."""
        return sqlstates.conflicted(error)


class SQLite3Transaction:
    """One open transaction; ``handle`` is its connection.

    SQLite refuses (``not authorized``) that the author's code commits or rolls back, which ``with connection:`` does.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        """Take over a connection with an open transaction."""
        self.handle = connection
        self._gate = _Gate()
        # Also when it is forgotten, such as by a task that was cut off while a thread opened it: the lock of the file
        # must not wait for the garbage to be collected.
        self._close = weakref.finalize(self, _close, connection)
        connection.set_authorizer(self._gate.authorize)

    def run(self, program: Factory[T]) -> T:
        """Run a program of the store in this transaction.

        Raises:
            ConfigurationError: the transaction is over, such as by ``ON CONFLICT ROLLBACK``.
        """
        if not self.handle.in_transaction:
            raise ConfigurationError([ENDED])
        return run_on(self.handle, program)

    def commit(self) -> None:
        """Commit and close.

        Raises:
            CommitUnknown: the disk failed in the middle of it.
            sqlite3.Error: it was rolled back.
        """
        self._gate.is_open = True
        try:
            self.handle.execute("COMMIT")
        except sqlite3.Error as error:
            if sqlstates.refused(error):
                raise
            # What is in the log may be found valid when the file is opened again.
            raise CommitUnknown from error
        finally:
            self.rollback()

    def rollback(self) -> None:
        """Roll back and close; safe to repeat."""
        self._close()


class _Gate:
    """Lets nobody commit or roll back but us."""

    def __init__(self) -> None:
        self.is_open = False

    def authorize(self, action: int, what: str | None, *_: str | None) -> int:
        """Answer to SQLite, which asks about each thing that a statement wants to do."""
        if self.is_open or action != sqlite3.SQLITE_TRANSACTION or what == "BEGIN":
            return sqlite3.SQLITE_OK
        # The driver says no more than "not authorized".
        logging.getLogger("retrysafe").error(ENDED)
        return sqlite3.SQLITE_DENY


def run_on(connection: sqlite3.Connection, program: Factory[T]) -> T:
    """Run a program of ours on a connection, in whatever transaction it has open."""
    cursor = connection.cursor()
    # The application's rows may look like anything.
    cursor.row_factory = None
    try:
        return run(program(), lambda statement: _fetch(cursor, statement))
    finally:
        cursor.close()


def dialect_of(_: sqlite3.Connection) -> str:
    """Name the database's SQL."""
    return "sqlite"


def _fetch(cursor: sqlite3.Cursor, statement: Statement) -> Answer:
    cursor.execute(statement.text, statement.parameters)
    if cursor.description is None:
        return Answer(changed=max(cursor.rowcount, 0))
    return Answer(cursor.fetchall(), max(cursor.rowcount, 0))


def _close(connection: sqlite3.Connection) -> None:
    with suppress(sqlite3.Error):
        # It rolls back whatever is open.
        connection.close()


def _connect(path: str) -> sqlite3.Connection:
    return sqlite3.connect(path, isolation_level=None, check_same_thread=False)
