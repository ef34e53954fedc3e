"""The stores alone: how many pairs of one claim and one record a process makes in a second, and what a pair costs.

SQLite is measured twice, with the same code: as it is, one commit for whatever is queued, and with groups of at most
one, which is one commit for each write. Stores alternate within a round; every slice begins with a store that is empty.
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import uvloop

from bench.asks import DAY, make_asks, record_bytes
from bench.plan import TASKS, Plan
from retrysafe.protocol.model import Ask
from retrysafe.protocol.states import State
from retrysafe.protocol.verdicts import Claimed
from retrysafe.stores.sqlite import writer
from retrysafe.stores.urls import AnyStore, open_store

STORES = ("memory", "sqlite, group commit", "sqlite, commit per write")
_MOST = 20_000
_SAMPLE = 50


class Slice(NamedTuple):
    """What one slice measured."""

    rate: float
    p50_ms: float
    p99_ms: float
    cpu_us: float


@dataclass(slots=True)
class Row:
    """One line of the table: a store and how many tasks use it at once."""

    store: str
    tasks: int
    slices: list[Slice] = field(default_factory=list)
    ratios: list[float] = field(default_factory=list)
    """Its rate by that of one commit per write in the same round, with as many tasks."""

    def summary(self) -> dict[str, Any]:
        """Return medians as plain data."""
        return {
            "store": self.store,
            "tasks": self.tasks,
            "rounds": len(self.slices),
            "pairs_per_second": median(piece.rate for piece in self.slices),
            "ratio": median(self.ratios),
            "p50_ms": median(piece.p50_ms for piece in self.slices),
            "p99_ms": median(piece.p99_ms for piece in self.slices),
            "cpu_us": median(piece.cpu_us for piece in self.slices),
        }


def measure(plan: Plan, directory: Path, tell: Callable[[str], None]) -> list[Row]:
    """Alternate stores; their files lie in ``directory``."""
    rows = {(store, tasks): Row(store, tasks) for store in STORES for tasks in TASKS}
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        asks = runner.run(make_asks(min(plan.most, _MOST)))
        for number in range(plan.pair_rounds):
            tell(f"stores: round {number + 1} of {plan.pair_rounds}")
            for tasks in TASKS:
                seen = {store: runner.run(_slice(store, tasks, asks, plan.pair_seconds, directory)) for store in STORES}
                for store, piece in seen.items():
                    row = rows[store, tasks]
                    row.slices.append(piece)
                    row.ratios.append(piece.rate / seen[STORES[2]].rate)
    return list(rows.values())


async def _slice(store_name: str, tasks: int, asks: Sequence[Ask], seconds: float, directory: Path) -> Slice:
    async with _opened(store_name, directory) as store:
        waits: list[float] = []
        left: Iterator[Ask] = iter(asks)
        outcome = record_bytes()
        stop_at = time.perf_counter() + seconds

        async def work() -> None:
            for ask in left:
                started_at = time.perf_counter()
                await make_pair(store, ask, outcome)
                ended_at = time.perf_counter()
                waits.append(ended_at - started_at)
                if ended_at >= stop_at:
                    return

        gc.collect()
        cpu, started_at = time.process_time(), time.perf_counter()
        await asyncio.gather(*(work() for _ in range(tasks)))
        cpu, taken = time.process_time() - cpu, time.perf_counter() - started_at
        await _check(store, asks[: len(waits)])
    waits.sort()
    return Slice(
        len(waits) / taken,
        1e3 * waits[len(waits) // 2],
        1e3 * waits[len(waits) * 99 // 100],
        1e6 * cpu / len(waits),
    )


async def make_pair(store: AnyStore, ask: Ask, outcome: bytes) -> None:
    """Claim and record."""
    verdict = await store.arun(partial(store.verbs.claim, ask))
    assert isinstance(verdict, Claimed)
    record = partial(store.verbs.record, verdict.claim, outcome, retention_seconds=DAY, tombstone_seconds=30 * DAY)
    await store.arun(record)


async def _check(store: AnyStore, asks: Sequence[Ask]) -> None:
    """Look at some of the pairs: each must be recorded, with its outcome, at its first attempt."""
    for ask in asks[:: max(1, len(asks) // _SAMPLE)]:
        met = await store.aquery(partial(store.verbs.read, ask.identity.digest))
        assert met is not None
        assert met.state is State.DONE
        assert met.outcome == record_bytes()
        assert met.fence == 1


@asynccontextmanager
async def _opened(name: str, directory: Path) -> AsyncIterator[AnyStore]:
    """Open an empty store, and leave nothing of it behind."""
    path = directory / "pairs.db"
    store = open_store("memory://" if name == STORES[0] else f"sqlite:///{path}?synchronous=full")
    with _groups_of_one() if name == STORES[2] else _groups():
        try:
            await store.aopen()
            yield store
        finally:
            await store.aclose()
            for file in path.parent.glob(f"{path.name}*"):
                file.unlink()


@contextmanager
def _groups() -> Iterator[None]:
    yield


@contextmanager
def _groups_of_one() -> Iterator[None]:
    """Let the writer commit after each program; it has no public setting for that, because nobody should want it."""
    usual = writer.LARGEST_GROUP
    writer.LARGEST_GROUP = 1
    try:
        yield
    finally:
        writer.LARGEST_GROUP = usual
