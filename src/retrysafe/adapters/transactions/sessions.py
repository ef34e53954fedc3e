"""SQLAlchemy's sessions around an operation in mode ``transaction``: which are the operation's, and which are not.

The operation's own session has one connection, and only retrysafe commits it. Any other session or connection commits
on its own, so that a crash, or a claim that was lost, would keep its writes without the outcome. Both are refused where
they happen, by listeners that are there once a binding was made.
"""

from __future__ import annotations

from functools import cache
from typing import Any
from weakref import WeakKeyDictionary, WeakSet, ref

from sqlalchemy import Connection, Engine, event
from sqlalchemy.exc import UnboundExecutionError
from sqlalchemy.orm import Session, SessionTransaction
from sqlalchemy.orm.attributes import instance_state

from retrysafe.adapters.transactions.statements import ENDED, hold_sqlite, limit_postgres, plain, worded
from retrysafe.errors import ConfigurationError
from retrysafe.protocol.model import Mode
from retrysafe.runtime import context
from retrysafe.stores.program import Answer, Program, Statement, run

_APART = (
    "another session or connection writes inside this operation and commits on its own, such as one of a `yield` "
    "dependency, whose end FastAPI (0.118 and later) runs after the response has left: use op.session, which commits "
    "with the outcome"
)
_BOUND_ELSEWHERE = (
    "the operation's session uses a second connection, so that a part of its writes would not commit with the outcome: "
    "give the binding an engine, or a sessionmaker with one bind, of the store's database"
)
_UNBOUND = "the operation's session has no bind: give the binding an engine, or a sessionmaker with bind="
_NESTED = (
    "an operation inside another one would share its session, and commit both with the outcome of the inner one: give "
    "the binding a sessionmaker, which makes a session for each"
)
_AUTOCOMMIT = (
    "the engine is in AUTOCOMMIT mode, so that each statement would commit on its own: give the binding an engine with "
    "another isolation level"
)
_WRITES = ("INSERT", "UPDATE", "DELETE", "MERGE", "REPLACE")


class OwnSession:
    """A session of ours, as long as its transaction is open.

    Attributes:
        refuses_others: whether others may not write while it is the session of the operation that runs.
        ending: retrysafe commits or closes it right now.
        sent: the commit has begun.
        committed: it is durable.
        unusable: a commit failed, or was refused. SQLAlchemy would give such a connection back to its pool without
            rolling back, and SQLite's transaction would still be open in it: the connection must end.
    """

    def __init__(self, session: Session, limit_seconds: float, *, refuses_others: bool = True) -> None:
        """Say to the listeners that a session is ours.

        Raises:
            ConfigurationError: it is already.
        """
        if session in _OWN:
            raise ConfigurationError([_NESTED])
        self.refuses_others = refuses_others
        self.ending = False
        self.sent = False
        self.committed = False
        self.unusable = False
        self._limit_seconds = limit_seconds
        self._root: SessionTransaction | None = None
        self._connection: ref[Connection] | None = None
        _OWN[session] = self
        # Who is done with a `scoped_session` closes it, such as Flask-SQLAlchemy at the end of the request; then the
        # commit is still to come, and what was written would be gone before it.
        vars(session)["close"] = _stay_open

    def enter(self, session: Session) -> None:
        """Begin, or join what the session has begun already.

        Raises:
            ConfigurationError: the session has no database, several, or one without transactions.
        """
        try:
            connection = session.connection()
        except UnboundExecutionError as error:
            raise ConfigurationError([_UNBOUND]) from error
        self.begun(session, connection)

    def begun(self, session: Session, connection: Connection) -> None:
        """Have the database limit a transaction that the session has begun.

        Raises:
            ConfigurationError: it is the session's second, or none.
        """
        root = session.get_transaction()
        if root is self._root:
            if self._connection is not None and self._connection() is connection:
                # A savepoint.
                return
            raise ConfigurationError([_BOUND_ELSEWHERE])
        if self._root is not None:
            # The one before was ended by somebody, and not by `session.rollback()`.
            raise ConfigurationError([ENDED])
        level = connection.get_execution_options().get(
            "isolation_level", getattr(connection.dialect, "_on_connect_isolation_level", None)
        )
        if level == "AUTOCOMMIT":
            raise ConfigurationError([_AUTOCOMMIT])
        self._root, self._connection = root, ref(connection)
        _CONNECTIONS[connection] = self
        match connection.dialect.name:
            case "postgresql":
                version = (connection.dialect.server_version_info or (0,))[0]
                run_on_connection(connection, limit_postgres(int(version), self._limit_seconds))
            case "sqlite":
                hold_sqlite(lambda program: run_on_connection(connection, program()))
            case _:
                pass

    def rolled_back(self, transaction: SessionTransaction) -> None:
        """Note that the operation's code rolls back what it did so far, and goes on in a new transaction."""
        if transaction is self._root:
            self._root = self._connection = None


