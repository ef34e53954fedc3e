"""Programs on connections: with others in one statement where they say so, else in a transaction of their own."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from functools import partial
from random import SystemRandom
from time import monotonic, sleep
from typing import Any, Final, NamedTuple, TypeVar

from retrysafe.stores.batching import LoopBatches, ThreadBatches
from retrysafe.stores.mysql.connect import Settings
from retrysafe.stores.mysql.dialect import BATCHES, together
from retrysafe.stores.mysql.failures import DRIVER_ERRORS, conflicted, spares_connection, tells_of_server, translated
from retrysafe.stores.mysql.sessions import AsyncSession, Session, StoreTooLarge, aconnect
from retrysafe.stores.program import Answer, Batch, Factory, Program, Statement, Whole
from retrysafe.stores.sql.pool import AsyncPool, Pool

T = TypeVar("T")
R = TypeVar("R")

_MOST_RUNS = 10
_CHANCE = SystemRandom()
Begun = tuple[Program[T], Statement] | None


class _Row(NamedTuple):
    """A statement that waits to be run with others, and the program that it is of."""

    statement: Statement
    program: Factory[Any]


class ThreadRunner:
    """Runs programs for threads.

    Attributes:
        pool: the connections.
    """

    def __init__(self, settings: Settings) -> None:
        """Connect to nothing yet."""
        self._settings: Final = settings
        self.pool: Pool[Session] = Pool(settings.pool, settings.timeout_seconds, partial(Session, settings))
        self._batches: dict[Batch, ThreadBatches[_Row, Answer]] = {
            batch: ThreadBatches(partial(self._flush, batch), key=_key, changed=_changed) for batch in BATCHES
        }

    def run(self, factory: Factory[T], *, reads: bool) -> T:
        """Run a program and block until it is durable.

        Raises:
            StoreError: see :func:`~retrysafe.stores.mysql.failures.translated`.
            Exception: the program's own.
        """
        program = factory()
        try:
            statement = next(program)
            # A part of another program would be durable before the rest of it.
            while statement.batch is not None and isinstance(program, Whole):
                answer = self._outside(_Row(statement, factory), statement.batch)
                if answer is None:
                    break
                statement = program.send(answer)
                if reads or answer.changed:
                    # It wants more as of one moment, or in one transaction.
                    break
            else:
                return self._transact(factory, reads=reads, begun=(program, statement))
        except StopIteration as end:
            reply: T = end.value
            return reply
        program.close()
        return self._transact(factory, reads=reads)

    def _outside(self, row: _Row, batch: Batch) -> Answer | None:
        """Run a statement outside of a transaction; None when it needs one."""
        if batch.name is not None:
            return self._batches[batch].put(row)
        try:
            return self._lent(lambda session: session.execute(row.statement))
        except DRIVER_ERRORS as error:
            if tells_of_server(error):
                raise translated(error) from error
            return None

    def _flush(self, batch: Batch, rows: Sequence[_Row]) -> Sequence[Answer | None]:
        try:
            return self._lent(lambda session: session.run(together(batch, [row.statement for row in rows])))
        except DRIVER_ERRORS as error:
            if tells_of_server(error):
                raise translated(error) from error
            raise
        except StoreTooLarge:
            if len(rows) == 1:
                raise
            return [None] * len(rows)

    def _transact(self, factory: Factory[T], *, reads: bool, begun: Begun[T] = None) -> T:
        for pause in _pauses(self._settings.timeout_seconds):
            program, first = begun or (factory(), None)
            begun = None
            try:
                return self._lent(partial(_transaction, program, first, reads))
            except DRIVER_ERRORS as error:
                if pause is None or not conflicted(error):
                    raise translated(error) from error
                sleep(pause)
        raise AssertionError("the last run always answers")

    def _lent(self, use: Callable[[Session], R]) -> R:
        session = self.pool.lend()
        fit = False
        try:
            answer = use(session)
            fit = True
        except BaseException as error:
            fit = spares_connection(error) and not session.is_open
            raise
        finally:
            self.pool.give_back(session, fit=fit)
        return answer


class LoopRunner:
    """Runs programs for one event loop, on which it is made.

    Attributes:
        pool: the connections.
    """

    def __init__(self, settings: Settings) -> None:
        """Connect to nothing yet."""
        self._settings: Final = settings
        self.pool: AsyncPool[AsyncSession] = AsyncPool(
            settings.pool, settings.timeout_seconds, partial(aconnect, settings)
        )
        self._batches: dict[Batch, LoopBatches[_Row, Answer]] = {
            batch: LoopBatches(partial(self._flush, batch), key=_key, changed=_changed, left=self._left)
            for batch in BATCHES
        }
        self._running: set[asyncio.Task[Any]] = set()

    async def run(self, factory: Factory[T], *, reads: bool) -> T:
        """Run a program and suspend until it is durable; a cancelled caller leaves a write running to its end.

        Raises:
            StoreError: see :func:`~retrysafe.stores.mysql.failures.translated`.
            Exception: the program's own.
        """
        program = factory()
        try:
            statement = next(program)
            batch = statement.batch
            if batch is None or batch.name is None or not isinstance(program, Whole):
                return await self._to_the_end(self._go_on(factory, program, statement, reads=reads), reads=reads)
            # Needs no task of its own: its row is written whoever still waits for it.
            answer = await self._batches[batch].put(_Row(statement, factory))
            if answer is not None:
                statement = program.send(answer)
                if not answer.changed:
                    return await self._to_the_end(self._go_on(factory, program, statement, reads=reads), reads=reads)
        except StopIteration as end:
            reply: T = end.value
            return reply
        program.close()
        return await self._to_the_end(self._transact(factory, reads=reads), reads=reads)

    def _left(self, row: _Row) -> None:
        """Write what a cancelled caller has left (C7)."""
        self._keep(self._transact(row.program, reads=False))

    async def _go_on(self, factory: Factory[T], program: Program[T], statement: Statement, *, reads: bool) -> T:
        """Go on outside of a transaction for as long as nothing was written and one statement at a time will do."""
        try:
            # A part of another program would be durable before the rest of it.
            while statement.batch is not None and isinstance(program, Whole):
                answer = await self._outside(_Row(statement, factory), statement.batch)
                if answer is None:
                    break
                statement = program.send(answer)
                if reads or answer.changed:
                    break
            else:
                return await self._transact(factory, reads=reads, begun=(program, statement))
        except StopIteration as end:
            reply: T = end.value
            return reply
        program.close()
        return await self._transact(factory, reads=reads)

    async def _outside(self, row: _Row, batch: Batch) -> Answer | None:
        """Run a statement outside of a transaction; None when it needs one."""
        if batch.name is not None:
            return await self._batches[batch].put(row)
        try:
            return await self._lent(lambda session: session.execute(row.statement))
        except DRIVER_ERRORS as error:
            if tells_of_server(error):
                raise translated(error) from error
            return None

    async def _flush(self, batch: Batch, rows: Sequence[_Row]) -> Sequence[Answer | None]:
        try:
            return await self._lent(lambda session: session.run(together(batch, [row.statement for row in rows])))
        except DRIVER_ERRORS as error:
            if tells_of_server(error):
                raise translated(error) from error
            raise
        except StoreTooLarge:
            if len(rows) == 1:
                raise
            return [None] * len(rows)

    async def _transact(self, factory: Factory[T], *, reads: bool, begun: Begun[T] = None) -> T:
        for pause in _pauses(self._settings.timeout_seconds):
            program, first = begun or (factory(), None)
            begun = None
            try:
                return await self._lent(partial(_atransaction, program, first, reads))
            except DRIVER_ERRORS as error:
                if pause is None or not conflicted(error):
                    raise translated(error) from error
                await asyncio.sleep(pause)
        raise AssertionError("the last run always answers")

    async def _lent(self, use: Callable[[AsyncSession], Awaitable[R]]) -> R:
        session = await self.pool.lend()
        fit = False
        try:
            answer = await use(session)
            fit = True
        except BaseException as error:
            # One in the middle of an exchange, whose caller was cancelled, is never used again.
            fit = spares_connection(error) and not session.is_open
            raise
        finally:
            self.pool.give_back(session, fit=fit)
        return answer

    async def _to_the_end(self, work: Coroutine[Any, Any, T], *, reads: bool) -> T:
        if reads:
            return await work
        return await asyncio.shield(self._keep(work))

    def _keep(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        running = asyncio.get_running_loop().create_task(work)
        # The loop itself keeps tasks weakly.
        self._running.add(running)
        running.add_done_callback(self._forget)
        return running

    def _forget(self, ended: asyncio.Task[Any]) -> None:
        self._running.discard(ended)
        if not ended.cancelled():
            # Of a caller that was cancelled nobody asks any more; the state tells (D4).
            ended.exception()


def _transaction(program: Program[T], first: Statement | None, reads: bool, session: Session) -> T:  # noqa: FBT001
    session.begin(reads=reads)
    try:
        reply = session.run(program, first)
        session.commit()
    except BaseException as error:
        if spares_connection(error):
            session.rollback()
        raise
    return reply


async def _atransaction(
    program: Program[T],
    first: Statement | None,
    reads: bool,  # noqa: FBT001 - bound by its caller
    session: AsyncSession,
) -> T:
    await session.begin(reads=reads)
    try:
        reply = await session.run(program, first)
        await session.commit()
    except BaseException as error:
        if spares_connection(error):
            await session.rollback()
        raise
    return reply


def _pauses(timeout_seconds: float) -> Iterator[float | None]:
    """Give how long to wait after each conflict, with jitter; None after the last run.

    Whoever waited for a lock until the server gave up is not run again and again: all runs together take as long as one
    statement may.
    """
    give_up_at = monotonic() + timeout_seconds
    for number in range(_MOST_RUNS - 1):
        pause = _CHANCE.uniform(0, 0.005 * 2 ** min(number, 6))
        yield pause if monotonic() < give_up_at else None
    yield None


def _key(row: _Row) -> tuple[Any, ...]:
    statement, _ = row
    key = statement.batch.key if statement.batch else 0
    return tuple(statement.parameters[key:] if key < 0 else statement.parameters[:key])


def _changed(answer: Answer) -> bool:
    return answer.changed > 0
