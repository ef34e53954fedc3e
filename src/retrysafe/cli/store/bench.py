"""How fast a store is, in pairs of a claim and its record; nothing of them is left behind."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import quantiles
from tempfile import TemporaryDirectory, gettempdir
from typing import Literal

from retrysafe.cli.complaints import Complaint
from retrysafe.cli.opening import sqlite_file
from retrysafe.cli.store.pairs import Pairs, in_tasks, in_threads
from retrysafe.cli.store.scratch import writable
from retrysafe.cli.store.sweep import sweep
from retrysafe.errors import RetrySafeError
from retrysafe.stores.base import Capability
from retrysafe.stores.urls import AnyStore

AT_ONCE = (1, 16, 64)
_BLOCK = b"\0" * 8192
_SYNCS = 50


@dataclass(frozen=True, slots=True)
class Slice:
    """One measurement.

    Attributes:
        face: through which face of the store.
        at_once: how many threads or tasks asked at the same time.
        pairs: how many pairs of a claim and a record were made.
        seconds: how long that took.
        pairs_per_second: of all threads or tasks together.
        p50_ms: median time of a pair, in milliseconds.
        p99_ms: the time in which 99 of 100 pairs were made.
        cpu_us: processor time of this process for each pair, in microseconds; the server's comes on top.
    """

    face: Literal["sync", "async"]
    at_once: int
    pairs: int
    seconds: float
    pairs_per_second: float
    p50_ms: float
    p99_ms: float
    cpu_us: float


@dataclass(frozen=True, slots=True)
class Measured:
    """What was measured.

    Attributes:
        durability: what the store says that a write survives; without it no figure can be compared with another.
        slices: the measurements.
        sync_place: a folder of this machine; a SQLite store's own.
        sync_p50_ms: how long 8 KiB take there to survive power loss (``fdatasync``), in milliseconds.
        sync_p99_ms: and in the worst case of a hundred.
    """

    durability: str
    slices: Sequence[Slice]
    sync_place: str
    sync_p50_ms: float
    sync_p99_ms: float


def measured(store_url: str, *, pairs: int, seconds: float, scratch: bool) -> Measured:
    """Measure a store, and purge what was made for that.

    Args:
        store_url: names the store.
        pairs: most pairs in each slice.
        seconds: most time for each slice.
        scratch: whether the store may have been used before; what is in it stays.

    Raises:
        Complaint: the store may not be used, or refused what it should accept.
        StoreUnavailable: the store failed.
    """
    store = writable(store_url, scratch=scratch)
    slices: list[Slice] = []
    try:
        if Capability.SYNC in store.traits.capabilities:
            slices += (_slice("sync", store, at_once, pairs, seconds) for at_once in AT_ONCE)
        if Capability.ASYNC in store.traits.capabilities:
            slices += (_slice("async", store, at_once, pairs, seconds) for at_once in AT_ONCE)
    except BaseException:
        # What went wrong is told, not that nothing could be cleaned up afterwards.
        with suppress(RetrySafeError, Complaint):
            sweep(store)
        raise
    sweep(store)
    file = sqlite_file(store)
    place = Path(file.path).parent if file is not None else Path(gettempdir())
    p50_ms, p99_ms = _sync_latency(place)
    return Measured(store.traits.durability.value, slices, str(place), p50_ms, p99_ms)


def lines(found: Measured) -> Iterator[str]:
    """Write a table for people."""
    yield "face   at once   pairs/s    p50 ms    p99 ms   CPU µs/pair     pairs"
    for each in found.slices:
        times = f"{each.p50_ms:>8.2f}  {each.p99_ms:>8.2f}  {each.cpu_us:>12,.0f}"
        yield f"{each.face:<5}  {each.at_once:>7}  {each.pairs_per_second:>8,.0f}  {times}  {each.pairs:>8,}"
    yield ""
    yield f"durability: {found.durability}"
    sync = f"{found.sync_p50_ms:.2f} ms (p99 {found.sync_p99_ms:.2f} ms)"
    yield f"fsync: in {found.sync_place} 8 KiB survive power loss after {sync}"


def _slice(face: Literal["sync", "async"], store: AnyStore, at_once: int, most: int, seconds: float) -> Slice:
    measure = in_threads if face == "sync" else in_tasks
    made: Pairs = measure(store, at_once, most, seconds)
    waits = sorted(made.waits)
    cuts = quantiles(waits, n=100, method="inclusive") if len(waits) > 1 else waits * 99
    return Slice(
        face=face,
        at_once=at_once,
        pairs=len(waits),
        seconds=made.seconds,
        pairs_per_second=len(waits) / made.seconds,
        p50_ms=1e3 * cuts[49],
        p99_ms=1e3 * cuts[98],
        cpu_us=1e6 * made.cpu_seconds / len(waits),
    )


def _sync_latency(folder: Path) -> tuple[float, float]:
    # Not every system has the one that leaves the file's times alone.
    sync = getattr(os, "fdatasync", os.fsync)
    waits: list[float] = []
    with (
        TemporaryDirectory(dir=folder, prefix=".retrysafe-bench-") as made,
        (Path(made) / "block").open("wb", 0) as file,
    ):
        for _ in range(_SYNCS):
            file.write(_BLOCK)
            begun = time.perf_counter()
            sync(file.fileno())
            waits.append(1e3 * (time.perf_counter() - begun))
    cuts = quantiles(waits, n=100, method="inclusive")
    return cuts[49], cuts[98]
