"""Running programs on PostgreSQL: one transaction each, on a connection of a pool, for threads and for event loops."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterator
from datetime import timedelta
from functools import cache
from random import SystemRandom
from time import sleep
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import psycopg
from psycopg_pool import AsyncConnectionPool, ConnectionPool

from retrysafe.stores.base import Capability, Clock, Durability, Meta, Traits, Verbs
from retrysafe.stores.postgres.dialect import PostgresVerbs
from retrysafe.stores.postgres.failures import CONFLICTS, translated
from retrysafe.stores.postgres.schema import meta, prepare
from retrysafe.stores.program import Answer, Factory, Program, Statement, run

T = TypeVar("T")

_MOST_RUNS = 10
_CHANCE = SystemRandom()


class PostgresStore:
    """Checkpoints in a PostgreSQL database, which may be the application's own.

    Connections are made when they are needed, and anew after a fork. Everything is decided by the server's clock.
    """

    def __init__(
        self,
        conninfo: str,
        *,
        pool: int = 8,
        migrate: bool = True,
        pgbouncer: bool = False,
        timeout: timedelta = timedelta(seconds=10),
    ) -> None:
        """Know where; nothing connects yet.

        Args:
            conninfo: URL or key-value string, as libpq takes it.
            pool: most connections for threads, and for each event loop.
            migrate: whether opening may bring the schema up to date.
            pgbouncer: whether connections go through a pooler that knows no prepared statements.
            timeout: after so long the server ends a statement, and a transaction that does nothing.
        """
        self.traits = Traits(
            name="postgresql",
            clock=Clock.SERVER,
            durability=Durability.NODE,
            capabilities=frozenset(
                {Capability.SYNC, Capability.ASYNC, Capability.LIST_ABANDONED, Capability.SAME_TRANSACTION}
            ),
        )
        self.verbs: Verbs = PostgresVerbs()
        self.conninfo = conninfo
        self._migrate = migrate
        self._pool_size = pool
        self._timeout_seconds = timeout.total_seconds()
        milliseconds = int(self._timeout_seconds * 1000)
        self._settings: dict[str, Any] = {
            "application_name": "retrysafe",
            "connect_timeout": max(1, int(self._timeout_seconds)),
            "prepare_threshold": None if pgbouncer else 5,
        }
        if not pgbouncer:
            # A pooler refuses settings at the start of a connection; there they belong to the database role.
            self._settings["options"] = (
                f"-c statement_timeout={milliseconds} -c idle_in_transaction_session_timeout={milliseconds}"
            )
        self._door = threading.Lock()
        self._start_over()

    def _start_over(self) -> None:
        self._pid = os.getpid()
        self._pool: ConnectionPool | None = None
        self._pools: WeakKeyDictionary[asyncio.AbstractEventLoop, AsyncConnectionPool] = WeakKeyDictionary()
        self._meta: Meta | None = None

    # For threads.

    def open(self) -> Meta:
        """Connect, migrate if allowed, and return the store's meta row (K4)."""
        self._after_fork()
        if self._meta is None:
            try:
                with self._connections().connection() as connection:
                    prepare(connection, may_migrate=self._migrate)
            except (psycopg.Error, OSError) as error:
                raise translated(error) from error
            self._meta = self._run(meta)
        return self._meta

    def run(self, program: Factory[T]) -> T:
        """Run a program in one transaction and block until it is durable."""
        if self._meta is None or self._pid != os.getpid():
            self.open()
        return self._run(program)

    def query(self, program: Factory[T]) -> T:
        """Run a program that only reads."""
        return self.run(program)

    def close(self) -> None:
        """Close every connection for threads; those of event loops are closed with :meth:`aclose`, or with them."""
        with self._door:
            pool, self._pool, self._meta = self._pool, None, None
        if pool is not None and self._pid == os.getpid():
            pool.close()

    def _run(self, program: Factory[T]) -> T:
        for pause in _pauses():
            try:
                with self._connections().connection() as connection, connection.cursor() as cursor:
                    return run(program(), lambda statement: _fetch(cursor, statement))
            except CONFLICTS as error:
                if pause is None:
                    raise translated(error) from error
                sleep(pause)
            except (psycopg.Error, OSError) as error:
                raise translated(error) from error
        raise AssertionError("the last run always answers")

    def _connections(self) -> ConnectionPool:
        with self._door:
            if self._pool is None:
                self._pool = ConnectionPool(
                    self.conninfo,
                    min_size=0,
                    max_size=self._pool_size,
                    open=True,
                    timeout=self._timeout_seconds,
                    check=ConnectionPool.check_connection,
                    kwargs=self._settings,
                    name="retrysafe",
                )
            return self._pool

    def _after_fork(self) -> None:
        if self._pid != os.getpid():
            # The parent's connections are the parent's: closing them here would end its sessions.
            _INHERITED.append((self._pool, self._pools))
            self._door = threading.Lock()
            self._start_over()

    # For event loops.

    async def aopen(self) -> Meta:
        """Connect like :meth:`open`, without blocking the loop."""
        if self._meta is None or self._pid != os.getpid():
            return await asyncio.to_thread(self.open)
        return self._meta

    async def arun(self, program: Factory[T]) -> T:
        """Run a program in one transaction and suspend until it is durable."""
        await self.aopen()
        # A cancelled caller leaves it running to its end: what was submitted may be durable.
        return await asyncio.shield(asyncio.ensure_future(self._arun(program)))

    async def aquery(self, program: Factory[T]) -> T:
        """Run a program that only reads."""
        await self.aopen()
        return await self._arun(program)

    async def aclose(self) -> None:
        """Close every connection, without blocking the loop."""
        pool = self._pools.pop(asyncio.get_running_loop(), None)
        if pool is not None:
            await pool.close()
        await asyncio.to_thread(self.close)

    async def _arun(self, program: Factory[T]) -> T:
        for pause in _pauses():
            try:
                pool = await self._aconnections()
                async with pool.connection() as connection, connection.cursor() as cursor:
                    return await _arun_program(program(), cursor)
            except CONFLICTS as error:
                if pause is None:
                    raise translated(error) from error
                await asyncio.sleep(pause)
            except (psycopg.Error, OSError) as error:
                raise translated(error) from error
        raise AssertionError("the last run always answers")

    async def _aconnections(self) -> AsyncConnectionPool:
        loop = asyncio.get_running_loop()
        pool = self._pools.get(loop)
        if pool is None:
            pool = self._pools[loop] = AsyncConnectionPool(
                self.conninfo,
                min_size=0,
                max_size=self._pool_size,
                open=False,
                timeout=self._timeout_seconds,
                check=AsyncConnectionPool.check_connection,
                kwargs=self._settings,
                name="retrysafe",
            )
            await pool.open()
        return pool

    def __repr__(self) -> str:
        """Say what it is, and not where: an address may hold a password."""
        return "<PostgresStore>"


_INHERITED: list[object] = []
"""What forked children got from their parents and must neither use nor close."""


def _pauses() -> Iterator[float | None]:
    """Give how long to wait after each conflict, with jitter; None after the last run."""
    for number in range(_MOST_RUNS - 1):
        yield _CHANCE.uniform(0, 0.005 * 2 ** min(number, 6))
    yield None


@cache
def _worded(text: str) -> bytes:
    """Rewrite placeholders as psycopg has them."""
    return text.replace("?", "%s").encode()


def _fetch(cursor: psycopg.Cursor[Any], statement: Statement) -> Answer:
    cursor.execute(_worded(statement.text), statement.parameters)
    if cursor.description is None:
        return Answer(changed=cursor.rowcount)
    return Answer(rows=cursor.fetchall())


async def _arun_program(program: Program[T], cursor: psycopg.AsyncCursor[Any]) -> T:
    try:
        statement = next(program)
        while True:
            await cursor.execute(_worded(statement.text), statement.parameters)
            if cursor.description is None:
                answer = Answer(changed=cursor.rowcount)
            else:
                answer = Answer(rows=await cursor.fetchall())
            statement = program.send(answer)
    except StopIteration as end:
        reply: T = end.value
        return reply
