"""Connections that are kept, without a server: what the pools promise by themselves."""

from __future__ import annotations

import asyncio
import threading
from itertools import count

import pytest

from retrysafe.stores.sql import pool as pools
from retrysafe.stores.sql.pool import AsyncPool, Pool

DAY_SECONDS = 86_400.0


class Connection:
    """One that is told apart by its number, and has no socket."""

    numbers = count(1)

    def __init__(self) -> None:
        self.number = next(self.numbers)
        self.finished = False

    def fileno(self) -> int:
        return -1

    def finish(self) -> None:
        self.finished = True


@pytest.fixture
def days(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How many days pass, one after the other, for the pools."""
    passed: list[float] = []
    monkeypatch.setattr(pools, "monotonic", lambda: sum(passed) * DAY_SECONDS)
    return passed


def test_a_connection_that_is_handed_on_without_a_rest_grows_old_as_well(days: list[float]) -> None:
    """Names of hosts move: under constant load no connection ever rests."""
    pool = Pool(1, 60.0, Connection)
    first = pool.lend()
    got: list[Connection] = []
    for old in (False, True):
        waiting = threading.Thread(target=lambda: got.append(pool.lend()))
        waiting.start()
        while not pool._waiting:
            waiting.join(0.001)
        days.append(1.0 if old else 0.0)
        pool.give_back(first, fit=True)
        waiting.join()
        assert (got[-1] is first) is not old
    assert first.finished


def test_a_loop_s_connection_grows_old_as_well(days: list[float]) -> None:
    """Names of hosts move."""

    async def make() -> Connection:
        return Connection()

    async def work() -> None:
        pool: AsyncPool[Connection] = AsyncPool(1, 60.0, make)
        first = await pool.lend()
        for old in (False, True):
            waiting = asyncio.ensure_future(pool.lend())
            await asyncio.sleep(0)
            days.append(1.0 if old else 0.0)
            pool.give_back(first, fit=True)
            assert (await waiting is first) is not old
        assert first.finished
        await pool.aclose()

    asyncio.run(work())


def test_what_was_closed_while_it_was_lent_can_be_given_back() -> None:
    """Its loop may have ended meanwhile; it is lent to nobody any more."""
    pool = Pool(1, 60.0, Connection)
    lent = pool.lend()
    pool.shelf.close_all()
    pool.give_back(lent, fit=True)
    assert pool.lend() is not lent
