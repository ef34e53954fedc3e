"""Transactions of PyMySQL, in the database of MySQL or MariaDB that is also the store's; for threads."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from typing import Any, TypeVar

try:
    # Its types hold for some versions only.
    cursors: Any = import_module("pymysql.cursors")
except ImportError as missing:
    raise ImportError("this binding needs PyMySQL: pip install 'retrysafe[mysql]'") from missing

from retrysafe.adapters.transactions.statements import ENDED, limit_mysql, worded
from retrysafe.errors import ConfigurationError
from retrysafe.runtime import sqlstates
from retrysafe.runtime.transactions import CommitUnknown
from retrysafe.stores.program import Answer, Factory, Program, Statement, run

T = TypeVar("T")

# Of a transaction that was ended by statements of its own nothing is left to be released.
MARK = "SAVEPOINT retrysafe_operation"
IS_STILL_MARKED = f"RELEASE {MARK}"
NO_SUCH_SAVEPOINT = 1305


class PyMySQLTransactions:
    """Connections of the application's, one for each transaction."""

    def __init__(self, connect: Callable[[], Any]) -> None:
        """Know where connections come from; nothing connects.

        Args:
            connect: gives a connection of PyMySQL: a new one, or one of a pool, which gets it back by its ``close``.
                It may be in autocommit mode or not, and give rows of any kind.
        """
        self._connect = connect

    def begin(self, limit_seconds: float) -> PyMySQLTransaction:
        """Open a transaction which the server ends after ``limit_seconds`` without a sign of life (R11).

        Raises:
            pymysql.MySQLError: the server cannot be reached.
        """
        transaction = PyMySQLTransaction(self._connect())
        try:
            transaction.enter(limit_seconds)
        except BaseException:
            transaction.rollback()
            raise
        return transaction

    def conflicted(self, error: BaseException) -> bool:
        """Tell whether the server rolled back because of another transaction."""
        return sqlstates.conflicted(error)


class PyMySQLTransaction:
    """One open transaction; ``handle`` is its connection."""

    def __init__(self, connection: Any) -> None:  # noqa: ANN401 - see above
        """Take over a connection."""
        self.handle = connection
        self._set_back: Callable[[], Program[None]] | None = None
        self._open = True

    def enter(self, limit_seconds: float) -> None:
        """Begin."""
        version = self.handle.get_server_info()
        self._set_back = run_on(self.handle, lambda: limit_mysql(version, limit_seconds))
        self.handle.begin()
        self.handle.query(MARK)

    def run(self, program: Factory[T]) -> T:
        """Run a program of the store in this transaction.

        Raises:
            ConfigurationError: the operation's code has ended the transaction, by statements of its own.
        """
        try:
            self.handle.query(IS_STILL_MARKED)
            self.handle.query(MARK)
        except Exception as error:
            raise_if_ended(error)
            raise
        return run_on(self.handle, program)

    def commit(self) -> None:
        """Commit and give the connection back.

        Raises:
            CommitUnknown: the connection died.
            ConfigurationError: the operation's code has ended the transaction, by statements of its own.
            pymysql.MySQLError: the server rolled back.
        """
        self._open = False
        try:
            self.handle.query(IS_STILL_MARKED)
            self.handle.commit()
        except Exception as error:
            with suppress(Exception):
                self.handle.rollback()
            raise_if_ended(error)
            if sqlstates.refused(error):
                raise
            raise CommitUnknown from error
        finally:
            self._give_back()

    def rollback(self) -> None:
        """Roll back and give the connection back; safe to repeat."""
        if self._open:
            self._open = False
            with suppress(Exception):
                self.handle.rollback()
            self._give_back()

    def _give_back(self) -> None:
        with suppress(Exception):
            if self._set_back is not None:
                run_on(self.handle, self._set_back)
        with suppress(Exception):
            self.handle.close()


def run_on(connection: Any, program: Factory[T]) -> T:  # noqa: ANN401 - see above
    """Run a program of ours on a connection, in whatever transaction it has open."""

    def fetch(statement: Statement) -> Answer:
        cursor.execute(worded(statement.text, "pyformat"), tuple(statement.parameters))
        return Answer(cursor.fetchall() if cursor.description is not None else (), max(cursor.rowcount, 0))

    # The application's rows may look like anything.
    with connection.cursor(cursors.Cursor) as cursor:
        return run(program(), fetch)


def dialect_of(_: Any) -> str:  # noqa: ANN401 - see above
    """Name the database's SQL."""
    return "mysql"


def raise_if_ended(error: Exception) -> None:
    """Say that a transaction was ended by statements of its own, where an error tells so.

    Raises:
        ConfigurationError: it was.
    """
    if error.args[:1] == (NO_SUCH_SAVEPOINT,):
        raise ConfigurationError([ENDED]) from error
