"""The stores alone: how many pairs of one claim and one record a process makes in a second, and what a pair costs.

Stores alternate within a round. Each keeps what it was given, but every slice has keys of its own.
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial
from statistics import median
from typing import Any, NamedTuple

import uvloop

from bench.asks import DAY, anew, make_asks, record_bytes
from bench.run import Run
from retrysafe.protocol.model import Ask
from retrysafe.protocol.states import State
from retrysafe.protocol.verdicts import Claimed
from retrysafe.stores.urls import AnyStore, open_store

TASKS = (1, 16, 64, 256)
_MOST = 20_000
_WARM_UP = 1_000
_SAMPLE = 50


class Slice(NamedTuple):
    """What one slice measured.

    Attributes:
        rate: pairs a second.
        p50_ms: half of the pairs took longer.
        p99_ms: one in a hundred took longer.
        cpu_us: processor time of the process that uses the store, for each pair.
        claim_p99_ms: one claim in a hundred took longer.
    """

    rate: float
    p50_ms: float
    p99_ms: float
    cpu_us: float
    claim_p99_ms: float


@dataclass(slots=True)
class Row:
    """One line of the table: a store and how many tasks use it at once."""

    store: str
    tasks: int
    slices: list[Slice] = field(default_factory=list)

    def summary(self) -> dict[str, Any]:
        """Return medians as plain data."""
        return {"store": self.store, "tasks": self.tasks, **summary(self.slices)}


def summary(slices: Sequence[Slice]) -> dict[str, Any]:
    """Return the medians of some slices as plain data."""
    return {
        "rounds": len(slices),
        "pairs_per_second": median(piece.rate for piece in slices),
        "p50_ms": median(piece.p50_ms for piece in slices),
        "p99_ms": median(piece.p99_ms for piece in slices),
        "claim_p99_ms": median(piece.claim_p99_ms for piece in slices),
        "cpu_us": median(piece.cpu_us for piece in slices),
    }


def measure(run: Run) -> list[dict[str, Any]]:
    """Alternate stores."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_measure(run))


async def _measure(run: Run) -> list[dict[str, Any]]:
    kinds = run.stores.wanted
    rows = {(kind.name, tasks): Row(kind.name, tasks) for kind in kinds for tasks in TASKS}
    asks = await make_asks(min(run.plan.most, _MOST))
    async with AsyncExitStack() as stack:
        stores: dict[str, AnyStore] = {}
        for kind in kinds:
            stores[kind.name] = store = open_store(run.stores.place(kind))
            stack.push_async_callback(store.aclose)
            await store.aopen()
            # Connections are made when they are needed, and statements prepared.
            await make_pairs(store, TASKS[-1], anew(asks[:_WARM_UP]), run.plan.pair_seconds)
        for number in range(run.plan.pair_rounds):
            run.tell(f"stores: round {number + 1} of {run.plan.pair_rounds}")
            for tasks in TASKS:
                for name, store in stores.items():
                    rows[name, tasks].slices.append(await make_pairs(store, tasks, anew(asks), run.plan.pair_seconds))
    return [row.summary() for row in rows.values()]


async def make_pairs(store: AnyStore, tasks: int, asks: Sequence[Ask], seconds: float) -> Slice:
    """Make pairs from so many tasks, until the time is over or every ask was made; check some of them."""
    waits: list[float] = []
    claims: list[float] = []
    left: Iterator[Ask] = iter(asks)
    outcome = record_bytes()
    stop_at = 0.0

    async def work() -> None:
        for ask in left:
            started_at = time.perf_counter()
            claims.append(await make_pair(store, ask, outcome) - started_at)
            ended_at = time.perf_counter()
            waits.append(ended_at - started_at)
            if ended_at >= stop_at:
                return

    gc.collect()
    cpu, started_at = time.process_time(), time.perf_counter()
    stop_at = started_at + seconds
    await asyncio.gather(*(work() for _ in range(tasks)))
    cpu, taken = time.process_time() - cpu, time.perf_counter() - started_at
    await _check(store, asks[: len(waits)])
    waits.sort()
    claims.sort()
    return Slice(
        len(waits) / taken,
        1e3 * waits[len(waits) // 2],
        1e3 * waits[len(waits) * 99 // 100],
        1e6 * cpu / len(waits),
        1e3 * claims[len(claims) * 99 // 100],
    )


async def make_pair(store: AnyStore, ask: Ask, outcome: bytes) -> float:
    """Claim and record; return the moment between the two."""
    verdict = await store.arun(partial(store.verbs.claim, ask))
    claimed_at = time.perf_counter()
    assert isinstance(verdict, Claimed)
    record = partial(store.verbs.record, verdict.claim, outcome, retention_seconds=DAY, tombstone_seconds=30 * DAY)
    await store.arun(record)
    return claimed_at


async def _check(store: AnyStore, asks: Sequence[Ask]) -> None:
    """Look at some of the pairs: each must be recorded, with its outcome, at its first attempt."""
    for ask in asks[:: max(1, len(asks) // _SAMPLE)]:
        met = await store.aquery(partial(store.verbs.read, ask.identity.digest))
        assert met is not None
        assert met.state is State.DONE
        assert met.outcome == record_bytes()
        assert met.fence == 1
