"""Processes that tests start: ``python -m tests.stores.nats.children <what> <url> <bucket> ...``; each prints JSON."""

from __future__ import annotations

import asyncio
import os
import random
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from retrysafe.protocol.effects import Receipt
from retrysafe.protocol.model import Ask, Claim, Limits, Mode
from retrysafe.protocol.verdicts import Claimed, Finished, InFlight, Verdict
from retrysafe.stores.base import Terms, Wanted
from retrysafe.stores.nats import NatsStore
from retrysafe.stores.program import Program
from retrysafe.testing.asks import DAY_SECONDS, an_ask, new_attempt_id
from tests.stores.family import say, wait_for_start


def own_attempt_id() -> str:
    """An attempt id that no other process makes."""
    return f"{os.getpid():08x}{new_attempt_id()[8:]}"


def _own_asks(keys: str) -> list[Ask]:
    asks = [an_ask(f"key-{number}", attempt_id=own_attempt_id()) for number in range(int(keys))]
    random.Random(os.getpid()).shuffle(asks)
    return asks


def _recording(store: NatsStore, claim: Claim) -> Program[Receipt]:
    outcome = claim.operation_id.encode()
    return store.verbs.record(claim, outcome, retention_seconds=DAY_SECONDS, tombstone_seconds=30 * DAY_SECONDS)


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


def race_on_a_loop(url: str, bucket: str, keys: str) -> None:
    """Claim all keys in an order of one's own, and record what was won."""
    store = NatsStore([url], bucket=bucket)

    async def one(ask: Ask) -> tuple[str, str]:
        verdict = await store.arun(partial(store.verbs.claim, ask))
        if isinstance(verdict, Claimed):
            await store.arun(partial(_recording, store, verdict.claim))
        return _met(verdict)

    async def everything(asks: list[Ask]) -> list[tuple[str, str]]:
        met = await asyncio.gather(*map(one, asks))
        await store.aclose()
        return met

    wait_for_start()
    say(asyncio.run(everything(_own_asks(keys))))


def race_in_threads(url: str, bucket: str, keys: str) -> None:
    """The same in threads."""
    store = NatsStore([url], bucket=bucket)

    def one(ask: Ask) -> tuple[str, str]:
        verdict = store.run(partial(store.verbs.claim, ask))
        if isinstance(verdict, Claimed):
            store.run(partial(_recording, store, verdict.claim))
        return _met(verdict)

    wait_for_start()
    with ThreadPoolExecutor(12) as threads:
        met = list(threads.map(one, _own_asks(keys)))
    store.close()
    say(met)


def open_at_once(url: str, bucket: str) -> None:
    """Make the bucket, together with others."""
    store = NatsStore([url], bucket=bucket)
    wait_for_start()
    say(store.open().pepper.hex())
    store.close()


def scan(url: str, bucket: str) -> None:
    """Take over every abandoned operation that is hinted at, together with others."""
    store = NatsStore([url], bucket=bucket)
    store.open()
    wait_for_start()
    hinted: list[str] = []
    taken: list[str] = []
    wanted = Wanted("tests", frozenset(Mode))
    for _ in range(20):
        for seen in store.run(partial(store.verbs.dispatch, wanted, 7)):
            hinted.append(seen.operation_id)
            terms = Terms(own_attempt_id(), Limits(9), 900, 0)
            if isinstance(store.run(partial(store.verbs.reclaim, seen, terms)), Claimed):
                taken.append(seen.operation_id)
    store.close()
    say([hinted, taken])


def work_until_killed(url: str, bucket: str) -> None:
    """Claim and record, and say what was acknowledged; every fifth is left open."""
    store = NatsStore([url], bucket=bucket)
    for number in range(1_000_000):
        verdict = store.run(partial(store.verbs.claim, an_ask(f"key-{number}", mode=Mode.AGAIN, lease_seconds=2)))
        assert isinstance(verdict, Claimed)
        if number % 5:
            store.run(partial(_recording, store, verdict.claim))
        say(number)


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
