"""Transactions of Django's own connection, in the database that is also the store's."""

from __future__ import annotations

import logging
from contextlib import suppress
from functools import partial
from importlib import import_module
from typing import Any, TypeVar

try:
    # Django has no types of its own.
    db: Any = import_module("django.db")
except ImportError as missing:
    raise ImportError("this binding needs Django: pip install 'retrysafe[django]'") from missing

from retrysafe.adapters.transactions.statements import hold_sqlite, limit_postgres, plain, worded
from retrysafe.errors import ConfigurationError
from retrysafe.runtime import sqlstates
from retrysafe.runtime.transactions import CommitUnknown
from retrysafe.stores.program import Answer, Factory, Statement, run

T = TypeVar("T")

_ATOMIC_REQUESTS = (
    "ATOMIC_REQUESTS is on for the database {alias!r}: a guarded view has its own transaction, and one of Django's "
    "around it would commit after the outcome was recorded, or roll it back. Turn it off; or mark the guarded views "
    "with transaction.non_atomic_requests and pass atomic_requests=True"
)
_INSIDE = (
    "the operation runs inside another transaction.atomic of {alias!r}, which would commit later than the outcome, or "
    "roll it back: let nothing be around it, and mark its view with transaction.non_atomic_requests where "
    "ATOMIC_REQUESTS is on"
)
_BROKEN = "an error inside an atomic block was caught, so that Django rolls the whole transaction back"


class DjangoTransactions:
    """The connection of the calling thread, inside ``transaction.atomic``; models use it by themselves.

    Only for views and functions that are not ``async``: Django has no transactions for those.
    """

    thread_bound = True

    def __init__(self, using: str = "default", *, atomic_requests: bool = False) -> None:
        """Know the database; nothing connects.

        Args:
            using: alias of the database that is also the store's.
            atomic_requests: say that ``ATOMIC_REQUESTS`` is meant to be on, for other views than the guarded ones.

        Raises:
            ConfigurationError: ``ATOMIC_REQUESTS`` is on.
        """
        self._using = using
        if not atomic_requests and db.connections.settings[using].get("ATOMIC_REQUESTS"):
            raise ConfigurationError([_ATOMIC_REQUESTS.format(alias=using)])

    def begin(self, limit_seconds: float) -> DjangoTransaction:
        """Open the outermost transaction of this thread's connection; the server ends it in time (R11).

        Raises:
            ConfigurationError: there is one already, of ``ATOMIC_REQUESTS`` or of the application's code.
            django.db.Error: the database cannot be reached.
        """
        connection = db.connections[self._using]
        # Django's own tests wrap each case into an atomic block; there this passes.
        atomic = db.transaction.atomic(using=self._using, durable=True)
        try:
            atomic.__enter__()
        except RuntimeError as error:
            raise ConfigurationError([_INSIDE.format(alias=self._using)]) from error
        transaction = DjangoTransaction(connection, atomic)
        try:
            if connection.vendor == "postgresql":
                transaction.run(partial(limit_postgres, connection.pg_version // 10_000, limit_seconds))
            if connection.vendor == "sqlite":
                hold_sqlite(transaction.run)
        except BaseException:
            transaction.rollback()
            raise
        return transaction

    def conflicted(self, error: BaseException) -> bool:
        """Tell whether the database rolled back because of another transaction."""
        return sqlstates.conflicted(error)


class DjangoTransaction:
    """One open transaction; ``handle`` is the connection.

    What is registered with ``transaction.on_commit`` runs after the commit. When it raises, that is logged: the outcome
    is durable already.
    """

    def __init__(self, connection: Any, atomic: Any) -> None:  # noqa: ANN401 - Django has no types of its own
        """Take over a connection inside ``atomic``."""
        self.handle = connection
        self._atomic = atomic
        self._open = True
        self._committed = False
        # When a request begins and ends, Django closes connections that are not in autocommit mode. A guard around
        # Django begins before the request does.
        connection.close_if_unusable_or_obsolete = _leave_open
        # The first of its kind, so that it tells an error of the commit from one of the application's own.
        db.transaction.on_commit(self._note_commit, using=connection.alias)

    def run(self, program: Factory[T]) -> T:
        """Run a program of the store in this transaction."""
        return run_on(self.handle, program)

    def commit(self) -> None:
        """Commit.

        Raises:
            CommitUnknown: the connection died.
            django.db.Error: it was rolled back.
        """
        if self.handle.needs_rollback or self.handle.closed_in_transaction:
            # Django would roll back and say nothing.
            self.rollback()
            raise db.transaction.TransactionManagementError(_BROKEN)
        self._open = False
        try:
            self._atomic.__exit__(None, None, None)
        except Exception as error:
            if self._committed:
                logging.getLogger("retrysafe").exception("a function of transaction.on_commit raised after the commit")
            elif sqlstates.refused(error):
                raise
            else:
                raise CommitUnknown from error
        finally:
            self._leave()

    def rollback(self) -> None:
        """Roll back; safe to repeat."""
        if self._open:
            self._open = False
            undone = db.DatabaseError("rolled back")
            with suppress(Exception):
                self._atomic.__exit__(type(undone), undone, None)
            self._leave()

    def _leave(self) -> None:
        del self.handle.close_if_unusable_or_obsolete

    def _note_commit(self) -> None:
        self._committed = True


def _leave_open() -> None:
    """Stand in for the method that would close the connection."""


def run_on(connection: Any, program: Factory[T]) -> T:  # noqa: ANN401 - Django has no types of its own
    """Run a program of ours on a connection, in whatever transaction it has open."""
    with connection.cursor() as cursor:
        return run(program(), lambda statement: _fetch(cursor, statement))


def dialect_of(connection: Any) -> str:  # noqa: ANN401 - Django has no types of its own
    """Name the database's SQL."""
    return str(connection.vendor)


def _fetch(cursor: Any, statement: Statement) -> Answer:  # noqa: ANN401 - Django has no types of its own
    # Django's own placeholder, whatever the database.
    cursor.execute(worded(statement.text, "format"), tuple(statement.parameters))
    if cursor.description is None:
        return Answer(changed=max(cursor.rowcount, 0))
    return Answer([plain(row) for row in cursor.fetchall()], max(cursor.rowcount, 0))
