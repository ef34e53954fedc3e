"""Brokers that are down, die and freeze: nobody waits for them, and everybody comes back without help (R1, R2)."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from retrysafe.runtime.queues.base import QueueUnavailable
from tests.queues.brokers import Broker
from tests.queues.workers import PATIENCE_SECONDS, Worker, put_all, some_hints, until, working
from tests.services.service import Service

# A client that loses its server leaves sockets and half-done coroutines to the garbage collector, which complains.
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning"),
    pytest.mark.timeout(300),
]

# Two seconds by contract; the rest is for a machine that is busy with other things.
SOON_SECONDS = 20.0


async def is_refused(putting: Coroutine[Any, Any, int]) -> None:
    async with asyncio.timeout(SOON_SECONDS):
        with pytest.raises(QueueUnavailable):
            await putting


# Kafka's client may leave a producer of a dead connection to the garbage collector, which complains about it.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_worker_outlives_its_broker(mortal: tuple[Broker, Service]) -> None:
    """R2: it starts without one, goes on after kill -9, and takes what comes later; sending fails soon meanwhile."""
    broker, service = mortal

    async def scene() -> None:
        service.kill()
        async with working(broker.queue("shop")) as worker:
            # RabbitMQ (3.10) may leave a quorum queue without a leader when it is killed right after it was made.
            for _ in range(1 if service.url.startswith("amqp") else 2):
                await until(lambda: not worker.queue.healthy["connected"])
                await is_refused(worker.queue.put(some_hints(1)))
                await until(lambda: bool(worker.queue.healthy["last_error"]))
                await asyncio.to_thread(service.start)
                hints = some_hints(5)
                await put_all(worker.queue, hints)
                await worker.has_taken(hints)
                await asyncio.to_thread(service.kill)

    asyncio.run(scene())


def test_a_frozen_broker_keeps_nobody_waiting(mortal: tuple[Broker, Service]) -> None:
    """R2: it answers nothing, not even an error; once it goes on, so do hints."""
    broker, service = mortal

    async def scene() -> None:
        async with working(broker.queue("shop")) as worker:
            hints = some_hints(3)
            await put_all(worker.queue, hints)
            await worker.has_taken(hints)
            service.freeze()
            await is_refused(worker.queue.put(some_hints(1)))
            await until(lambda: not worker.queue.healthy["connected"])
            service.thaw()
            hints = some_hints(3)
            await put_all(worker.queue, hints)
            await worker.has_taken(hints)

    asyncio.run(scene())


def test_stopping_does_not_wait_for_a_broker_that_answers_nothing(mortal: tuple[Broker, Service]) -> None:
    broker, service = mortal

    async def scene() -> None:
        queue = broker.queue("shop")
        worker = Worker(queue)
        await queue.start()
        running = asyncio.create_task(queue.run(worker.take))
        hints = some_hints(1)
        await put_all(queue, hints)
        await worker.has_taken(hints)
        service.freeze()
        async with asyncio.timeout(PATIENCE_SECONDS):
            await queue.stop()
            await running

    asyncio.run(scene())
