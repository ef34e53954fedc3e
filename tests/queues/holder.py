"""A worker process that takes hints, says so, and never comes to an end: something to kill."""

from __future__ import annotations

import asyncio
import sys

from retrysafe.runtime.queues.base import Hint
from tests.queues.brokers import Broker


async def hold(kind: str, url: str, namespace: str) -> None:
    queue = Broker(kind, url, {}).queue(namespace, parallel=4)

    async def take(hint: Hint) -> None:
        print("holding", flush=True)
        await asyncio.Event().wait()

    await queue.start()
    await queue.run(take)


if __name__ == "__main__":
    asyncio.run(hold(*sys.argv[1:]))
