"""Ending a transaction on an event loop: to its end, also when whoever waits for it is cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

_ENDING: set[asyncio.Future[Any]] = set()
"""What is under way; a loop alone would forget it."""


async def to_the_end(work: Coroutine[Any, Any, T]) -> T:
    """Await ``work``; a caller that is cancelled leaves it running (C7).

    Half a commit would leave a connection that nobody gives back, with rows locked against the successor.
    """
    ending = asyncio.ensure_future(work)
    _ENDING.add(ending)
    ending.add_done_callback(_forget)
    return await asyncio.shield(ending)


def _forget(ended: asyncio.Future[Any]) -> None:
    _ENDING.discard(ended)
    if not ended.cancelled():
        # Of a caller that was cancelled nobody asks any more; the state tells (D4).
        ended.exception()
