"""Transactions of Django's own connection, in the database that is also the store's."""

from __future__ import annotations

from importlib import import_module
from typing import Any, TypeVar

try:
    # Django has no types of its own.
    db: Any = import_module("django.db")
except ImportError as missing:
    raise ImportError("this binding needs Django: pip install 'retrysafe[django]'") from missing

from retrysafe.errors import ConfigurationError
from retrysafe.runtime.transactions import CommitUnknown
from retrysafe.stores.program import Answer, Factory, Statement, run

T = TypeVar("T")

_ATOMIC_REQUESTS = (
    "ATOMIC_REQUESTS is on for the database {alias!r}, so that Django commits after the outcome was recorded, or rolls "
    "it back: turn it off, or mark the view with transaction.non_atomic_requests; the operation brings its own"
)
_INSIDE = (
    "the operation runs inside another transaction.atomic of {alias!r}, which would commit later: let it be outermost"
)
_CONFLICT_STATES = frozenset({"40001", "40P01"})
_CONFLICT_CODES = frozenset({5, 6})


class DjangoTransactions:
    """The connection of the calling thread, inside ``transaction.atomic``."""

    def __init__(self, using: str = "default") -> None:
        """Know the database; nothing connects.

        Args:
            using: alias of the database that is also the store's.
        """
        self._using = using

    def begin(self, limit_seconds: float) -> DjangoTransaction:
        """Open the outermost transaction of this thread's connection (R11).

        Raises:
            ConfigurationError: there is one already, of ``ATOMIC_REQUESTS`` or of the application's code.
        """
        connection = db.connections[self._using]
        if connection.in_atomic_block:
            requests = connection.settings_dict.get("ATOMIC_REQUESTS")
            raise ConfigurationError([(_ATOMIC_REQUESTS if requests else _INSIDE).format(alias=self._using)])
        atomic = db.transaction.atomic(using=self._using, durable=True)
        atomic.__enter__()
        if connection.vendor == "postgresql":
            milliseconds = str(max(1, int(limit_seconds * 1000)))
            with connection.cursor() as cursor:
                for setting in ("idle_in_transaction_session_timeout", "statement_timeout"):
                    cursor.execute("SELECT set_config(%s, %s, true)", [setting, milliseconds])
        return DjangoTransaction(connection, atomic)

    def conflicted(self, error: BaseException) -> bool:
        """Tell whether the database rolled back because of another transaction."""
        cause: Any = error.__cause__ or error
        code = getattr(cause, "sqlite_errorcode", None)
        state = getattr(cause, "sqlstate", None) or getattr(cause, "pgcode", None)
        return state in _CONFLICT_STATES or (code is not None and code & 0xFF in _CONFLICT_CODES)


class DjangoTransaction:
    """One open transaction; ``handle`` is the connection, which models use by themselves."""

    def __init__(self, connection: Any, atomic: Any) -> None:  # noqa: ANN401 - Django has no types of its own
        """Take over a connection inside ``atomic``."""
        self.handle = connection
        self._atomic = atomic
        self._open = True

    def run(self, program: Factory[T]) -> T:
        """Run a program of the store in this transaction."""
        with self.handle.cursor() as cursor:
            return run(program(), lambda statement: _fetch(cursor, statement))

    def commit(self) -> None:
        """Commit.

        Raises:
            CommitUnknown: the connection died.
            django.db.DatabaseError: it was rolled back.
        """
        self._open = False
        try:
            self._atomic.__exit__(None, None, None)
        except db.DatabaseError as error:
            if not self.handle.is_usable():
                raise CommitUnknown from error
            raise

    def rollback(self) -> None:
        """Roll back; safe to repeat."""
        if self._open:
            self._open = False
            undone = db.DatabaseError("rolled back")
            self._atomic.__exit__(type(undone), undone, None)


def _fetch(cursor: Any, statement: Statement) -> Answer:  # noqa: ANN401 - Django has no types of its own
    # Django's own placeholder, whatever the database.
    cursor.execute(statement.text.replace("?", "%s"), tuple(statement.parameters))
    rows = [tuple(row) for row in cursor.fetchall()] if cursor.description is not None else []
    return Answer(rows, max(cursor.rowcount, 0))
