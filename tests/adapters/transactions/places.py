"""Databases that are the store's and the application's, each through every binding, for threads and for event loops."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from functools import partial
from inspect import isawaitable
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import psycopg
import psycopg_pool
import sqlalchemy
from pymysql.cursors import DictCursor
from sqlalchemy.ext.asyncio import create_async_engine

from retrysafe import SHARED, Response, RetrySafe, State
from retrysafe.protocol.model import Claim
from retrysafe.protocol.verdicts import Claimed
from retrysafe.stores.base import Outgoing, Query
from retrysafe.stores.program import Factory
from retrysafe.stores.urls import AnyStore, open_store
from retrysafe.testing.asks import DAY_SECONDS, an_ask
from tests.services import mariadb

T = TypeVar("T")

PATIENCE_SECONDS = 60.0

ON_SQLITE = ("sqlite3", "sqlalchemy sqlite", "django sqlite")
ON_POSTGRES = (
    "psycopg",
    "psycopg pool",
    "sqlalchemy psycopg",
    "django psycopg",
)
ON_MYSQL = ("pymysql", "sqlalchemy pymysql", "django mysql")
LOOPS_ON_MYSQL = ("asyncmy", "async sqlalchemy asyncmy")
LOOPS_ON_SQLITE = ("async sqlalchemy aiosqlite",)
LOOPS_ON_POSTGRES = ("asyncpg", "async psycopg", "async sqlalchemy asyncpg", "async sqlalchemy psycopg")
FOR_THREADS = ON_SQLITE + ON_POSTGRES + ON_MYSQL
FOR_LOOPS = LOOPS_ON_SQLITE + LOOPS_ON_POSTGRES + LOOPS_ON_MYSQL
EVERY = FOR_THREADS + FOR_LOOPS

INSERT = "INSERT INTO effects VALUES ('done')"


class Loop:
    """An event loop in a thread of its own, which plain tests ask for what only loops can do."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(PATIENCE_SECONDS)

    def stop(self) -> None:
        self.run(self.loop.shutdown_asyncgens())
        self.run(self.loop.shutdown_default_executor())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(PATIENCE_SECONDS)
        self.loop.close()


