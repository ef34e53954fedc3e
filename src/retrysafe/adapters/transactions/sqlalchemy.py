"""Transactions of SQLAlchemy 2: sessions of the application's own, sync and async.

A session of the operation's must write to the store's database and nowhere else, and nothing else in the operation may
commit on its own: both are refused, because they would be durable without the outcome, or the outcome without them.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from functools import cache
from typing import Any, TypeVar

try:
    from sqlalchemy import Connection, Engine, event, text
    from sqlalchemy.exc import DBAPIError
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession, async_sessionmaker
    from sqlalchemy.orm import Session, sessionmaker
except ImportError as missing:
    raise ImportError("this binding needs SQLAlchemy 2: pip install 'retrysafe[sqlalchemy]'") from missing

from retrysafe.errors import ConfigurationError
from retrysafe.runtime.transactions import CommitUnknown
from retrysafe.stores.program import Answer, Factory, Statement, run

T = TypeVar("T")

_ELSEWHERE = (
    "another session writes inside this operation and commits on its own, such as one of a `yield` dependency, whose "
    "end FastAPI (0.118 and later) runs after the response has left: use op.session, which commits with the outcome"
)
_BOUND_ELSEWHERE = (
    "the session is bound to several databases, so that a part of it would not commit with the outcome: give the "
    "binding an engine, or a sessionmaker with one bind, of the store's database"
)
# SQLSTATEs, and SQLite's primary codes for busy and locked.
_CONFLICT_STATES = frozenset({"40001", "40P01"})
_CONFLICT_CODES = frozenset({5, 6})

_current: ContextVar[Session | None] = ContextVar("retrysafe_session", default=None)


class SQLAlchemyTransactions:
    """Sessions for threads."""

    def __init__(self, source: Engine | sessionmaker[Session]) -> None:
        """Know where sessions come from; nothing connects.

        Args:
            source: an engine, or the application's sessionmaker, whose settings such as ``expire_on_commit`` are kept.
        """
        self._make = sessionmaker(source) if isinstance(source, Engine) else source
        _watch_sessions()

    def begin(self, limit_seconds: float) -> SQLAlchemyTransaction:
        """Open a session with a transaction which the server ends in time (R11).

        Raises:
            ConfigurationError: the session would write to several databases.
        """
        session = self._make()
        _check(session)
        _current.set(session)
        try:
            _limit(session.connection(), limit_seconds)
        except BaseException:
            _current.set(None)
            session.close()
            raise
        return SQLAlchemyTransaction(session)

    def conflicted(self, error: BaseException) -> bool:
        """Tell whether the database rolled back because of another transaction."""
        return conflicted(error)


class SQLAlchemyTransaction:
    """One open transaction; ``handle`` is its session."""

    def __init__(self, session: Session) -> None:
        """Take over a session."""
        self.handle = session

    def run(self, program: Factory[T]) -> T:
        """Run a program of the store in this transaction, after what the session has still to write."""
        self.handle.flush()
        connection = self.handle.connection()
        return run(program(), lambda statement: _fetch(connection, statement))

    def commit(self) -> None:
        """Commit and close the session.

        Raises:
            CommitUnknown: the connection died.
            sqlalchemy.exc.DBAPIError: it was rolled back.
        """
        try:
            self.handle.commit()
        except DBAPIError as error:
            if error.connection_invalidated:
                raise CommitUnknown from error
            raise
        finally:
            _current.set(None)
        self.handle.close()

    def rollback(self) -> None:
        """Roll back and close the session; safe to repeat."""
        _current.set(None)
        _quietly(self.handle.close)


class AsyncSQLAlchemyTransactions:
    """Sessions for event loops."""

    def __init__(self, source: AsyncEngine | async_sessionmaker[AsyncSession]) -> None:
        """Know where sessions come from; see :class:`SQLAlchemyTransactions`."""
        self._make = async_sessionmaker(source) if isinstance(source, AsyncEngine) else source
        _watch_sessions()

    async def begin(self, limit_seconds: float) -> AsyncSQLAlchemyTransaction:
        """Open a session with a transaction; see :meth:`SQLAlchemyTransactions.begin`."""
        session = self._make()
        _check(session.sync_session)
        _current.set(session.sync_session)
        try:
            connection: AsyncConnection = await session.connection()
            await connection.run_sync(_limit, limit_seconds)
        except BaseException:
            _current.set(None)
            await session.close()
            raise
        return AsyncSQLAlchemyTransaction(session)

    def conflicted(self, error: BaseException) -> bool:
        """Tell whether the database rolled back because of another transaction."""
        return conflicted(error)


class AsyncSQLAlchemyTransaction:
    """One open transaction; ``handle`` is its session."""

    def __init__(self, session: AsyncSession) -> None:
        """Take over a session."""
        self.handle = session

    async def run(self, program: Factory[T]) -> T:
        """Run a program of the store in this transaction, after what the session has still to write."""
        await self.handle.flush()
        connection = await self.handle.connection()
        reply: T = await connection.run_sync(_run_program, program)
        return reply

    async def commit(self) -> None:
        """Commit and close the session; see :meth:`SQLAlchemyTransaction.commit`."""
        try:
            await self.handle.commit()
        except DBAPIError as error:
            if error.connection_invalidated:
                raise CommitUnknown from error
            raise
        finally:
            _current.set(None)
        await self.handle.close()

    async def rollback(self) -> None:
        """Roll back and close the session; safe to repeat."""
        _current.set(None)
        try:
            await self.handle.close()
        except DBAPIError:
            await self.handle.invalidate()


def conflicted(error: BaseException) -> bool:
    """Tell whether a database rolled back because of another transaction, whatever driver says so."""
    original: Any = getattr(error, "orig", None) or error
    for cause in (original, getattr(original, "__cause__", None)):
        state = getattr(cause, "sqlstate", None) or getattr(cause, "pgcode", None)
        code = getattr(cause, "sqlite_errorcode", None)
        if state in _CONFLICT_STATES or (code is not None and code & 0xFF in _CONFLICT_CODES):
            return True
    return False


def _check(session: Session) -> None:
    """Refuse a session that writes to several databases."""
    binds: dict[Any, Any] = getattr(session, "_Session__binds", {})
    engines = {id(getattr(bind, "engine", bind)) for bind in binds.values()}
    if session.bind is not None:
        engines.add(id(session.bind.engine))
    if len(engines) > 1:
        raise ConfigurationError([_BOUND_ELSEWHERE])


@cache
def _watch_sessions() -> None:
    """Refuse, from now on, that another session writes or commits while an operation's own is open."""
    event.listen(Session, "before_flush", _refuse_flush)
    event.listen(Session, "before_commit", _refuse_commit)


