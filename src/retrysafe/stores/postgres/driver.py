"""Running programs on PostgreSQL: one transaction each, on a connection that is kept, for threads and event loops."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import cache
from random import SystemRandom
from time import sleep
from typing import Final, NoReturn, TypeVar

import psycopg

from retrysafe.stores.base import Capability, Clock, Durability, Meta, Traits, Verbs
from retrysafe.stores.clock import HostClock
from retrysafe.stores.instants import HostInstants
from retrysafe.stores.postgres.connect import AsyncConnection, Connection, Settings
from retrysafe.stores.postgres.dialect import PostgresVerbs
from retrysafe.stores.postgres.failures import CONFLICTS, tells_of_another_schema, translated
from retrysafe.stores.postgres.pools import Pools
from retrysafe.stores.postgres.schema import meta, prepare
from retrysafe.stores.program import Answer, Factory, Program, Statement, run

T = TypeVar("T")

_MOST_RUNS = 10
_CHANCE = SystemRandom()


class PostgresStore:
    """Checkpoints in a PostgreSQL database, which may be the application's own.

    Nothing is connected before the first use. Connections are made when they are needed, anew after a fork and when the
    server has ended them. Every instant is the server's.

    Args:
        conninfo: URL or key-value string, as libpq takes it.
        pool: most connections for threads, and for each event loop.
        migrate: whether the tables may be made and changed at first use; off, ``retrysafe migrate`` does it.
        pgbouncer: whether connections go through a pooler that gives each transaction another session.
        timeout: after so long the server ends a statement, and a transaction that does nothing; a server that does not
            answer at all is given up a little later.

    Attributes:
        traits: what the store declares about itself.
        verbs: what it can be asked.
        settings: how the server is reached.
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
        self.traits = Traits(
            name="postgresql",
            clock=Clock.SERVER,
            durability=Durability.NODE,
            capabilities=frozenset(
                {Capability.SYNC, Capability.ASYNC, Capability.LIST_ABANDONED, Capability.SAME_TRANSACTION}
            ),
        )
        self.verbs: Verbs = PostgresVerbs()
        self.settings: Final = Settings(
            conninfo=conninfo,
            pool=pool,
            timeout_seconds=timeout.total_seconds(),
            pgbouncer=pgbouncer,
            migrate=migrate,
        )
        # A URL that nobody understands is said to be one now, and not with the first request.
        self.settings.parameters()
        self._pools: Final = Pools(self.settings)
        # A store that nobody closed is closed when it is collected, and at the latest when the interpreter ends.
        weakref.finalize(self, self._pools.close_all)

    def open(self) -> Meta:
        """Connect, make or check the tables, and return the meta row (K4).

        Raises:
            SchemaMismatch: the schema is newer than the code, or older and may not be migrated here.
            ConfigurationError: a migration was changed after it had been applied, or the server is older than 14.
            StoreUnavailable: the server cannot be reached or written.
            StoreCorrupt: data is damaged.
        """
        opened = self._pools.meta
        if opened is None:
            with self._pools.opening():
                opened = self._pools.meta or self._prepare()
                self._pools.meta = opened
        return opened

    def run(self, program: Factory[T]) -> T:
        """Run a program in one transaction and block until it is durable.

        Raises:
            StoreUnavailable: nothing is known about the write (D4).
        """
        self.open()
        return self._run(program, reads=False)

    def query(self, program: Factory[T]) -> T:
        """Run a program that only reads, all of it as of one moment."""
        self.open()
        return self._run(program, reads=True)

    def close(self) -> None:
        """Close every connection for threads; an event loop's are closed with :meth:`aclose`, or once it is closed."""
        self._pools.close()

    def with_clock(self, wall: Callable[[], float]) -> PostgresStore:
        """Return a store in the same database, by a wall clock of this process: for tests (C2)."""
        settings = self.settings
        store = PostgresStore(
            settings.conninfo,
            pool=settings.pool,
            migrate=settings.migrate,
            pgbouncer=settings.pgbouncer,
            timeout=timedelta(seconds=settings.timeout_seconds),
        )
        store.verbs = PostgresVerbs(HostInstants(HostClock(wall)))
        return store

    async def aopen(self) -> Meta:
        """Connect like :meth:`open`, without blocking the loop."""
        opened = self._pools.meta
        return await asyncio.to_thread(self.open) if opened is None else opened

    async def arun(self, program: Factory[T]) -> T:
        """Run a program in one transaction and suspend until it is durable.

        A cancelled caller leaves it running to its end: what was submitted may be durable.

        Raises:
            StoreUnavailable: nothing is known about the write (D4).
        """
        await self.aopen()
        running = asyncio.ensure_future(self._arun(program, reads=False))
        # The loop itself keeps tasks weakly.
        self._pools.running.add(running)
        running.add_done_callback(self._pools.running.discard)
        return await asyncio.shield(running)

    async def aquery(self, program: Factory[T]) -> T:
        """Run a program that only reads; see :meth:`query`."""
        await self.aopen()
        return await self._arun(program, reads=True)

    async def aclose(self) -> None:
        """Close this event loop's connections, and those for threads, without blocking the loop."""
        self._pools.close_loop(asyncio.get_running_loop())
        await asyncio.to_thread(self.close)

    def _prepare(self) -> Meta:
        try:
            with self._pools.threads().transaction(reads=False) as connection:
                prepare(connection, may_migrate=self.settings.migrate)
        except (psycopg.Error, OSError) as error:
            raise translated(error) from error
        return self._run(meta, reads=True)

    def _run(self, program: Factory[T], *, reads: bool) -> T:
        for pause in _pauses():
            try:
                with self._pools.threads().transaction(reads=reads) as connection:
                    return run(program(), lambda statement: _fetch(connection, statement))
            except CONFLICTS as error:
                if pause is None:
                    raise translated(error) from error
                sleep(pause)
            except (psycopg.Error, OSError) as error:
                self._give_up(error)
        raise AssertionError("the last run always answers")

    async def _arun(self, program: Factory[T], *, reads: bool) -> T:
        for pause in _pauses():
            try:
                async with self._pools.loop(asyncio.get_running_loop()).transaction(reads=reads) as connection:
                    return await _arun(program(), connection)
            except CONFLICTS as error:
                if pause is None:
                    raise translated(error) from error
                await asyncio.sleep(pause)
            except (psycopg.Error, OSError) as error:
                self._give_up(error)
        raise AssertionError("the last run always answers")

    def _give_up(self, error: Exception) -> NoReturn:
        if tells_of_another_schema(error):
            self._pools.meta = None
        raise translated(error) from error

    def __repr__(self) -> str:
        """Say what it is, and not where: an address may hold a password."""
        return "<PostgresStore>"


def _pauses() -> Iterator[float | None]:
    """Give how long to wait after each conflict, with jitter; None after the last run."""
    for number in range(_MOST_RUNS - 1):
        yield _CHANCE.uniform(0, 0.005 * 2 ** min(number, 6))
    yield None


@cache
def _worded(text: str) -> bytes:
    """Rewrite placeholders as psycopg has them."""
    return text.replace("?", "%s").encode()


def _fetch(connection: Connection, statement: Statement) -> Answer:
    cursor = connection.execute(_worded(statement.text), statement.parameters)
    if cursor.description is None:
        return Answer(changed=cursor.rowcount)
    return Answer(rows=cursor.fetchall())


async def _arun(program: Program[T], connection: AsyncConnection) -> T:
    try:
        statement = next(program)
        while True:
            cursor = await connection.execute(_worded(statement.text), statement.parameters)
            if cursor.description is None:
                answer = Answer(changed=cursor.rowcount)
            else:
                answer = Answer(rows=await cursor.fetchall())
            statement = program.send(answer)
    except StopIteration as end:
        reply: T = end.value
        return reply