class Place:
    """A database, a store in it, and a binding for it.

    Attributes:
        url: of the store.
        binding: under test.
        insert: has the application's effect, on what the binding gives.
        execute_on: runs a statement of the application's.
    """

    def __init__(self, kind: str, url: str) -> None:
        self.kind, self.url = kind, url
        self.loop = Loop() if kind in FOR_LOOPS else None
        self._closing: list[Callable[[], object]] = []
        self.store: AnyStore = open_store(url)
        self.meta = self.store.open()
        self.execute("CREATE TABLE effects (what TEXT)")
        self.execute("CREATE TABLE counters (name VARCHAR(40) PRIMARY KEY, value INTEGER)")
        self.execute("INSERT INTO counters VALUES ('a', 0), ('b', 0)")
        self.binding: Any = self.bind(url)
        self.guard = RetrySafe(self.store, principal=SHARED, transactions=self.binding, scan=None, sinks=())

    # The database, as somebody else sees it.

    def execute(self, text: str) -> list[Any]:
        connection = self.connect()
        try:
            cursor = connection.execute(text) if not self.url.startswith("mariadb") else connection.cursor()
            if self.url.startswith("mariadb"):
                cursor.execute(text)
            rows = cursor.fetchall() if cursor.description else []
            connection.commit()
            return list(rows)
        finally:
            connection.close()

    def connect(self) -> Any:
        if self.url.startswith("sqlite"):
            return sqlite3.connect(self.url.removeprefix("sqlite:///"), timeout=30)
        if self.url.startswith("mariadb"):
            return mariadb.connect(self.url)
        return psycopg.connect(self.url)

    @property
    def effects(self) -> int:
        return int(self.execute("SELECT count(*) FROM effects")[0][0])

    @property
    def state(self) -> State:
        [met] = self.store.query(partial(self.store.verbs.listing, Query()))
        return met.state

    @property
    def outbox(self) -> list[str]:
        found: list[Outgoing] = list(self.store.run(partial(self.store.verbs.take_messages, 100, 0.0)))
        return [message.id.partition(":")[2] for message in found]

    # The application.

    def bind(self, url: str) -> Any:
        """Make the binding, to this database or to another one."""
        binding, close = _MAKERS[self.kind](self, url)
        if close is not None:
            self._closing.append(close)
        return binding

    def rebind(self, binding: Any = None) -> None:
        """Use another binding from now on, or the same with new connections."""
        if binding is None:
            self.close_bindings()
        self.binding = binding or self.bind(self.url)
        self.guard = RetrySafe(self.store, principal=SHARED, transactions=self.binding, scan=None, sinks=())

    def leave_thread(self) -> None:
        """Close what belongs to this thread alone."""
        if "django" in self.kind:
            from django.db import connections

            connections[self.binding._using].close()

    def close_bindings(self) -> None:
        while self._closing:
            self._closing.pop()()

    def insert(self, handle: Any) -> Any:
        return self.execute_on(handle, INSERT)

    def execute_on(self, handle: Any, text: str) -> Any:
        """Execute on what the binding gives; on event loops it gives something to await."""
        if "django" in self.kind or self.kind == "pymysql":
            with handle.cursor() as cursor:
                cursor.execute(text)
                return cursor.fetchall() if cursor.description else []
        if self.kind == "asyncmy":
            return _executed(handle, text)
        return handle.execute(sqlalchemy.text(text) if "sqlalchemy" in self.kind else text)

    def call(self, function: Callable[..., Any], mode: str, key: str = "k", **policy: Any) -> Response:
        """Call the operation like a client."""
        answer = self.guard.operation("transfer", mode=mode, **policy)(function)(key=key)
        reply: Response = self.do(answer)
        return reply

    def do(self, answer: Any) -> Any:
        """Return the answer, or what awaiting it gives."""
        if not isawaitable(answer):
            return answer
        assert self.loop is not None
        return self.loop.run(_awaited(answer))

    def begin(self, limit_seconds: float = 30.0) -> Opened:
        return Opened(self, self.do(self.binding.begin(limit_seconds)))

    def begin_again(self) -> Opened:
        """Begin where a pool may have connections that it does not know to be dead."""
        pause = threading.Event()
        for _ in range(20):
            with suppress(Exception):
                return self.begin()
            pause.wait(0.1)
        return self.begin()

    def claim(self, key: str = "k", lease_seconds: float = 15.0) -> Claim:
        verdict = self.store.run(partial(self.store.verbs.claim, an_ask(key, lease_seconds=lease_seconds)))
        assert isinstance(verdict, Claimed)
        return verdict.claim

    def record(self, claim: Claim) -> Factory[Any]:
        return partial(
            self.store.verbs.record, claim, b"outcome", retention_seconds=DAY_SECONDS, tombstone_seconds=DAY_SECONDS
        )

    def close(self) -> None:
        self.close_bindings()
        if self.loop is not None:
            with suppress(AttributeError):
                self.loop.run(self.store.aclose())
        self.guard.close()
        if self.loop is not None:
            self.loop.stop()


class Opened:
    """A transaction of a binding, as plain tests use it; on an event loop, if it is of one."""

    def __init__(self, place: Place, inner: Any) -> None:
        self.place, self.inner = place, inner

    def run(self, program: Factory[T]) -> T:
        reply: T = self.place.do(self.inner.run(program))
        return reply

    def insert(self) -> None:
        self.place.do(self.place.insert(self.inner.handle))

    def select(self, text: str) -> list[Any]:
        found = self.place.do(self._select(text)) if self.place.loop else self._plain_select(text)
        return [tuple(row.values() if isinstance(row, dict) else row) for row in found]

    def execute(self, text: str) -> None:
        self.place.do(self.place.execute_on(self.inner.handle, text))

    def commit(self) -> None:
        self.place.do(self.inner.commit())

    def rollback(self) -> None:
        self.place.do(self.inner.rollback())

    def _plain_select(self, text: str) -> list[Any]:
        found = self.place.execute_on(self.inner.handle, text)
        return list(found if isinstance(found, list) else found.fetchall())

    async def _select(self, text: str) -> list[Any]:
        if self.place.kind == "asyncpg":
            return list(await self.inner.handle.fetch(text))
        found = await self.place.execute_on(self.inner.handle, text)
        rows = found.fetchall()
        return list(await rows if isawaitable(rows) else rows)


async def _executed(connection: Any, text: str) -> Any:
    cursor = connection.cursor()
    await cursor.execute(text)
    return cursor


async def _awaited(answer: Any) -> Any:
    return await answer


# How each binding is made.

Made = tuple[Any, Callable[[], object] | None]


def _sqlite3(_: Place, url: str) -> Made:
    from retrysafe.adapters.transactions.sqlite3 import SQLite3Transactions

    return SQLite3Transactions(Path(url.removeprefix("sqlite:///"))), None


def _psycopg(_: Place, url: str) -> Made:
    from retrysafe.adapters.transactions.psycopg import PsycopgTransactions

    return PsycopgTransactions(url), None


