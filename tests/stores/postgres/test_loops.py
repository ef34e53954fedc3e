"""Several event loops with one store, and callers that are cancelled."""

from __future__ import annotations

import asyncio
import gc
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

from retrysafe.protocol.states import State
from retrysafe.protocol.verdicts import Claimed, InFlight
from retrysafe.stores.postgres import PostgresStore
from retrysafe.stores.program import Program, Statement
from retrysafe.testing.asks import an_ask
from tests.stores.postgres.conftest import Sight
from tests.stores.postgres.tools import claimed, locked, one_statement, read, until

OTHERS = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"


def test_loops_of_several_threads_share_a_store(database: str) -> None:
    """C1: each has connections of its own, and every key one winner."""
    store = PostgresStore(database)

    async def work() -> list[object]:
        asks = [an_ask(f"key-{number}") for number in range(30)]
        return list(await asyncio.gather(*(store.arun(partial(store.verbs.claim, ask)) for ask in asks)))

    with ThreadPoolExecutor(3) as threads:
        answers = list(threads.map(lambda _: asyncio.run(work()), range(3)))
    verdicts = [verdict for answer in answers for verdict in answer]
    assert sum(isinstance(verdict, Claimed) for verdict in verdicts) == 30
    assert sum(isinstance(verdict, InFlight) for verdict in verdicts) == 60
    store.close()


def test_connections_of_a_loop_that_is_over_are_closed_with_the_next(database: str, sight: Sight) -> None:
    """A program that runs one loop after the other collects none, though it closes nothing itself."""
    store = PostgresStore(database)

    async def work() -> None:
        await asyncio.gather(*(store.arun(one_statement("SELECT pg_sleep(0.01)")) for _ in range(8)))

    for _ in range(4):
        asyncio.run(work())
    until(lambda: int(str((sight.execute(OTHERS).fetchone() or (0,))[0])) <= 8 + 1)
    store.close()
    until(lambda: sight.execute(OTHERS).fetchone() == (0,))


def test_a_loop_closes_its_connections_and_can_make_others(database: str, sight: Sight) -> None:
    store = PostgresStore(database)

    async def work() -> None:
        for _ in range(2):
            assert await store.aquery(one_statement("SELECT 1")) == [(1,)]
            await store.aclose()
            until(lambda: sight.execute(OTHERS).fetchone() == (0,))

    asyncio.run(work())


def test_threads_and_loops_together(store: PostgresStore) -> None:
    async def work() -> object:
        claim = await asyncio.to_thread(claimed, store)
        verdict = await store.arun(partial(store.verbs.claim, an_ask()))
        await store.aclose()
        assert isinstance(verdict, InFlight)
        return claim.operation_id == verdict.checkpoint.operation_id

    assert asyncio.run(work())


def test_a_cancelled_caller_leaves_its_write_running_to_its_end(store: PostgresStore, database: str) -> None:
    """C7: what was submitted may be durable."""
    claim = claimed(store)

    async def work() -> None:
        with locked(database, claim):
            parking = asyncio.ensure_future(store.arun(partial(store.verbs.park, claim, "nobody knows")))
            waiting = one_statement(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
            )
            await asyncio.to_thread(until, lambda: store.query(waiting) != [(0,)])
            parking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await parking
            gc.collect()
        await asyncio.to_thread(until, lambda: read(store, claim).state is State.PARKED)
        await store.aclose()

    asyncio.run(work())


def test_a_cancelled_reader_spoils_nothing(store: PostgresStore) -> None:
    """C7: its connection is not given to the next in the middle of an answer."""

    async def work() -> None:
        for _ in range(5):
            reading = asyncio.ensure_future(store.aquery(one_statement("SELECT 1 FROM pg_sleep(60)")))
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
    store = PostgresStore(database)
    begun = asyncio.Event()

    def slow() -> Program[None]:
        yield from store.verbs.claim(an_ask())
        begun.set()
        yield Statement("SELECT pg_sleep(60)")

    async def work() -> None:
        writing = asyncio.ensure_future(store.arun(slow))
        await begun.wait()
        assert not writing.done()

    asyncio.run(work())
    store.close()
    until(lambda: sight.execute(OTHERS).fetchone() == (0,))
    assert store.query(partial(store.verbs.read, an_ask().identity.digest)) is None
    store.close()
