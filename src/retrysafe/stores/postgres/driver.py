"""Running programs on PostgreSQL: one transaction each, on a connection that is kept, for threads and event loops."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import timedelta
from typing import Final, Literal, TypeVar, cast

from retrysafe.errors import ConfigurationError, StoreError
from retrysafe.stores.base import Capability, Clock, Durability, Meta, Traits, Verbs
from retrysafe.stores.clock import HostClock
from retrysafe.stores.instants import HostInstants
from retrysafe.stores.postgres import asyncpg
from retrysafe.stores.postgres.connect import Settings
from retrysafe.stores.postgres.dialect import PostgresVerbs
from retrysafe.stores.postgres.failures import is_of_driver, tells_of_another_schema, translated
from retrysafe.stores.postgres.pools import Pools
from retrysafe.stores.postgres.schema import meta, prepare
from retrysafe.stores.program import Factory

T = TypeVar("T")
Driver = Literal["asyncpg", "psycopg"]

# Behind a pooler a session that listens is another one a moment later.
_CAPABILITIES = frozenset(
    {
        Capability.SYNC,
        Capability.ASYNC,
        Capability.LIST_ABANDONED,
        Capability.SAME_TRANSACTION,
        Capability.NOTIFY,
    }
)


class PostgresStore:
    """Checkpoints in a PostgreSQL database, which may be the application's own.

    Nothing is connected before the first use. Connections are made when they are needed, anew after a fork and when the
    server has ended them. Every instant is the server's.

    Args:
        conninfo: URL or key-value string, as libpq takes it.
        pool: most connections for threads, and for each event loop.
        migrate: whether the tables may be made and changed at first use; off, ``retrysafe migrate`` does it.
        pgbouncer: whether connections go through a pooler that gives each transaction another session.
        driver: of event loops; None is asyncpg where it is installed and can do what ``conninfo`` asks, else psycopg.
            Threads always have psycopg.
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
        driver: Driver | None = None,
        timeout: timedelta = timedelta(seconds=10),
    ) -> None:
        self.traits = Traits(
            name="postgresql",
            clock=Clock.SERVER,
            durability=Durability.NODE,
            capabilities=_CAPABILITIES - {Capability.NOTIFY} if pgbouncer else _CAPABILITIES,
        )
        self.verbs: Verbs = PostgresVerbs()
        settings = Settings(
            conninfo=conninfo,
            pool=pool,
            timeout_seconds=timeout.total_seconds(),
            pgbouncer=pgbouncer,
            migrate=migrate,
            driver=driver,
        )
        # A URL that nobody understands is said to be one now, and not with the first request.
        settings.parameters()
        self.settings: Final = replace(settings, driver=_choose(settings))
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
        return self._run(program, reads=False)

    def query(self, program: Factory[T]) -> T:
        """Run a program that only reads, all of it as of one moment."""
        return self._run(program, reads=True)

    def watch(self, digest: bytes, seconds: float, wake: Callable[[], None]) -> AbstractContextManager[None]:
        """Have ``wake`` called when an operation has its outcome; see :class:`~retrysafe.stores.base.Notifier`."""
        return self._pools.notices.watch(digest, seconds, wake)

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
            driver=cast("Driver | None", settings.driver),
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
        return await self._arun(program, reads=False)

    async def aquery(self, program: Factory[T]) -> T:
        """Run a program that only reads; see :meth:`query`."""
        return await self._arun(program, reads=True)

    async def aclose(self) -> None:
        """Close this event loop's connections, and those for threads, without blocking the loop."""
        await self._pools.aclose()
        await asyncio.to_thread(self.close)

    def _run(self, program: Factory[T], *, reads: bool) -> T:
        self.open()
        try:
            return self._pools.threads().run(program, reads=reads)
        except StoreError as error:
            self._note(error)
            raise

    async def _arun(self, program: Factory[T], *, reads: bool) -> T:
        if self._pools.meta is None:
            await self.aopen()
        try:
            return await self._pools.loop(asyncio.get_running_loop()).run(program, reads=reads)
        except StoreError as error:
            self._note(error)
            raise

    def _prepare(self) -> Meta:
        threads = self._pools.threads()
        try:
            with threads.pool.transaction(reads=False) as session:
                prepare(session.connection, may_migrate=self.settings.migrate)
        except Exception as error:
            if is_of_driver(error):
                raise translated(error) from error
            raise
        return threads.run(meta, reads=True)

    def _note(self, error: StoreError) -> None:
        if error.__cause__ is not None and tells_of_another_schema(error.__cause__):
            self._pools.meta = None

    def __repr__(self) -> str:
        """Say what it is, and not where: an address may hold a password."""
        return "<PostgresStore>"


def _choose(settings: Settings) -> str:
    """Name the driver of event loops.

    Raises:
        ConfigurationError: asyncpg was asked for, and cannot do what else was asked.
        ImportError: it was asked for, and is not installed.
    """
    if settings.driver == "psycopg":
        return "psycopg"
    problems = asyncpg.problems(settings)
    if asyncpg.is_there() and not problems:
        return "asyncpg"
    if settings.driver is None:
        return "psycopg"
    if problems:
        raise ConfigurationError(problems)
    raise ImportError("driver=asyncpg needs asyncpg: pip install 'retrysafe[asyncpg]'")
