"""The brokers that hint queues are tested with, and how others would write to them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from retrysafe.runtime.queues.base import HintQueue, queue_name
from retrysafe.runtime.queues.carrier import Carrier
from retrysafe.runtime.queues.kafka import KafkaLine, servers_of
from retrysafe.runtime.queues.line import Line
from retrysafe.runtime.queues.memory import Memory, MemoryLine
from retrysafe.runtime.queues.nats import NatsLine
from retrysafe.runtime.queues.rabbit import RabbitLine
from retrysafe.runtime.queues.redis import RedisLine

BROKERS = ("redis", "nats", "rabbitmq", "kafka")
NOT_TEXT = b"\xff\xfe\x00"


class Broker(NamedTuple):
    """A broker that runs, or the memory of this process."""

    kind: str
    url: str
    memory: dict[str, Memory]

    def queue(self, namespace: str, *, parallel: int = 16) -> HintQueue:
        """Make one process's queue; what its death leaves behind goes to others after a second, not after a minute."""
        return Carrier(self._line(namespace, parallel), parallel=parallel)

    def _line(self, namespace: str, parallel: int) -> Callable[[], Line]:
        match self.kind:
            case "redis":
                return partial(RedisLine, self.url, namespace=namespace, idle_seconds=1)
            case "nats":
                return partial(NatsLine, self.url, namespace=namespace, ack_wait_seconds=1)
            case "rabbitmq":
                return partial(RabbitLine, self.url, namespace=namespace, parallel=parallel)
            case "kafka":
                return partial(KafkaLine, servers_of(self.url), namespace=namespace)
            case _:
                return partial(MemoryLine, self.memory.setdefault(namespace, Memory()))

    async def put_foreign(self, namespace: str, body: bytes) -> None:
        """Write what is no hint, as a stranger would, with a header that is no text where the broker allows one."""
        name = queue_name(namespace)
        match self.kind:
            case "redis":
                await _to_redis(self.url, name, body)
            case "nats":
                await _to_nats(self.url, name, body)
            case "rabbitmq":
                await _to_rabbitmq(self.url, name, body)
            case "kafka":
                await _to_kafka(self.url, name, body)
            case _:
                self.memory[namespace].keep(body)


async def _to_redis(url: str, name: str, body: bytes) -> None:
    from redis.asyncio import Redis

    async with Redis.from_url(url) as client:
        await client.xadd(name, {"__data__": body})
        await client.xadd(name, {NOT_TEXT: NOT_TEXT})


async def _to_nats(url: str, name: str, body: bytes) -> None:
    import nats

    client = await nats.connect(url)
    await client.jetstream().publish(name, body, headers={"content-type": "image/png"})
    await client.close()


async def _to_rabbitmq(url: str, name: str, body: bytes) -> None:
    from aio_pika import Message, connect

    async with await connect(url) as connection:
        channel = await connection.channel()
        message = Message(body, headers={"odd": [1, {"no": None}]}, content_type="image/png", reply_to="nobody")
        await channel.default_exchange.publish(message, name)


async def _to_kafka(url: str, name: str, body: bytes) -> None:
    from aiokafka import AIOKafkaProducer

    async with AIOKafkaProducer(bootstrap_servers=servers_of(url)) as producer:
        await producer.send_and_wait(name, body, headers=[("odd", NOT_TEXT)])
        await producer.send_and_wait(name, None, key=NOT_TEXT)
