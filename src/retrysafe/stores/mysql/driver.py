"""The store: programs on MySQL or MariaDB, for threads and event loops."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable
from functools import partial
from typing import Final, TypeVar

from retrysafe.errors import StoreError
from retrysafe.stores.base import Capability, Clock, Durability, Meta, Traits, Verbs
from retrysafe.stores.clock import HostClock
from retrysafe.stores.instants import HostInstants
from retrysafe.stores.mysql.connect import Settings
from retrysafe.stores.mysql.dialect import MySQLVerbs
from retrysafe.stores.mysql.failures import DRIVER_ERRORS, tells_of_another_schema, translated
from retrysafe.stores.mysql.running import LoopRunner, ThreadRunner
from retrysafe.stores.mysql.schema import meta, prepare
from retrysafe.stores.program import Factory
from retrysafe.stores.sql.pools import Pools

T = TypeVar("T")


class MySQLStore:
    """Checkpoints in a database of MariaDB or MySQL, which may be the application's own.

    Nothing is connected before the first use. Connections are made when they are needed, anew after a fork and when the
    server has ended them. Every instant is the server's.

    Args:
        settings: how the server is reached; :func:`~retrysafe.stores.mysql.from_url` makes them of a URL.

    Attributes:
        traits: what the store declares about itself.
        verbs: what it can be asked.
        settings: how the server is reached.
    """

    def __init__(self, settings: Settings) -> None:
        self.traits = Traits(
            name="mysql",
            clock=Clock.SERVER,
            durability=Durability.NODE,
            capabilities=frozenset(
                {Capability.SYNC, Capability.ASYNC, Capability.LIST_ABANDONED, Capability.SAME_TRANSACTION}
            ),
        )
        self.verbs: Verbs = MySQLVerbs()
        self.settings: Final = settings
        self._pools: Final[Pools[ThreadRunner, LoopRunner]] = Pools(
            partial(ThreadRunner, settings), partial(LoopRunner, settings), settings.timeout_seconds
        )
        # A store that nobody closed is closed when it is collected, and at the latest when the interpreter ends.
        weakref.finalize(self, self._pools.close_all)

    def open(self) -> Meta:
        """Connect, make or check the tables, and return the meta row (K4).

        Raises:
            SchemaMismatch: the schema is newer than the code, or older and may not be migrated here.
            ConfigurationError: a migration was changed after it had been applied, or the server is too old.
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

    def close(self) -> None:
        """Close every connection for threads; an event loop's are closed with :meth:`aclose`, or with the loop."""
        self._pools.close()

    def with_clock(self, wall: Callable[[], float]) -> MySQLStore:
        """Return a store in the same database, by a wall clock of this process: for tests (C2)."""
        store = MySQLStore(self.settings)
        store.verbs = MySQLVerbs(HostInstants(HostClock(wall)))
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
        await self._pools.aclose_loop()
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
            return await self._pools.loop().run(program, reads=reads)
        except StoreError as error:
            self._note(error)
            raise

    def _prepare(self) -> Meta:
        threads = self._pools.threads()
        try:
            session = threads.pool.lend()
            fit = False
            try:
                prepare(session, may_migrate=self.settings.migrate)
                fit = True
            finally:
                threads.pool.give_back(session, fit=fit)
        except DRIVER_ERRORS as error:
            raise translated(error) from error
        return threads.run(meta, reads=True)

    def _note(self, error: StoreError) -> None:
        if error.__cause__ is not None and tells_of_another_schema(error.__cause__):
            self._pools.meta = None

    def __repr__(self) -> str:
        """Say what it is, and not where: an address may hold a password."""
        return "<MySQLStore>"
