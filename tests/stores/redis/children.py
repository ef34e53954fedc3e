"""Processes that tests start: ``python -m tests.stores.redis.children <what> <url> ...``; each prints JSON."""

from __future__ import annotations

import asyncio
import os
import random
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from retrysafe.protocol.model import Ask, Limits, Mode
from retrysafe.protocol.verdicts import Claimed, Finished, InFlight, Verdict
from retrysafe.stores.base import Terms, Wanted
from retrysafe.stores.redis import from_url
from retrysafe.testing.asks import an_ask, new_attempt_id
from tests.stores.family import say, wait_for_start
from tests.stores.redis.tools import recording


def own_attempt_id() -> str:
    """An attempt id that no other process makes."""
    return f"{os.getpid():08x}{new_attempt_id()[8:]}"


def _own_asks(keys: str) -> list[Ask]:
    """Ask for each key a dozen times, in an order of one's own: fifty callers for each in four processes."""
    asks = [an_ask(f"key-{number}", attempt_id=own_attempt_id()) for number in range(int(keys)) for _ in range(13)]
    random.Random(os.getpid()).shuffle(asks)
    return asks


def _met(verdict: Verdict) -> tuple[str, str]:
    match verdict:
        case Claimed(claim=won):
            return "won", won.operation_id
        case InFlight(checkpoint):
            return "in flight", checkpoint.operation_id
        case Finished(checkpoint):
            assert checkpoint.outcome == checkpoint.operation_id.encode(), "another one's outcome"
            return "finished", checkpoint.operation_id
        case _:
            raise AssertionError(verdict)


def race_on_a_loop(url: str, keys: str) -> None:
    """Claim all keys, and record what was won."""
    store = from_url(url)

    async def one(ask: Ask) -> tuple[str, str]:
        verdict = await store.arun(partial(store.verbs.claim, ask))
        if isinstance(verdict, Claimed):
            await store.arun(recording(store, verdict.claim, verdict.claim.operation_id.encode()))
        return _met(verdict)

    async def everything(asks: list[Ask]) -> list[tuple[str, str]]:
        met = await asyncio.gather(*map(one, asks))
        await store.aclose()
        return met

    wait_for_start()
    say(asyncio.run(everything(_own_asks(keys))))


def race_in_threads(url: str, keys: str) -> None:
    """The same in threads."""
    store = from_url(url)

    def one(ask: Ask) -> tuple[str, str]:
        verdict = store.run(partial(store.verbs.claim, ask))
        if isinstance(verdict, Claimed):
            store.run(recording(store, verdict.claim, verdict.claim.operation_id.encode()))
        return _met(verdict)

    wait_for_start()
    with ThreadPoolExecutor(12) as threads:
        met = list(threads.map(one, _own_asks(keys)))
    store.close()
    say(met)


def open_at_once(url: str) -> None:
    """Make the meta row, together with others."""
    store = from_url(url)
    wait_for_start()
    say(store.open().pepper.hex())
    store.close()


def scan(url: str) -> None:
    """Take over every abandoned operation that is hinted at, together with others."""
    store = from_url(url)
    store.open()
    wait_for_start()
    hinted: list[str] = []
    taken: list[str] = []
    wanted = Wanted("tests", frozenset(Mode))
    while found := store.run(partial(store.verbs.dispatch, wanted, 7)):
        for seen in found:
            hinted.append(seen.operation_id)
            terms = Terms(own_attempt_id(), Limits(9), 900, 0)
            if isinstance(store.run(partial(store.verbs.reclaim, seen, terms)), Claimed):
                taken.append(seen.operation_id)
    store.close()
    say([hinted, taken])


def take_over_what_all_see(url: str) -> None:
    """Take over every abandoned operation, though all others see the same ones."""
    store = from_url(url)
    seen = store.query(partial(store.verbs.abandoned, 1000))
    wait_for_start()
    taken = []
    for met in seen:
        terms = Terms(own_attempt_id(), Limits(9), 900, 0)
        if isinstance(store.run(partial(store.verbs.reclaim, met, terms)), Claimed):
            taken.append(met.operation_id)
    store.close()
    say(taken)


def work_until_the_server_is_gone(url: str) -> None:
    """Claim and record with many tasks at once, and say how many were acknowledged, then which."""
    store = from_url(url)
    acknowledged: list[int] = []

    async def work(first: int) -> None:
        for number in range(first, 1_000_000, 8):
            verdict = await store.arun(partial(store.verbs.claim, an_ask(f"key-{number}")))
            assert isinstance(verdict, Claimed)
            await store.arun(recording(store, verdict.claim, str(number).encode()))
            acknowledged.append(number)
            if len(acknowledged) == 50:
                say("many")

    async def everything() -> None:
        await asyncio.gather(*map(work, range(8)), return_exceptions=True)
        await store.aclose()

    asyncio.run(everything())
    say(acknowledged)


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
