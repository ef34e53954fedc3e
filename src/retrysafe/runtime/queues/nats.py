"""NATS JetStream: one work-queue stream and one durable pull consumer for each namespace, shared by all workers.

Traps, and what is done about them:

- A message that reached ``max_deliver`` stays in a work-queue stream where nobody sees it; so there is no limit, and
  attempts are counted in the checkpoint (R8).
- ``Nats-Msg-Id`` drops repeats within the stream's window. Ours is ``operation:fence``, and the window is short: a hint
  that is sent again later, because nobody came, must arrive.
- A pull that was under way when the server went down never ends; so each pull ends by itself, and the client does not
  connect again behind our back: the line is replaced, and the stream is declared anew where it was lost.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from retrysafe.runtime.queues.base import Hint, encode, queue_name

try:
    from faststream import AckPolicy
    from faststream.nats import JStream, NatsBroker, NatsMessage, PullSub
    from nats.aio.client import Client
    from nats.js.api import ConsumerConfig, RetentionPolicy, StorageType
except ImportError as missing:
    raise ImportError("the NATS queue needs faststream[nats]: pip install 'retrysafe[nats]'") from missing

# An hour later the scan has said it again; without workers the stream must not grow for ever.
_KEEP_SECONDS = 3600.0
_MOST = 10_000
# The scan sends a hint again after a second at the soonest.
_REPEAT_SECONDS = 0.9
# After this long a message goes to another worker; taking one ends much sooner.
_ACK_WAIT_SECONDS = 30.0
_PULL_SECONDS = 1.0
# The client's own half second is short for a stream that is synced to disk.
_PUBLISH_SECONDS = 5.0


class NatsLine:
    """One connection to NATS; see :class:`~retrysafe.runtime.queues.line.Line`."""

    def __init__(self, url: str, *, namespace: str, ack_wait_seconds: float = _ACK_WAIT_SECONDS) -> None:
        """Prepare a connection.

        Args:
            url: ``nats://user:password@host:4222``, or several with commas between them.
            namespace: whose hints.
            ack_wait_seconds: when a message that was not acknowledged goes to another worker; set when the consumer
                is made for the first time.

        Raises:
            ValueError: a server has no host, or a port that is no number.
        """
        self._subject = queue_name(namespace)
        # A stream's name may hold no dots.
        name = self._subject.replace(".", "-")
        self._client: Client | None = None
        self._stream = JStream(
            name,
            retention=RetentionPolicy.WORK_QUEUE,
            storage=StorageType.FILE,
            max_age=_KEEP_SECONDS,
            max_msgs=_MOST,
            duplicate_window=_REPEAT_SECONDS,
        )
        scheme, _, servers = url.partition("://")
        addresses = [f"{scheme}://{server}" for server in servers.split(",")]
        # The client would find out at each attempt to connect.
        if not all(address.hostname and address.port != 0 for address in map(urlsplit, addresses)):
            raise ValueError("a server has no host")
        self._broker = NatsBroker(
            addresses,
            allow_reconnect=False,
            # These are about the first connection, too, which the client would otherwise try for ever.
            max_reconnect_attempts=1,
            reconnect_time_wait=0,
            ack_policy=AckPolicy.MANUAL,
            apply_types=False,
            logger=None,
        )
        self._subscriber = self._broker.subscriber(
            self._subject,
            stream=self._stream,
            durable=f"{name}-workers",
            pull_sub=PullSub(batch_size=1),
            config=ConsumerConfig(ack_wait=ack_wait_seconds, max_deliver=-1),
        )

    async def open(self) -> None:
        """Connect and declare the stream."""
        self._client = await self._broker.connect()
        await self._broker.start()

    async def publish(self, hint: Hint) -> None:
        """Send a hint; returns when the stream has it, or had it already."""
        headers = {"Nats-Msg-Id": f"{hint.operation_id}:{hint.fence}"}
        await self._broker.publish(
            encode(hint), self._subject, headers=headers, stream=self._stream.name, timeout=_PUBLISH_SECONDS
        )

    async def next(self) -> NatsMessage | None:
        """Wait a second for a message.

        Raises:
            ConnectionError: the connection is closed.
        """
        message = await self._subscriber.get_one(timeout=_PULL_SECONDS)
        if message is None:
            self._check()
        return message

    async def probe(self) -> None:
        """Look whether the connection stands and the stream exists."""
        self._check()
        await self._subscriber.jetstream.stream_info(self._stream.name)

    def _check(self) -> None:
        if self._client is None or not self._client.is_connected:
            raise ConnectionError("NATS closed the connection")

    async def close(self) -> None:
        """Close the connection; what was not acknowledged goes to others after a while."""
        # Not the broker's own way, which asks the server for a farewell that a dead one never gives.
        if self._client is not None:
            await self._client.close()
