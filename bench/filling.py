"""Bringing checkpoints into a store by its own verbs, as many as are wanted, in the state that is wanted."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from functools import partial

from msgspec.structs import replace

from bench.asks import DAY, anew, make_asks, record_bytes
from retrysafe.protocol.model import Ask, Mode
from retrysafe.protocol.states import State
from retrysafe.protocol.verdicts import Claimed
from retrysafe.stores.urls import AnyStore

_TASKS = 64
_BATCH = 500
_MOST_BATCHES = 10_000
# A store may refuse a time that is over already.
_SOON_SECONDS = 0.001


def fill(store: AnyStore, state: State, count: int, request: bytes) -> float:
    """Bring so many checkpoints into an empty store, and close it; return how many seconds their purge took.

    Args:
        store: the store.
        state: ``RUNNING`` is claimed with the request, ``DONE`` is recorded, ``EXPIRED`` is that after retention.
        count: how many.
        request: what each open checkpoint keeps for a re-run.
    """
    return asyncio.run(_fill(store, state, count, request))


async def _fill(store: AnyStore, state: State, count: int, request: bytes) -> float:
    # Each with bytes of its own, as requests have them: a store in memory keeps what it is given.
    asks = [replace(ask, mode=Mode.AGAIN, request=bytes(bytearray(request))) for ask in anew(await make_asks(count))]
    left = iter(asks)
    try:
        await store.aopen()
        await asyncio.gather(*(_work(store, left, state) for _ in range(_TASKS)))
        return await _expire(store, asks) if state is State.EXPIRED else 0.0
    finally:
        await store.aclose()


async def _work(store: AnyStore, left: Iterator[Ask], state: State) -> None:
    retention_seconds = _SOON_SECONDS if state is State.EXPIRED else DAY
    for ask in left:
        verdict = await store.arun(partial(store.verbs.claim, ask))
        assert isinstance(verdict, Claimed)
        if state is not State.RUNNING:
            outcome = bytes(bytearray(record_bytes()))
            record = partial(store.verbs.record, verdict.claim, outcome)
            await store.arun(partial(record, retention_seconds=retention_seconds, tombstone_seconds=30 * DAY))


async def _expire(store: AnyStore, asks: Sequence[Ask]) -> float:
    """Purge until nothing is left to purge, once everything's time is over; return how many seconds that took."""
    await asyncio.sleep(20 * _SOON_SECONDS)
    started_at = time.perf_counter()
    for _ in range(_MOST_BATCHES):
        purged = await store.arun(partial(store.verbs.purge, _BATCH))
        if not purged.more:
            break
    seconds = time.perf_counter() - started_at
    for ask in asks[:: max(1, len(asks) // 20)]:
        met = await store.aquery(partial(store.verbs.read, ask.identity.digest))
        assert met is not None
        assert met.state is State.EXPIRED
    return seconds
