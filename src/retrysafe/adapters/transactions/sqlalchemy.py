"""Transactions of SQLAlchemy 2: sessions of the application's own, sync and async."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

try:
    from sqlalchemy import Connection, Engine
    from sqlalchemy.ext.asyncio import (
        AsyncConnection,
        AsyncEngine,
        AsyncSession,
        async_scoped_session,
        async_sessionmaker,
    )
    from sqlalchemy.orm import Session, scoped_session, sessionmaker
except ImportError as missing:
    raise ImportError("this binding needs SQLAlchemy 2 and greenlet: pip install 'retrysafe[sqlalchemy]'") from missing

from retrysafe.adapters.transactions import sessions
from retrysafe.adapters.transactions.ending import to_the_end
from retrysafe.adapters.transactions.sessions import OwnSession
from retrysafe.adapters.transactions.statements import refuse_unsafe_escapes
from retrysafe.errors import ConfigurationError
from retrysafe.runtime import sqlstates
from retrysafe.runtime.transactions import CommitUnknown
from retrysafe.stores.program import Factory

T = TypeVar("T")

_SEVERAL_BINDS = (
    "the sessionmaker has binds of several databases, so that a part of the writes would not commit with the outcome: "
    "give the binding a sessionmaker with one bind, of the store's database"
)
_OF_THREADS: tuple[Any, ...] = (Engine, sessionmaker, scoped_session)
_OF_LOOPS: tuple[Any, ...] = (AsyncEngine, async_sessionmaker, async_scoped_session)
_FOR_LOOPS = "{source} is for event loops: pass it to AsyncSQLAlchemyTransactions"
_FOR_THREADS = "{source} is for threads: pass it to SQLAlchemyTransactions"


class SQLAlchemyTransactions:
    """Sessions for threads.

    While an operation in mode ``transaction`` runs, another session or connection of SQLAlchemy may read but not write,
    because it commits on its own.
    """

    def __init__(
        self,
        source: Engine | Callable[[], Session],
        *,
        refuse_others: bool = True,
    ) -> None:
        """Know where sessions come from; nothing connects.

        Args:
            source: an engine, or the application's sessionmaker, whose settings such as ``expire_on_commit`` are kept;
                or a ``scoped_session``, whose session the operation's code then finds where it always does.
            refuse_others: whether others may not write. Off, what they write is in effect even when the operation is
                rolled back.

        Raises:
            ConfigurationError: sessions would write to several databases, or are for event loops.
        """
        _check_kind(source, _OF_LOOPS, _FOR_LOOPS)
        _check_binds(source)
        self._make: Callable[[], Session] = sessionmaker(source) if isinstance(source, Engine) else source
        self._refuse_others = refuse_others
        sessions.watch()

    def begin(self, limit_seconds: float) -> SQLAlchemyTransaction:
        """Open a session with a transaction which the server ends in time (R11).

        Raises:
            ConfigurationError: it would write to several databases, or not in transactions at all.
            sqlalchemy.exc.SQLAlchemyError: the database cannot be reached.
        """
        session = self._make()
        transaction = SQLAlchemyTransaction(
            session, OwnSession(session, limit_seconds, refuses_others=self._refuse_others)
        )
        try:
            transaction.enter()
        except BaseException:
            transaction.rollback()
            raise
        return transaction

    def conflicted(self, error: BaseException) -> bool:
        """Tell whether the database rolled back because of another transaction."""
        return sqlstates.conflicted(error)


class SQLAlchemyTransaction:
    """One open transaction; ``handle`` is its session, which refuses to be committed by anybody else."""

    def __init__(self, session: Session, own: OwnSession) -> None:
        """Take over a session."""
        self.handle = session
        self._own = own
        self._open = True

    def enter(self) -> None:
        """Begin."""
        self._own.enter(self.handle)

    def run(self, program: Factory[T]) -> T:
        """Run a program of the store in this transaction, after what the session has still to write."""
        self.handle.flush()
        return run_on(self.handle, program)

    def commit(self) -> None:
        """Commit and close the session.

        What listens to ``after_commit`` and raises is logged: the outcome is durable already.

        Raises:
            CommitUnknown: the connection died.
            sqlalchemy.exc.SQLAlchemyError: it was rolled back.
        """
        self._open = False
        self._own.ending = True
        try:
            self.handle.commit()
        except Exception as error:
            if self._own.committed:
                logging.getLogger("retrysafe").exception("a listener of the session raised after the commit")
                return
            self._own.unusable = True
            if not self._own.sent or sqlstates.refused(error):
                raise
            raise CommitUnknown from error
        finally:
            self._close()

    def rollback(self) -> None:
        """Roll back and close the session; safe to repeat."""
        if self._open:
            self._open = False
            self._close()

    def _close(self) -> None:
        self._own.ending = True
        sessions.disown(self.handle)
        try:
            if not self._own.unusable:
                self.handle.close()
        except Exception:  # noqa: BLE001 - whatever it is, the database rolls back when the connection ends
            self._own.unusable = True
        if self._own.unusable:
            with suppress(Exception):
                self.handle.invalidate()


class AsyncSQLAlchemyTransactions:
    """Sessions for event loops; see :class:`SQLAlchemyTransactions`."""

    def __init__(
        self,
        source: AsyncEngine | Callable[[], AsyncSession],
        *,
        refuse_others: bool = True,
    ) -> None:
        """Know where sessions come from; see :class:`SQLAlchemyTransactions`.

        Args:
            source: an engine, whose sessions do not expire what they hold on commit, because to load it anew would
                have to be awaited; or the application's sessionmaker, or ``async_scoped_session``.
            refuse_others: whether others may not write.
        """
        _check_kind(source, _OF_THREADS, _FOR_THREADS)
        _check_binds(source)
        self._make: Callable[[], AsyncSession] = (
            async_sessionmaker(source, expire_on_commit=False) if isinstance(source, AsyncEngine) else source
        )
        self._refuse_others = refuse_others
        sessions.watch()

    async def begin(self, limit_seconds: float) -> AsyncSQLAlchemyTransaction:
        """Open a session with a transaction; see :meth:`SQLAlchemyTransactions.begin`."""
        session = self._make()
        own = OwnSession(session.sync_session, limit_seconds, refuses_others=self._refuse_others)
        transaction = AsyncSQLAlchemyTransaction(session, SQLAlchemyTransaction(session.sync_session, own))
        try:
            await transaction.enter()
        except BaseException:
            await transaction.rollback()
            raise
        return transaction

    def conflicted(self, error: BaseException) -> bool:
        """Tell whether the database rolled back because of another transaction."""
        return sqlstates.conflicted(error)


class AsyncSQLAlchemyTransaction:
    """One open transaction; ``handle`` is its session, which refuses to be committed by anybody else."""

    def __init__(self, session: AsyncSession, inner: SQLAlchemyTransaction) -> None:
        """Take over a session, and the same as SQLAlchemy has it inside."""
        self.handle = session
        self._inner = inner

    async def enter(self) -> None:
        """Begin."""
        await self.handle.run_sync(lambda _: self._inner.enter())

    async def run(self, program: Factory[T]) -> T:
        """Run a program of the store in this transaction, after what the session has still to write."""
        return await self.handle.run_sync(lambda _: self._inner.run(program))

    async def commit(self) -> None:
        """Commit and close the session, also when the caller is cancelled; see :meth:`SQLAlchemyTransaction.commit`."""
        await to_the_end(self.handle.run_sync(lambda _: self._inner.commit()))

    async def rollback(self) -> None:
        """Roll back and close the session, also when the caller is cancelled; safe to repeat."""
        await to_the_end(self.handle.run_sync(lambda _: self._inner.rollback()))


def run_on(place: Connection | Session, program: Factory[T]) -> T:
    """Run a program of ours on a connection or a session, in whatever transaction it has open."""
    connection = _connection(place)
    if connection.dialect.driver == "asyncmy":
        refuse_unsafe_escapes(connection.connection.driver_connection)
    reply: T = sessions.run_on_connection(connection, program())
    return reply


async def arun_on(place: AsyncConnection | AsyncSession, program: Factory[T]) -> T:
    """Run a program of ours on a connection or a session, in whatever transaction it has open."""
    return await place.run_sync(run_on, program)


def dialect_of(place: Connection | Session | AsyncConnection | AsyncSession) -> str:
    """Name the database's SQL."""
    dialect = place.dialect if isinstance(place, (Connection, AsyncConnection)) else place.get_bind().dialect
    return "mysql" if dialect.name == "mariadb" else dialect.name


def _connection(place: Connection | Session) -> Connection:
    return place if isinstance(place, Connection) else place.connection()


def _check_kind(source: object, others: tuple[Any, ...], fix: str) -> None:
    if isinstance(source, others):
        raise ConfigurationError([fix.format(source=type(source).__name__)])


def _check_binds(source: object) -> None:
    """Refuse a sessionmaker of several databases when it is given, and not with the first operation."""
    factory = getattr(source, "session_factory", source)
    settings: dict[str, Any] = getattr(factory, "kw", {})
    several: dict[Any, Any] = settings.get("binds") or {}
    binds: list[Any] = [settings.get("bind"), *several.values()]
    plain = [getattr(bind, "sync_engine", bind) for bind in binds if bind is not None]
    if len({id(getattr(bind, "engine", bind)) for bind in plain}) > 1:
        raise ConfigurationError([_SEVERAL_BINDS])
