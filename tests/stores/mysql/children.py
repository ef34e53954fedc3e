"""Processes that tests start: ``python -m tests.stores.mysql.children <what> <url> ...``; each prints JSON."""

from __future__ import annotations

import asyncio
import os
import random
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from threading import Event, Thread

from retrysafe.protocol.model import Ask, Limits, Mode
from retrysafe.protocol.verdicts import Claimed, Finished, InFlight, Verdict
from retrysafe.stores.base import Terms, Wanted
from retrysafe.stores.mysql import from_url
from retrysafe.stores.program import Program, Statement
from retrysafe.testing.asks import an_ask, new_attempt_id
from tests.stores.family import say, wait_for_start
from tests.stores.mysql.tools import claimed, recording


def own_attempt_id() -> str:
    """An attempt id that no other process makes."""
    return f"{os.getpid():08x}{new_attempt_id()[8:]}"


def _own_asks(keys: str) -> list[Ask]:
    asks = [an_ask(f"key-{number}", attempt_id=own_attempt_id()) for number in range(int(keys))]
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
    """Claim all keys in an order of one's own, and record what was won."""
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
    """Make the tables, together with others."""
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


def work_until_killed(url: str) -> None:
    """Claim and record, and say what was acknowledged."""
    store = from_url(url)
    for number in range(1_000_000):
        store.run(recording(store, claimed(store, an_ask(f"key-{number}")), str(number).encode()))
        say(number)


def fork_inside_a_transaction(url: str) -> None:
    """Fork while a thread has a claim's row locked; then both processes wait to be killed."""
    # The server must not end the session for being idle, but for its process being dead.
    store = from_url(f"{url}?timeout=1h")
    claim = claimed(store)
    locked = Event()

    def program() -> Program[None]:
        lock = "SELECT 1 FROM retrysafe_checkpoint WHERE operation_id = ? FOR UPDATE"
        yield Statement(lock, (claim.operation_id,))
        locked.set()
        Event().wait()

    Thread(target=store.run, args=[program], daemon=True).start()
    locked.wait()
    child = os.fork()
    if child == 0:
        # Without the pipe of its parent, so that the test hears of the parent's death.
        os.close(1)
        Event().wait()
    say(child)
    Event().wait()


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
