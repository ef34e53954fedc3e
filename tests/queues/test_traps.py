"""What each broker or its client does that would lose hints for good, if nobody had thought of it (R2)."""

from __future__ import annotations

import asyncio
from functools import partial
from uuid import uuid4

import pytest

from retrysafe.runtime.queues.base import queue_name
from retrysafe.runtime.queues.carrier import Carrier
from retrysafe.runtime.queues.redis import RedisLine
from tests.queues.brokers import Broker
from tests.queues.workers import put_all, sending, some_hints, until, working

only = partial(pytest.mark.parametrize, "broker", indirect=True)


@only(["redis"])
def test_redis_a_group_that_vanished_is_made_anew(broker: Broker, namespace: str) -> None:
    """A restart without append-only file; FastStream alone would end its subscriber, and the application."""
    from redis.asyncio import Redis

    async def scene() -> None:
        async with working(broker.queue(namespace)) as worker, Redis.from_url(broker.url) as client:
            for _ in range(2):
                hints = some_hints(4)
                await put_all(worker.queue, hints)
                await worker.has_taken(hints)
                await client.delete(queue_name(namespace))

    asyncio.run(scene())


@only(["redis"])
def test_redis_what_a_dead_worker_had_read_is_claimed_by_others(broker: Broker, namespace: str) -> None:
    from redis.asyncio import Redis

    async def scene() -> None:
        hints = some_hints(3)
        name = queue_name(namespace)
        async with sending(broker.queue(namespace)) as queue, Redis.from_url(broker.url) as client:
            await put_all(queue, hints)
            read = await client.xreadgroup("workers", "somebody who died", {name: ">"}, count=10)
            assert read
            async with working(broker.queue(namespace)) as worker:
                await worker.has_taken(hints)
                await until(lambda: _nothing_is_pending(client, name))

    async def _nothing_is_pending(client: Redis, name: str) -> bool:
        return bool((await client.xpending(name, "workers"))["pending"] == 0)

    asyncio.run(scene())


@only(["redis"])
def test_redis_the_stream_does_not_grow_for_ever(
    broker: Broker, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from redis.asyncio import Redis

    monkeypatch.setattr("retrysafe.runtime.queues.redis._MOST", 100)

    async def scene() -> None:
        async with sending(broker.queue(namespace)) as queue, Redis.from_url(broker.url) as client:
            for _ in range(8):
                await put_all(queue, some_hints(50))
            # Trimming is approximate: whole nodes of a hundred.
            assert await client.xlen(queue_name(namespace)) <= 200

    asyncio.run(scene())


@only(["redis"])
def test_redis_workers_leave_no_names_behind(broker: Broker, namespace: str) -> None:
    from redis.asyncio import Redis

    async def scene() -> None:
        async with Redis.from_url(broker.url) as client:
            for _ in range(3):
                hints = some_hints(1)
                async with working(broker.queue(namespace)) as worker:
                    await put_all(worker.queue, hints)
                    await worker.has_taken(hints)
            assert len(await client.xinfo_consumers(queue_name(namespace), "workers")) == 1

    asyncio.run(scene())


@only(["nats"])
def test_nats_the_same_hint_sent_twice_at_once_arrives_once(broker: Broker, namespace: str) -> None:
    async def scene() -> None:
        [hint], last = some_hints(1), some_hints(1)
        async with working(broker.queue(namespace)) as worker:
            await put_all(worker.queue, [hint, hint])
            await put_all(worker.queue, last)
            await worker.has_taken([hint, *last])
            assert worker.taken[hint.operation_id] == 1

    asyncio.run(scene())


@only(["nats"])
def test_nats_a_hint_that_is_sent_again_later_arrives_again(broker: Broker, namespace: str) -> None:
    """R2: a scan that sends it again saw that nobody came."""

    async def scene() -> None:
        [hint] = hints = some_hints(1)

        async def came_again() -> bool:
            await put_all(worker.queue, hints)
            return worker.taken[hint.operation_id] >= 2

        async with working(broker.queue(namespace)) as worker:
            await put_all(worker.queue, hints)
            await worker.has_taken(hints)
            await until(came_again)

    asyncio.run(scene())


@only(["nats"])
def test_nats_the_stream_is_a_work_queue_without_a_limit_of_deliveries(broker: Broker, namespace: str) -> None:
    """A message that reached `max_deliver` would stay where nobody sees it."""
    import nats

    async def scene() -> None:
        hints = some_hints(1)
        async with working(broker.queue(namespace)) as worker:
            await put_all(worker.queue, hints)
            await worker.has_taken(hints)
            client = await nats.connect(broker.url)
            name = queue_name(namespace).replace(".", "-")
            stream = await client.jetstream().stream_info(name)
            consumer = await client.jetstream().consumer_info(name, f"{name}-workers")
            await client.close()
            assert stream.config.retention == "workqueue"
            assert stream.config.max_age == 3600
            assert stream.config.max_msgs == 10_000
            assert consumer.config.max_deliver == -1
            assert consumer.config.durable_name == f"{name}-workers"

    asyncio.run(scene())


@only(["nats"])
def test_nats_a_stream_that_vanished_is_made_anew(broker: Broker, namespace: str) -> None:
    import nats

    async def scene() -> None:
        async with working(broker.queue(namespace)) as worker:
            client = await nats.connect(broker.url)
            for _ in range(2):
                hints = some_hints(4)
                await put_all(worker.queue, hints)
                await worker.has_taken(hints)
                await client.jetstream().delete_stream(queue_name(namespace).replace(".", "-"))
            await client.close()

    asyncio.run(scene())


@only(["rabbitmq"])
def test_rabbitmq_a_queue_that_vanished_is_made_anew_and_consumed_again(broker: Broker, namespace: str) -> None:
    """The connection is well, and the consumer is gone: what a failover leaves behind (FastStream 2758)."""
    from aio_pika import connect

    async def scene() -> None:
        async with working(broker.queue(namespace)) as worker, await connect(broker.url) as connection:
            for _ in range(2):
                hints = some_hints(4)
                await put_all(worker.queue, hints)
                await worker.has_taken(hints)
                await (await connection.channel()).queue_delete(queue_name(namespace))

    asyncio.run(scene())


@only(["kafka"])
def test_kafka_the_topic_has_partitions_to_share(broker: Broker, namespace: str) -> None:
    from aiokafka.admin import AIOKafkaAdminClient

    from retrysafe.runtime.queues.kafka import servers_of

    async def scene() -> None:
        async with sending(broker.queue(namespace)) as queue:
            await put_all(queue, some_hints(1))
            admin = AIOKafkaAdminClient(bootstrap_servers=servers_of(broker.url))
            await admin.start()
            [topic] = await admin.describe_topics([queue_name(namespace)])
            await admin.close()
            assert len(topic["partitions"]) == 8

    asyncio.run(scene())


@only(["redis"])
def test_a_password_is_not_told_when_a_broker_refuses_it(broker: Broker) -> None:
    """K8."""

    async def scene() -> None:
        address = broker.url.partition("://")[2]
        queue = Carrier(partial(RedisLine, f"redis://shop:hunter2@{address}", namespace=uuid4().hex))
        async with sending(queue):
            await until(lambda: queue.healthy["last_error"] is not None)
            assert "hunter2" not in str(queue.healthy)

    asyncio.run(scene())