_OWN: WeakKeyDictionary[Session, OwnSession] = WeakKeyDictionary()
_CONNECTIONS: WeakKeyDictionary[Connection, OwnSession] = WeakKeyDictionary()
_BEGAN_INSIDE: WeakSet[Session] = WeakSet()
"""Sessions of others that began while an operation ran, and may want to commit when it is over."""


def disown(session: Session) -> None:
    """Say that a session is not ours any more, and may be closed."""
    _OWN.pop(session, None)
    vars(session).pop("close", None)


def run_on_connection(connection: Connection, program: Program[Any]) -> Any:  # noqa: ANN401 - what the program returns
    """Run a program of ours on a connection, in whatever transaction it has open."""
    return run(program, lambda statement: _fetch(connection, statement))


@cache
def watch() -> None:
    """Listen, from now on, to every session and engine of the process."""
    event.listen(Session, "after_begin", _after_begin)
    event.listen(Session, "after_soft_rollback", _after_rollback)
    event.listen(Session, "before_attach", _before_attach)
    event.listen(Session, "before_flush", _before_flush)
    # Before the application's own, which may raise.
    event.listen(Session, "after_commit", _after_commit, insert=True)
    event.listen(Engine, "commit", _before_commit)
    event.listen(Engine, "before_cursor_execute", _before_execute)


def _operation_runs() -> bool:
    """Tell whether the calling code runs inside an operation whose own transaction is a session of ours."""
    presence = context._presence.get()  # noqa: SLF001 - the runtime's own, and nobody else's business
    if presence is None or presence.concluded or (operation := presence.operation()) is None:
        return False
    if operation._attempt.claim.mode is not Mode.TRANSACTION:  # noqa: SLF001 - as above
        return False
    handle = getattr(operation._transaction, "handle", None)  # noqa: SLF001 - as above
    session = getattr(handle, "sync_session", handle)
    own = _OWN.get(session) if isinstance(session, Session) else None
    return own is not None and own.refuses_others


def _after_begin(session: Session, _: SessionTransaction, connection: Connection) -> None:
    own = _OWN.get(session)
    if own is not None:
        own.begun(session, connection)
    elif _operation_runs():
        _BEGAN_INSIDE.add(session)
    else:
        _BEGAN_INSIDE.discard(session)


def _after_rollback(session: Session, transaction: SessionTransaction) -> None:
    own = _OWN.get(session)
    if own is not None:
        own.rolled_back(transaction)


def _stay_open() -> None:
    """Stand in for ``Session.close``."""


def _before_attach(session: Session, instance: object) -> None:
    # What was loaded elsewhere may be looked at anywhere; what is new is there to be written.
    if instance_state(instance).key is None and session not in _OWN and _operation_runs():
        raise ConfigurationError([_APART])


def _before_flush(session: Session, *_: object) -> None:
    if session in _OWN or not (session in _BEGAN_INSIDE or _operation_runs()):
        return
    if session.new or session.deleted or any(session.is_modified(changed) for changed in session.dirty):
        raise ConfigurationError([_APART])


def _after_commit(session: Session) -> None:
    own = _OWN.get(session)
    if own is not None:
        own.committed = True


def _before_commit(connection: Connection) -> None:
    own = _CONNECTIONS.get(connection)
    if own is None:
        return
    if not own.ending:
        own.unusable = True
        raise ConfigurationError([ENDED])
    own.sent = True


def _before_execute(connection: Connection, _: object, statement: str, *__: object) -> None:
    if connection not in _CONNECTIONS and statement.lstrip()[:7].upper().startswith(_WRITES) and _operation_runs():
        raise ConfigurationError([_APART])


def _fetch(connection: Connection, statement: Statement) -> Answer:
    text = worded(statement.text, connection.dialect.paramstyle)
    cursor = connection.exec_driver_sql(text, tuple(statement.parameters))
    if not cursor.returns_rows:
        return Answer(changed=max(cursor.rowcount, 0))
    return Answer([plain(row) for row in cursor.fetchall()])
