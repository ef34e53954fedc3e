"""Running programs on MySQL: one transaction each, on a connection that is kept, for threads and event loops."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Iterator
from functools import partial
from random import SystemRandom
from time import monotonic, sleep
from typing import Final, NoReturn, TypeVar

from retrysafe.stores.base import Capability, Clock, Durability, Meta, Traits, Verbs
from retrysafe.stores.mysql.connect import Settings
from retrysafe.stores.mysql.dialect import MySQLVerbs
from retrysafe.stores.mysql.failures import (
    DRIVER_ERRORS,
    conflicted,
    spares_connection,
    tells_of_another_schema,
    translated,
)
from retrysafe.stores.mysql.schema import meta, prepare
from retrysafe.stores.mysql.sessions import AsyncSession, Session, aconnect
from retrysafe.stores.program import Factory
from retrysafe.stores.sql.pools import Pools

T = TypeVar("T")

_MOST_RUNS = 10
_CHANCE = SystemRandom()


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
        self._pools: Final[Pools[Session, AsyncSession]] = Pools(
            settings.pool, settings.timeout_seconds, partial(Session, settings), partial(aconnect, settings)
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
        self.open()
        return self._run(program, reads=False)

    def query(self, program: Factory[T]) -> T:
        """Run a program that only reads, all of it as of one moment."""
        self.open()
        return self._run(program, reads=True)

    def close(self) -> None:
        """Close every connection for threads; an event loop's are closed with :meth:`aclose`, or with the loop."""
        self._pools.close()

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
        await self._pools.aclose_loop()
        await asyncio.to_thread(self.close)

    def _prepare(self) -> Meta:
        pool = self._pools.threads()
        try:
            session = pool.lend()
            try:
                prepare(session, may_migrate=self.settings.migrate)
            except BaseException:
                pool.give_back(session, fit=False)
                raise
            pool.give_back(session, fit=True)
        except DRIVER_ERRORS as error:
            raise translated(error) from error
        return self._run(meta, reads=True)

    def _run(self, program: Factory[T], *, reads: bool) -> T:
        for pause in self._pauses():
            try:
                return self._once(program, reads=reads)
            except DRIVER_ERRORS as error:
                if pause is None or not conflicted(error):
                    self._give_up(error)
                sleep(pause)
        raise AssertionError("the last run always answers")

    async def _arun(self, program: Factory[T], *, reads: bool) -> T:
        for pause in self._pauses():
            try:
                return await self._aonce(program, reads=reads)
            except DRIVER_ERRORS as error:
                if pause is None or not conflicted(error):
                    self._give_up(error)
                await asyncio.sleep(pause)
        raise AssertionError("the last run always answers")

    def _once(self, program: Factory[T], *, reads: bool) -> T:
        pool = self._pools.threads()
        session = pool.lend()
        fit = False
        try:
            try:
                session.begin(reads=reads)
                reply = session.run(program())
                session.commit()
            except BaseException as error:
                if spares_connection(error):
                    session.rollback()
                    fit = True
                raise
            fit = True
            return reply
        finally:
            pool.give_back(session, fit=fit)

    async def _aonce(self, program: Factory[T], *, reads: bool) -> T:
        pool = self._pools.loop()
        session = await pool.lend()
        fit = False
        try:
            try:
                await session.begin(reads=reads)
                reply = await session.run(program())
                await session.commit()
            except BaseException as error:
                if spares_connection(error):
                    await session.rollback()
                    fit = True
                raise
            fit = True
            return reply
        finally:
            # A connection in the middle of an exchange, whose caller was cancelled, is never used again.
            pool.give_back(session, fit=fit)

    def _pauses(self) -> Iterator[float | None]:
        """Give how long to wait after each conflict, with jitter; None after the last run.

        Whoever waited for a lock until the server gave up is not run again and again: all runs together take as long as
        one statement may.
        """
        give_up_at = monotonic() + self.settings.timeout_seconds
        for number in range(_MOST_RUNS - 1):
            pause = _CHANCE.uniform(0, 0.005 * 2 ** min(number, 6))
            yield pause if monotonic() < give_up_at else None
        yield None

    def _give_up(self, error: Exception) -> NoReturn:
        if tells_of_another_schema(error):
            self._pools.meta = None
        raise translated(error) from error

    def __repr__(self) -> str:
        """Say what it is, and not where: an address may hold a password."""
        return "<MySQLStore>"