def _psycopg_pool(_: Place, url: str) -> Made:
    from retrysafe.adapters.transactions.psycopg import PsycopgTransactions

    # As unlike ours as can be: each statement on its own, and rows that are dictionaries.
    kwargs = {"autocommit": True, "row_factory": psycopg.rows.dict_row}
    pool = psycopg_pool.ConnectionPool(url, min_size=1, max_size=2, open=True, kwargs=kwargs)
    return PsycopgTransactions(pool), pool.close


def _async_psycopg(place: Place, url: str) -> Made:
    from retrysafe.adapters.transactions.psycopg import AsyncPsycopgTransactions

    assert place.loop is not None
    loop = place.loop
    kwargs = {"autocommit": True, "row_factory": psycopg.rows.dict_row}
    pool = psycopg_pool.AsyncConnectionPool(url, min_size=1, max_size=2, open=False, kwargs=kwargs)
    loop.run(pool.open())
    return AsyncPsycopgTransactions(pool), lambda: loop.run(pool.close())


def _asyncpg(place: Place, url: str) -> Made:
    import asyncpg

    from retrysafe.adapters.transactions.asyncpg import AsyncpgTransactions

    assert place.loop is not None
    loop = place.loop

    async def connect() -> Any:
        return await asyncpg.create_pool(url, min_size=1, max_size=2)

    pool: Any = loop.run(connect())
    return AsyncpgTransactions(lambda: pool), lambda: loop.run(pool.close())


def _sqlalchemy(scheme: str, _: Place, url: str) -> Made:
    from retrysafe.adapters.transactions.sqlalchemy import SQLAlchemyTransactions

    engine = sqlalchemy.create_engine(f"{scheme}://{url.partition('://')[2]}")
    return SQLAlchemyTransactions(engine), engine.dispose


def _async_sqlalchemy(scheme: str, place: Place, url: str) -> Made:
    from retrysafe.adapters.transactions.sqlalchemy import AsyncSQLAlchemyTransactions

    assert place.loop is not None
    loop = place.loop
    engine = create_async_engine(f"{scheme}://{url.partition('://')[2]}")
    return AsyncSQLAlchemyTransactions(engine), lambda: loop.run(engine.dispose())


def _django(_: Place, url: str) -> Made:
    from retrysafe.adapters.transactions.django import DjangoTransactions
    from tests.adapters.transactions.djangos import forget, register

    alias = register(url)
    return DjangoTransactions(alias), lambda: forget(alias)


def _pymysql(_: Place, url: str) -> Made:
    from retrysafe.adapters.transactions.pymysql import PyMySQLTransactions

    def connect() -> Any:
        connection = mariadb.connect(url)
        # As unlike ours as can be.
        connection.cursorclass = DictCursor
        return connection

    return PyMySQLTransactions(connect), None


def _asyncmy(place: Place, url: str) -> Made:
    import asyncmy

    from retrysafe.adapters.transactions.asyncmy import AsyncmyTransactions

    assert place.loop is not None
    loop = place.loop
    parts = urlsplit(url)

    async def connect() -> Any:
        where: dict[str, Any] = {
            "host": parts.hostname,
            "port": parts.port,
            "user": parts.username,
            "db": parts.path[1:],
        }
        return await asyncmy.create_pool(minsize=1, maxsize=2, autocommit=True, **where)

    async def close() -> None:
        pool.close()
        await pool.wait_closed()

    pool: Any = loop.run(connect())
    return AsyncmyTransactions(lambda: pool), lambda: loop.run(close())


_MAKERS: dict[str, Callable[[Place, str], Made]] = {
    "sqlite3": _sqlite3,
    "psycopg": _psycopg,
    "psycopg pool": _psycopg_pool,
    "sqlalchemy sqlite": partial(_sqlalchemy, "sqlite"),
    "sqlalchemy psycopg": partial(_sqlalchemy, "postgresql+psycopg"),
    "django sqlite": _django,
    "django psycopg": _django,
    "pymysql": _pymysql,
    "sqlalchemy pymysql": partial(_sqlalchemy, "mysql+pymysql"),
    "django mysql": _django,
    "asyncmy": _asyncmy,
    "async sqlalchemy asyncmy": partial(_async_sqlalchemy, "mysql+asyncmy"),
    "asyncpg": _asyncpg,
    "async psycopg": _async_psycopg,
    "async sqlalchemy asyncpg": partial(_async_sqlalchemy, "postgresql+asyncpg"),
    "async sqlalchemy psycopg": partial(_async_sqlalchemy, "postgresql+psycopg"),
    "async sqlalchemy aiosqlite": partial(_async_sqlalchemy, "sqlite+aiosqlite"),
}
