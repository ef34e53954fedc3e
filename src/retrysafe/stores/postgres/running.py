"""Programs on sessions: with others in one statement where they say so, else in a transaction of their own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Iterator, Sequence
from contextlib import suppress
from functools import partial
from random import SystemRandom
from time import sleep
from typing import Any, NamedTuple, TypeVar

from retrysafe.stores.batching import LoopBatches, ThreadBatches
from retrysafe.stores.postgres.connect import Settings
from retrysafe.stores.postgres.dialect import BATCHES, many
from retrysafe.stores.postgres.failures import conflicts, is_of_driver, tells_of_server, translated
from retrysafe.stores.postgres.pool import AsyncPool, Pool
from retrysafe.stores.postgres.sessions import LoopSession
from retrysafe.stores.program import Answer, Batch, Factory, Program, Statement, Whole, arun, run

T = TypeVar("T")

_MOST_RUNS = 10
_CHANCE = SystemRandom()


class _Row(NamedTuple):
    """A statement that waits to be run with others, and the program that begins with it."""

    statement: Statement
    program: Factory[Any]


class ThreadRunner:
    """Runs programs for threads.

    Attributes:
        pool: the sessions.
    """

    def __init__(self, settings: Settings) -> None:
        """Connect to nothing yet."""
        self._settings = settings
        self.pool = Pool(settings)
        self._batches: dict[Batch, ThreadBatches[_Row, Answer]] = {
            batch: ThreadBatches(partial(self._flush, batch), key=_key, changed=partial(_changed, batch))
            for batch in BATCHES
        }

    def run(self, factory: Factory[T], *, reads: bool) -> T:
        """Run a program and block until it is durable.

        Raises:
            StoreError: see :func:`~retrysafe.stores.postgres.failures.translated`.
            Exception: the program's own.
        """
        program = factory()
        try:
            statement = next(program)
            if statement.batch is None or type(program) is not Whole:
                return self._transact(factory, reads=reads, begun=(program, statement))
            answer = self._outside(statement, factory)
            if answer is not None:
                program.send(answer)
        except StopIteration as end:
            reply: T = end.value
            return reply
        program.close()
        return self._transact(factory, reads=reads)

    def _outside(self, statement: Statement, factory: Factory[Any]) -> Answer | None:
        """Run a statement outside of a transaction; None when it needs one."""
        batch = statement.batch
        if batch is not None and batch.name is not None:
            return self._batches[batch].put(_Row(statement, factory))
        if self._settings.pgbouncer:
            return None
        try:
            with self.pool.session() as session:
                return session.fetch(statement)
        except Exception as error:
            if tells_of_server(error):
                raise translated(error) from error
            if is_of_driver(error):
                return None
            raise

    def _flush(self, batch: Batch, rows: Sequence[_Row]) -> Sequence[Answer]:
        statement = _together(batch, rows)
        try:
            if self._settings.pgbouncer:
                with self.pool.transaction(reads=False, patient=False) as session:
                    answer = session.fetch(statement)
            else:
                with self.pool.session() as session:
                    answer = session.fetch(statement)
        except Exception as error:
            if tells_of_server(error):
                raise translated(error) from error
            raise
        return _apart(batch, rows, answer)

    def _transact(self, factory: Factory[T], *, reads: bool, begun: tuple[Program[T], Statement] | None = None) -> T:
        for pause in _pauses():
            program, first = begun or (factory(), None)
            begun = None
            try:
                with self.pool.transaction(reads=reads) as session:
                    return run(program, session.fetch, first)
            except Exception as error:
                if is_of_driver(error) and (pause is None or not conflicts(error)):
                    raise translated(error) from error
                if pause is None or not conflicts(error):
                    raise
                sleep(pause or 0)
        raise AssertionError("the last run always answers")


class LoopRunner:
    """Runs programs for one event loop.

    Args:
        settings: how the server is reached.
        connect: makes a session.

    Attributes:
        pool: the sessions.
    """

    def __init__(self, settings: Settings, connect: Callable[[Settings], Awaitable[LoopSession]]) -> None:
        """Connect to nothing yet."""
        self._settings = settings
        self.pool = AsyncPool(settings, connect)
        self._batches: dict[Batch, LoopBatches[_Row, Answer]] = {
            batch: LoopBatches(partial(self._flush, batch), key=_key, changed=partial(_changed, batch), left=self._left)
            for batch in BATCHES
        }
        self._running: set[asyncio.Task[Any]] = set()
        # Known to the loop by its first step, which it takes here.
        self._life = self._live()
        with suppress(StopIteration):
            self._life.asend(None).send(None)

    async def aclose(self) -> None:
        """Close what rests, and what is lent when it is given back."""
        self.pool.shelf.close()
        await self._life.aclose()
        # Sockets are closed in the loop's next turns.
        await asyncio.sleep(0)

    async def _live(self) -> AsyncGenerator[None]:
        """Close every session with the loop: one that ends finishes its asynchronous generators first."""
        try:
            yield
        finally:
            if not self.pool.shelf.closed:
                self.pool.shelf.close_all()
            await asyncio.sleep(0)

    async def run(self, factory: Factory[T], *, reads: bool) -> T:
        """Run a program and suspend until it is durable; a cancelled caller leaves a write running to its end.

        Raises:
            StoreError: see :func:`~retrysafe.stores.postgres.failures.translated`.
            Exception: the program's own.
        """
        program = factory()
        try:
            statement = next(program)
            batch = statement.batch
            if batch is None or batch.name is None or type(program) is not Whole:
                return await self._to_the_end(self._go_on(factory, program, statement, reads=reads), reads=reads)
            answer = await self._batches[batch].put(_Row(statement, factory))
            if answer is not None:
                program.send(answer)
        except StopIteration as end:
            reply: T = end.value
            return reply
        program.close()
        return await self._to_the_end(self._transact(factory, reads=reads), reads=reads)

    async def _go_on(self, factory: Factory[T], program: Program[T], statement: Statement, *, reads: bool) -> T:
        if statement.batch is None or self._settings.pgbouncer or type(program) is not Whole:
            return await self._transact(factory, reads=reads, begun=(program, statement))
        answer = await self._alone(statement)
        if answer is not None:
            try:
                program.send(answer)
            except StopIteration as end:
                reply: T = end.value
                return reply
        program.close()
        return await self._transact(factory, reads=reads)

    async def _alone(self, statement: Statement) -> Answer | None:
        """Run a statement outside of a transaction; None when it needs one."""
        try:
            return await self._fetch(statement)
        except Exception as error:
            if tells_of_server(error):
                raise translated(error) from error
            if is_of_driver(error):
                return None
            raise

    def _left(self, row: _Row) -> None:
        """Write what a cancelled caller has left (C7)."""
        self._keep(self._transact(row.program, reads=False))

    async def _flush(self, batch: Batch, rows: Sequence[_Row]) -> Sequence[Answer]:
        statement = _together(batch, rows)
        try:
            if self._settings.pgbouncer:
                async with self.pool.transaction(reads=False, patient=False) as session:
                    answer = await session.fetch(statement)
            else:
                answer = await self._fetch(statement)
        except Exception as error:
            if tells_of_server(error):
                raise translated(error) from error
            raise
        return _apart(batch, rows, answer)

    async def _fetch(self, statement: Statement) -> Answer:
        session = await self.pool.take()
        try:
            answer = await session.fetch(statement)
        except BaseException as error:
            self.pool.give_back(session, error)
            raise
        self.pool.give_back(session)
        return answer

    async def _transact(
        self, factory: Factory[T], *, reads: bool, begun: tuple[Program[T], Statement] | None = None
    ) -> T:
        for pause in _pauses():
            program, first = begun or (factory(), None)
            begun = None
            try:
                async with self.pool.transaction(reads=reads) as session:
                    return await arun(program, session.fetch, first)
            except Exception as error:
                if is_of_driver(error) and (pause is None or not conflicts(error)):
                    raise translated(error) from error
                if pause is None or not conflicts(error):
                    raise
                await asyncio.sleep(pause or 0)
        raise AssertionError("the last run always answers")

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


def _pauses() -> Iterator[float | None]:
    """Give how long to wait after each conflict, with jitter; None after the last run."""
    for number in range(_MOST_RUNS - 1):
        yield _CHANCE.uniform(0, 0.005 * 2 ** min(number, 6))
    yield None


def _key(row: _Row) -> tuple[Any, ...]:
    statement = row.statement
    return tuple(statement.parameters[: statement.batch.key if statement.batch else 0])


def _changed(batch: Batch, answer: Answer) -> bool:
    return any(row[batch.key] for row in answer.rows)


def _together(batch: Batch, rows: Sequence[_Row]) -> Statement:
    """Make one statement of many, with an array for each parameter; one alone stays what it is."""
    if len(rows) == 1:
        return rows[0].statement
    columns = zip(*(row.statement.parameters for row in rows), strict=True)
    return Statement(many(batch), [list(column) for column in columns], batch)


def _apart(batch: Batch, rows: Sequence[_Row], answer: Answer) -> Sequence[Answer]:
    """Give each row what was answered to it."""
    if len(rows) == 1:
        return [answer]
    found: dict[tuple[Any, ...], list[Sequence[Any]]] = {}
    for answered in answer.rows:
        found.setdefault(tuple(answered[: batch.key]), []).append(answered)
    return [Answer(found.get(_key(row), ())) for row in rows]
