"""RabbitMQ: one durable quorum queue for each namespace.

Traps, and what is done about them:

- A worker that is frozen keeps its messages until the server misses its heartbeats, and a quorum queue of RabbitMQ 4
  drops a message after 20 deliveries. Neither matters, because the scan stays on (R2); so nothing is ever requeued as
  a timer, and ``x-delivery-limit`` is left as the server has it.
- After a failover a consumer may be gone while its connection is well (FastStream issue 2758), or the queue may have
  been deleted. The probe declares the queue again and counts its consumers.
- The client restores a lost connection by itself, with its own idea of what was declared. The line is replaced instead,
  so what runs after a loss is what runs at every start.
- A connection that is given up while it is made goes on trying for ever, and keeps its process from ending, because
  FastStream does not know it yet. The line holds it from the moment it exists.
- The arguments belong to the queue: a server refuses to declare it with others. They never change under this name.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from retrysafe.runtime.queues.base import Hint, encode, queue_name

try:
    from aio_pika import RobustConnection
    from faststream import AckPolicy
    from faststream.rabbit import Channel, QueueType, RabbitBroker, RabbitMessage, RabbitQueue
except ImportError as missing:
    raise ImportError("the RabbitMQ queue needs faststream[rabbit]: pip install 'retrysafe[rabbitmq]'") from missing

if TYPE_CHECKING:
    from faststream.rabbit.schemas.queue import QuorumQueueArgs

# An hour later the scan has said it again; without workers the queue must not grow for ever.
_KEEP_MILLISECONDS = 3_600_000
_MOST = 10_000
_HEARTBEAT_SECONDS = 10
_CONNECT_SECONDS = 5.0
# One look may come between the connection and the consumer.
_LOOKS_WITHOUT_CONSUMER = 3


class RabbitLine:
    """One connection to RabbitMQ; see :class:`~retrysafe.runtime.queues.line.Line`."""

    def __init__(self, url: str, *, namespace: str, parallel: int) -> None:
        """Prepare a connection.

        Args:
            url: ``amqp://user:password@host:5672/vhost`` or ``amqps://``.
            namespace: whose hints.
            parallel: how many messages are asked for at once. Not more than are taken: others shall have the rest.
        """
        self._name = queue_name(namespace)
        limits: QuorumQueueArgs = {"x-message-ttl": _KEEP_MILLISECONDS, "x-max-length": _MOST}
        queue = RabbitQueue(self._name, QueueType.QUORUM, arguments=limits)
        self._broker = RabbitBroker(
            url,
            client_properties={} if "heartbeat=" in url else {"heartbeat": _HEARTBEAT_SECONDS},
            # A message that no queue takes is an error, not a success.
            default_channel=Channel(prefetch_count=parallel, on_return_raises=True),
            timeout=_CONNECT_SECONDS,
            ack_policy=AckPolicy.MANUAL,
            apply_types=False,
            logger=None,
        )
        self._broker._connection_kwargs["connection_class"] = self._hold  # noqa: SLF001 - see above
        self._connection: RobustConnection | None = None
        self._queue = queue
        self._subscriber = self._broker.subscriber(queue)
        self._messages: AsyncIterator[RabbitMessage] | None = None
        self._looks_without_consumer = 0

    async def open(self) -> None:
        """Connect and declare the queue."""
        await self._broker.connect()
        await self._subscriber.start()
        self._declared = await self._broker.declare_queue(self._queue)

    async def publish(self, hint: Hint) -> None:
        """Send a hint; returns when the server has it on disk (publisher confirm)."""
        await self._broker.publish(encode(hint), self._name, persist=True, content_type="application/json")

    async def next(self) -> RabbitMessage | None:
        """Wait for a message, as long as it takes.

        Raises:
            ConnectionError: the consumer has ended.
        """
        if self._messages is None:
            self._messages = aiter(self._subscriber)
        message = await anext(self._messages, None)
        if message is None:
            raise ConnectionError("RabbitMQ ended the consumer")
        return message

    async def probe(self) -> None:
        """Look whether the connection stands, the queue exists, and somebody consumes it.

        Raises:
            ConnectionError: one of them is not so.
        """
        if not await self._broker.ping(timeout=1.0):
            raise ConnectionError("RabbitMQ closed the connection")
        told = await self._declared.declare()
        consumed = self._messages is None or bool(told.consumer_count)
        self._looks_without_consumer = 0 if consumed else self._looks_without_consumer + 1
        if self._looks_without_consumer >= _LOOKS_WITHOUT_CONSUMER:
            raise ConnectionError("RabbitMQ forgot the consumer")

    async def close(self) -> None:
        """Close the connection; the server gives what was not acknowledged to others."""
        # First of all, because until then the client connects again and consumes for nobody; the rest ends with it.
        if self._connection is not None:
            await self._connection.close()

    def _hold(self, *arguments: Any, **options: Any) -> RobustConnection:  # noqa: ANN401 - whatever the client gives
        self._connection = RobustConnection(*arguments, **options)
        return self._connection
