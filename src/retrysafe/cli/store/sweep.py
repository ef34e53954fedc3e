"""Remove what a measurement has made."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Generator
from functools import partial
from typing import Any

from retrysafe.cli.complaints import Complaint
from retrysafe.cli.store.pairs import KEPT_SECONDS, NAME, recording
from retrysafe.protocol.states import LEASED
from retrysafe.stores.base import Capability, Purged, Query, Verbs
from retrysafe.stores.program import Factory
from retrysafe.stores.urls import AnyStore

_AT_ONCE = 500
_PAUSE_SECONDS = 0.2
# A store may look at the same place again only after a minute.
_PATIENCE_SECONDS = 120.0


def sweep(store: AnyStore) -> None:
    """Record what was interrupted, and purge until nothing is left of this measurement or an earlier one.

    A purge drops what is over whoever made it, as every process that serves from the store does (S10).

    Raises:
        Complaint: the store does not purge it.
        StoreUnavailable: the store failed.
    """
    # A purge that comes too early may not look again so soon.
    time.sleep(KEPT_SECONDS + _PAUSE_SECONDS)
    if Capability.SYNC in store.traits.capabilities:
        _drive(store)
    else:
        asyncio.run(_adrive(store))


def _sweeping(verbs: Verbs) -> Generator[Factory[Any], Any, None]:
    """Ask for one program after the other; each is sent its reply."""
    give_up_at = time.monotonic() + _PATIENCE_SECONDS
    while open_ones := (yield partial(verbs.listing, Query(name=NAME, states=LEASED, limit=_AT_ONCE))):
        for seen in open_ones:
            yield partial(recording, verbs, seen.claim(KEPT_SECONDS))
    while (yield partial(verbs.listing, Query(name=NAME, limit=1))):
        if time.monotonic() > give_up_at:
            raise Complaint(f"operations of {NAME!r} are left in the store", facts=["its purge does not drop them"])
        purged: Purged = yield partial(verbs.purge, _AT_ONCE)
        if not purged.more:
            time.sleep(_PAUSE_SECONDS)


def _drive(store: AnyStore) -> None:
    store.open()
    sweeping = _sweeping(store.verbs)
    try:
        program = next(sweeping, None)
        while program is not None:
            program = _next(sweeping, store.run(program))
    finally:
        store.close()


async def _adrive(store: AnyStore) -> None:
    await store.aopen()
    sweeping = _sweeping(store.verbs)
    try:
        program = next(sweeping, None)
        while program is not None:
            program = _next(sweeping, await store.arun(program))
    finally:
        await store.aclose()


def _next(sweeping: Generator[Factory[Any], Any, None], reply: object) -> Factory[Any] | None:
    try:
        return sweeping.send(reply)
    except StopIteration:
        return None
