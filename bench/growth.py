"""How a store fares as its table grows, and what a purge beside costs those who claim.

At each size the same slices: pairs from 64 tasks, alternately with nothing beside and with retention at work in a
thread of the same process, as the guard has it.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import uvloop

from bench.asks import anew, make_asks
from bench.bulk import add_rows
from bench.pairs import Slice, make_pairs, summary
from bench.run import Run
from bench.sizes import Sizes, sizes_of
from bench.stores import SQLITE, Kind
from retrysafe import SHARED, RetrySafe
from retrysafe.protocol.model import Ask
from retrysafe.runtime.engine import Engine
from retrysafe.runtime.events import Event, Purged
from retrysafe.runtime.retention import Retention
from retrysafe.stores.urls import AnyStore, open_store

_SIZES = (0, 100_000, 1_000_000, 10_000_000)
_TASKS = 64
_FEWEST, _MOST, _PART = 2_000, 50_000, 50
"""Pairs in a slice, and of how many rows there is one of them."""
_DUE_SHARE = 5
"""Of one row in five the retention is over."""
_SCAN_SECONDS = 1.0


@dataclass(slots=True)
class _Size:
    """What was measured at one size."""

    plain: list[Slice] = field(default_factory=list)
    purging: list[Slice] = field(default_factory=list)
    purged: list[int] = field(default_factory=list)


def measure(run: Run) -> list[dict[str, Any]]:
    """Let one store after the other grow: SQLite, and PostgreSQL over the first driver that there is."""
    rows: list[dict[str, Any]] = []
    for kind in run.stores.one_of_each():
        if kind is SQLITE or kind.server == "postgres":
            rows += _grow(run, kind)
    return rows


def _grow(run: Run, kind: Kind) -> list[dict[str, Any]]:
    url, name = run.stores.place(kind), kind.name
    asks = asyncio.run(make_asks(min(run.plan.most, _MOST)))
    rows: list[dict[str, Any]] = []
    there = 0
    sizes = sizes_of(kind)
    assert sizes is not None
    for size in sorted({min(size, run.plan.rows) for size in _SIZES}):
        if size > there:
            add = size - there
            add_rows(
                url, add, add // _DUE_SHARE, lambda done, size=size: run.tell(f"growth: {name}, {size:,}, {done:,}")
            )
            there = size
        run.tell(f"growth: {name}, {size:,} rows")
        # Pairs stay in the table, and are not to make another size of it.
        some = asks[: max(_FEWEST, size // _PART)]
        rows.append({"store": name, "rows": size, **_at_size(run, url, some, sizes)})
    return rows


def _at_size(run: Run, url: str, asks: Sequence[Ask], sizes: Sizes) -> dict[str, Any]:
    found, seconds = _Size(), run.plan.growth_seconds
    purged: list[int] = []
    store = open_store(url)
    engine = _engine(store, purged)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        try:
            runner.run(make_pairs(store, _TASKS, anew(asks), seconds))
            for _ in range(run.plan.growth_rounds):
                found.plain.append(runner.run(make_pairs(store, _TASKS, anew(asks), seconds)))
                purged.clear()
                with _purging(engine):
                    found.purging.append(runner.run(make_pairs(store, _TASKS, anew(asks), seconds)))
                found.purged.append(sum(purged))
        finally:
            runner.run(store.aclose())
    ratios = [
        beside.claim_p99_ms / alone.claim_p99_ms for alone, beside in zip(found.plain, found.purging, strict=True)
    ]
    return {
        **summary(found.plain),
        "purging_pairs_per_second": median(piece.rate for piece in found.purging),
        "purging_claim_p99_ms": median(piece.claim_p99_ms for piece in found.purging),
        "purging_claim_p99_ratio": median(ratios),
        "purged_in_a_slice": median(found.purged),
        "megabytes": sizes.of(url) / 1e6,
    }


def _engine(store: AnyStore, purged: list[int]) -> Engine:
    """Return a guard's engine on a store, and note how many rows each of its purges touched."""

    def note(event: Event) -> None:
        if isinstance(event, Purged):
            purged.append(event.expired + event.deleted)

    return RetrySafe(store, principal=SHARED, scan=None, sinks=[note]).engine()


@contextmanager
def _purging(engine: Engine) -> Iterator[None]:
    """Purge in a thread, as much at a time as a guard's own scan does, and as often as it does when there is more."""
    stop = threading.Event()

    def work() -> None:
        while not stop.is_set():
            # A new one does not rest a minute when little was found.
            Retention(engine).work(stop.is_set)
            stop.wait(_SCAN_SECONDS)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
