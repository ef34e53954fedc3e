"""Several event loops with one store, and callers that are cancelled."""

from __future__ import annotations

import asyncio
import gc
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

from retrysafe.protocol.states import State
from retrysafe.protocol.verdicts import Claimed, InFlight
from retrysafe.stores.mysql import MySQLStore, from_url
from retrysafe.stores.program import Program, Statement
from retrysafe.testing.asks import an_ask
from tests.stores.mysql.tools import Sight, claimed, locked, one_statement, read, until, until_somebody_waits


def test_loops_of_several_threads_share_a_store(database: str) -> None:
    """C1: each has connections of its own, and every key one winner."""
    store = from_url(database)

    async def work() -> list[object]:
        asks = [an_ask(f"key-{number}") for number in range(30)]
        return list(await asyncio.gather(*(store.arun(partial(store.verbs.claim, ask)) for ask in asks)))

    with ThreadPoolExecutor(3) as threads:
        answers = list(threads.map(lambda _: asyncio.run(work()), range(3)))
    verdicts = [verdict for answer in answers for verdict in answer]
    assert sum(isinstance(verdict, Claimed) for verdict in verdicts) == 30
    assert sum(isinstance(verdict, InFlight) for verdict in verdicts) == 60
    store.close()


def test_connections_of_a_loop_are_closed_when_it_is_over(database: str, sight: Sight) -> None:
    """A program that runs one loop after the other collects none, though it closes nothing itself."""
    store = from_url(database)

    async def work() -> None:
        await asyncio.gather(*(store.arun(one_statement("SELECT sleep(0.01)")) for _ in range(8)))

    for _ in range(4):
        asyncio.run(work())
    until(lambda: len(sight.others()) <= 1)
    store.close()
    until(lambda: not sight.others())


def test_a_loop_closes_its_connections_and_can_make_others(database: str, sight: Sight) -> None:
    store = from_url(database)

    async def work() -> None:
        for _ in range(2):
            assert await store.aquery(one_statement("SELECT 1")) == [(1,)]
            await store.aclose()
            until(lambda: not sight.others())

    asyncio.run(work())


def test_threads_and_loops_together(store: MySQLStore) -> None:
    async def work() -> object:
        claim = await asyncio.to_thread(claimed, store)
        verdict = await store.arun(partial(store.verbs.claim, an_ask()))
        await store.aclose()
        assert isinstance(verdict, InFlight)
        return claim.operation_id == verdict.checkpoint.operation_id

    assert asyncio.run(work())


def test_a_cancelled_caller_leaves_its_write_running_to_its_end(store: MySQLStore, database: str, sight: Sight) -> None:
    """C7: what was submitted may be durable."""
    claim = claimed(store)

    async def work() -> None:
        with locked(database, claim):
            parking = asyncio.ensure_future(store.arun(partial(store.verbs.park, claim, "nobody knows")))
            await asyncio.to_thread(until_somebody_waits, sight)
            parking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await parking
            gc.collect()
        await asyncio.to_thread(until, lambda: read(store, claim).state is State.PARKED)
        await store.aclose()

    asyncio.run(work())


def test_a_cancelled_reader_spoils_nothing(store: MySQLStore) -> None:
    """C7: its connection is not given to the next in the middle of an answer."""

    async def work() -> None:
        for _ in range(5):
            reading = asyncio.ensure_future(store.aquery(one_statement("SELECT sleep(60)")))
            await asyncio.sleep(0.02)
            reading.cancel()
            with pytest.raises(asyncio.CancelledError):
                await reading
        answers = await asyncio.gather(*(store.aquery(one_statement(f"SELECT {number}")) for number in range(20)))
        assert answers == [[(number,)] for number in range(20)]
        await store.aclose()

    asyncio.run(work())


def test_a_loop_that_ends_in_the_middle_leaves_no_transaction(database: str, sight: Sight) -> None:
    """C7: its write counts as not made."""
    store = from_url(database)
    begun = asyncio.Event()

    def slow() -> Program[None]:
        # In a transaction from its first statement on.
        yield Statement("SELECT 1")
        yield from store.verbs.claim(an_ask())
        begun.set()
        yield Statement("SELECT sleep(60)")

    async def work() -> None:
        writing = asyncio.ensure_future(store.arun(slow))
        await begun.wait()
        assert not writing.done()

    asyncio.run(work())
    store.close()
    until(lambda: not sight.others())
    assert store.query(partial(store.verbs.read, an_ask().identity.digest)) is None
    store.close()