def _refuse_flush(session: Session, *_: object) -> None:
    current = _current.get()
    if current is not None and session is not current and (session.new or session.dirty or session.deleted):
        raise ConfigurationError([_ELSEWHERE])


def _refuse_commit(session: Session) -> None:
    current = _current.get()
    if current is not None and session is not current and (session.new or session.dirty or session.deleted):
        raise ConfigurationError([_ELSEWHERE])


def _limit(connection: Connection, limit_seconds: float) -> None:
    """Have the server end a frozen session before its lease ends; SQLite has no server that could."""
    if connection.dialect.name != "postgresql":
        return
    milliseconds = str(max(1, int(limit_seconds * 1000)))
    for setting in ("idle_in_transaction_session_timeout", "statement_timeout"):
        connection.execute(
            text("SELECT set_config(:setting, :value, true)"), {"setting": setting, "value": milliseconds}
        )


def _run_program(connection: Connection, program: Factory[T]) -> T:
    return run(program(), lambda statement: _fetch(connection, statement))


def _fetch(connection: Connection, statement: Statement) -> Answer:
    cursor = connection.exec_driver_sql(
        _worded(statement.text, connection.dialect.paramstyle), tuple(statement.parameters)
    )
    if not cursor.returns_rows:
        return Answer(changed=max(cursor.rowcount, 0))
    return Answer([tuple(row) for row in cursor.fetchall()], 0)


@cache
def _worded(statement: str, style: str) -> str:
    """Rewrite placeholders as the dialect's driver has them."""
    match style:
        case "qmark":
            return statement
        case "numeric_dollar":
            parts = statement.split("?")
            return "".join(part + (f"${number}" if number < len(parts) else "") for number, part in enumerate(parts, 1))
        case _:
            return statement.replace("?", "%s")


def _quietly(act: Callable[[], object]) -> None:
    try:
        act()
    except DBAPIError:
        # The connection is gone, and its transaction with it.
        return
