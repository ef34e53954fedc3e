"""What a checkpoint takes in each store: while its operation is open, with its outcome, and as a tombstone.

A store is filled by its own verbs and asked for its size, before and after. For tables that is what the database keeps
on disk, indexes included. Each write leaves room that later rows use again, so the same is also given for tables that
were written anew.
"""

from __future__ import annotations

import gc
import tracemalloc
from typing import Any

from bench.asks import body_of, headers_of, record_bytes
from bench.charge import PATH
from bench.filling import fill
from bench.run import Run
from bench.sizes import Sizes, sizes_of
from bench.stores import MEMORY, Kind, opened
from retrysafe.protocol.encoding import encode_request
from retrysafe.protocol.model import StoredRequest
from retrysafe.protocol.states import State
from retrysafe.stores.urls import open_store

_STATES = (State.RUNNING, State.DONE, State.EXPIRED)


def measure(run: Run) -> list[dict[str, Any]]:
    """Fill each store three times."""
    rows: list[dict[str, Any]] = []
    for kind in run.stores.one_of_each():
        for state in _STATES if kind is MEMORY or sizes_of(kind) else ():
            run.tell(f"memory: {kind.base}, {state}")
            rows.append({"store": kind.base, "state": str(state), **_row(run, kind, state)})
    return rows


def _row(run: Run, kind: Kind, state: State) -> dict[str, Any]:
    count, request, sizes = run.plan.filled, _stored_request(), sizes_of(kind)
    if kind is MEMORY or sizes is None:
        taken, rewritten, seconds = _traced(state, count, request)
    else:
        taken, rewritten, seconds = _filled(run.stores.place(kind), sizes, state, count, request)
    return {
        "checkpoints": count,
        "bytes": taken / count,
        "rewritten_bytes": None if rewritten is None else rewritten / count,
        "kept_bytes": {State.RUNNING: len(request), State.DONE: len(record_bytes())}.get(state, 0),
        "purged_per_second": count / seconds if seconds else None,
    }


def _stored_request() -> bytes:
    """Return what an open checkpoint keeps for a re-run."""
    body = body_of(1)
    kept = tuple((name, value) for name, value in headers_of(1, body) if name in {b"content-type", b"accept"})
    return encode_request(StoredRequest("POST", PATH.encode(), kept, body, f"POST {PATH}"))


def _filled(url: str, sizes: Sizes, state: State, count: int, request: bytes) -> tuple[int, int | None, float]:
    """Return by how much a store grew; by how much once it is rewritten; and the seconds of a purge."""
    opened(url).close()
    before = sizes.of(url)
    seconds = fill(open_store(url), state, count, request)
    taken = sizes.of(url) - before
    if sizes.rewrite is None:
        return taken, None, seconds
    sizes.rewrite(url)
    return taken, sizes.of(url) - before, seconds


def _traced(state: State, count: int, request: bytes) -> tuple[int, None, float]:
    """Return what Python allocates for so many checkpoints in this process, and keeps; and the seconds of a purge."""
    store = opened("memory://")
    fill(store, State.DONE, 1, request)
    gc.collect()
    tracemalloc.start()
    try:
        seconds = fill(store, state, count, request)
        gc.collect()
        return tracemalloc.get_traced_memory()[0], None, seconds
    finally:
        tracemalloc.stop()
