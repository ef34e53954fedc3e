"""Telling whoever waits that an operation has its outcome (S9): by a subscription to its document's subject.

What is published to a bucket goes to plain subscribers as well, at the moment at which the stream gets it. So a look at
the document follows before anybody is woken.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress

from retrysafe.errors import StoreError
from retrysafe.stores.nats.bucket import FACTS, Bucket
from retrysafe.stores.nats.headers import seen_in, seen_in_line
from retrysafe.stores.nats.wire import Wire
from retrysafe.stores.nats.wires import Wires

_MOST_LOOKS = 10


@contextmanager
def watching(wires: Wires, bucket: Bucket, digest: bytes, wake: Callable[[], None]) -> Generator[None]:
    """Have ``wake`` called when an operation has its outcome; see :class:`~retrysafe.stores.base.Notifier`."""
    watch = wires.portal.start(_watch(wires, bucket.subject("op", digest.hex()), bucket, wake))
    try:
        yield
    finally:
        watch.cancel()


async def _watch(wires: Wires, subject: str, bucket: Bucket, wake: Callable[[], None]) -> None:
    with suppress(StoreError):
        wire = await wires.wire()
        async with wire.listening(subject) as messages:
            while (message := await messages.get()) is not None:
                seen = seen_in(message.headers or {})
                if seen is not None and seen.facts.open_at is None and await _is_stored(wire, bucket, subject):
                    wake()


async def _is_stored(wire: Wire, bucket: Bucket, subject: str) -> bool:
    for _ in range(_MOST_LOOKS):
        stored = await bucket.get(wire, subject)
        seen = None if stored is None else seen_in_line(stored.header(FACTS))
        if seen is None or seen.facts.open_at is None:
            return True
        # A cluster takes a moment to agree on it, and a write may be refused.
        await asyncio.sleep(0.005)
    return False
