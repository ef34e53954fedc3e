"""Kafka: one topic and one consumer group for each namespace.

Traps, and what is done about them:

- An acknowledgement commits a position, so a slow message would hold up those behind it, and one that is refused seeks
  back. Messages are taken side by side, and each that has been taken commits how far this consumer has read: one that
  is still being taken by a process that dies then is lost, and found by the scan (R2).
- A new group begins at the topic's end by default, and would never see what was sent before the first worker; ours
  begins at its start.
- Only as many workers as there are partitions get hints; the others still scan.
- After ``kill -9`` the group waits for the dead member's session (6 s) before its partitions move on. The scan does not
  wait.
- FastStream fails on a header that is no text and would read the same message again for ever; such headers are dropped.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from retrysafe.errors import ConfigurationError
from retrysafe.runtime.queues.base import Hint, encode, queue_name

try:
    from faststream import AckPolicy
    from faststream.kafka import KafkaBroker, KafkaMessage
    from faststream.kafka.schemas import Topic
    from faststream.security import BaseSecurity
except ImportError as missing:
    raise ImportError("the Kafka queue needs faststream[kafka]: pip install 'retrysafe[kafka]'") from missing

# Used only where the topic does not exist yet. An operator who wants replicas makes it first; hints need none.
_PARTITIONS = 8
_REPLICAS = 1
# A topic that was made anew is noticed after this long.
_METADATA_MILLISECONDS = 5_000
# As short as Kafka allows by default.
_SESSION_MILLISECONDS = 6_000
# Longer than a group takes to share its partitions out anew, and shorter than the client's 40 s for a dead server.
_REQUEST_MILLISECONDS = 15_000
_WAIT_SECONDS = 1.0
_SERVER = re.compile(r"([\w.-]+|\[[0-9A-Fa-f:]+\])(:\d{1,5})?")
_PROBE_SECONDS = 4.0


class KafkaLine:
    """One connection to Kafka; see :class:`~retrysafe.runtime.queues.line.Line`."""

    def __init__(self, servers: list[str], *, namespace: str, security: BaseSecurity | None = None) -> None:
        """Prepare a connection.

        Args:
            servers: ``host:port`` of some brokers of the cluster.
            namespace: whose hints.
            security: how to log in, one of FastStream's ``SASL…``; None is plain text without a login.
        """
        self._servers = servers
        self._topic = Topic(queue_name(namespace), num_partitions=_PARTITIONS, replication_factor=_REPLICAS)
        self._broker = KafkaBroker(
            servers,
            metadata_max_age_ms=_METADATA_MILLISECONDS,
            request_timeout_ms=_REQUEST_MILLISECONDS,
            security=security,
            ack_policy=AckPolicy.MANUAL,
            apply_types=False,
            logger=None,
        )
        self._subscriber = self._broker.subscriber(
            self._topic,
            group_id=f"{self._topic.name}.workers",
            auto_offset_reset="earliest",
            session_timeout_ms=_SESSION_MILLISECONDS,
            heartbeat_interval_ms=_SESSION_MILLISECONDS // 3,
            parser=_without_foreign_headers,
        )
        self._joined = False

    async def open(self) -> None:
        """Connect, and make the topic where there is none.

        Raises:
            Exception: the topic can't be made.
        """
        await _somebody_listens(self._servers)
        await self._broker.connect()
        for made in await self._broker.config.admin.create_topics([self._topic]):
            if made.error is not None:
                raise made.error

    async def publish(self, hint: Hint) -> None:
        """Send a hint; returns when the partition's leader has it."""
        await self._broker.publish(encode(hint), self._topic.name)

    async def next(self) -> KafkaMessage | None:
        """Wait a second for a message; the first call joins the group."""
        if not self._joined:
            await self._subscriber.start()
            self._joined = True
        return await self._subscriber.get_one(timeout=_WAIT_SECONDS)

    async def probe(self) -> None:
        """Look whether the cluster answers.

        Raises:
            ConnectionError: it does not.
        """
        if not await self._broker.ping(timeout=_PROBE_SECONDS):
            raise ConnectionError("Kafka does not answer")

    async def close(self) -> None:
        """Leave the group and close the connections."""
        await self._broker.stop()


def servers_of(url: str) -> list[str]:
    """Read ``kafka://host:port,host:port``; the port is 9092 if there is none.

    Raises:
        ConfigurationError: there is more in it, or less.
    """
    servers = url.partition("://")[2].rstrip("/").split(",")
    if not all(_SERVER.fullmatch(server) for server in servers):
        fix = "build the queue in Python with security= to log in" if "@" in url else "leave out what follows"
        raise ConfigurationError([f"write kafka://host:port or kafka://host:port,host:port: {fix}"])
    return [server if server.rpartition(":")[2].isdigit() else f"{server}:9092" for server in servers]


async def _somebody_listens(servers: list[str]) -> None:
    """Look before the client does: each time it can't connect it leaves a producer behind that nobody can close."""
    error: OSError | None = None
    for server in servers:
        host, _, port = server.rpartition(":")
        try:
            _, writer = await asyncio.open_connection(host.strip("[]"), int(port))
        except OSError as failed:
            error = failed
        else:
            writer.close()
            return
    raise ConnectionError(f"no server of {len(servers)} answers: {error}")


class _WithHeaders(Protocol):
    headers: Sequence[tuple[str, bytes]]


async def _without_foreign_headers(record: _WithHeaders, parse: Callable[..., Awaitable[object]]) -> object:
    """Let a message that others put into the topic be dropped, instead of ending the line again and again."""
    try:
        return await parse(record)
    except (UnicodeDecodeError, AttributeError):
        record.headers = ()
        return await parse(record)
