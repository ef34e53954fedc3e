"""Redis Streams (or Valkey): one stream and one consumer group for each namespace.

Traps, and what is done about them:

- A group that is made by FastStream begins at the stream's end, and hints that were put before the first worker are
  never seen; ours is made at its start, with the stream. If FastStream were told to begin there it would read its own
  history for ever once the group exists.
- A group that vanished (a restart without append-only file) ends FastStream's subscriber. Here it ends the line, and
  the next one makes the group anew.
- What a dead worker had read stays its own: nothing gives it back, and a refusal sends nothing at all. A second
  subscriber claims what is idle for a minute (XAUTOCLAIM; XREADGROUP does both only from Redis 8.4).
- Names of consumers stay in the group for ever. All workers use one name: each message still goes to one of them.
- A stream never shrinks by itself; each hint that is added trims it to about ten thousand.
- A server that is frozen answers nothing, not even an error; every command has a limit.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, cast

from retrysafe.runtime.queues.base import Hint, encode, queue_name

try:
    from faststream import AckPolicy
    from faststream.redis import RedisBroker, RedisStreamMessage, StreamSub
    from redis.exceptions import ResponseError
except ImportError as missing:
    raise ImportError("the Redis queue needs faststream[redis]: pip install 'retrysafe[redis]'") from missing

_MOST = 10_000
_WAIT_SECONDS = 1.0
_LOOK_EVERY_SECONDS = 10.0
_IDLE_SECONDS = 60.0
_SOCKET_SECONDS = 5.0
_PROBE_SECONDS = 4.0
_GROUP = "workers"
_EVERYBODY = "worker"


class RedisLine:
    """One connection to Redis; see :class:`~retrysafe.runtime.queues.line.Line`."""

    def __init__(self, url: str, *, namespace: str, idle_seconds: float = _IDLE_SECONDS) -> None:
        """Prepare a connection.

        Args:
            url: ``redis://user:password@host:6379/0`` or ``rediss://``.
            namespace: whose hints.
            idle_seconds: how long a message is left with who read it before others take it.
        """
        self._name = queue_name(namespace)
        self._look_every_seconds = min(_LOOK_EVERY_SECONDS, idle_seconds)
        self._look_at = 0.0
        self._broker = RedisBroker(
            url,
            socket_timeout=_SOCKET_SECONDS,
            socket_connect_timeout=_SOCKET_SECONDS,
            ack_policy=AckPolicy.MANUAL,
            apply_types=False,
            logger=cast(Any, None),
        )
        fresh = StreamSub(self._name, group=_GROUP, consumer=_EVERYBODY)
        left = StreamSub(self._name, group=_GROUP, consumer=_EVERYBODY, min_idle_time=round(idle_seconds * 1000))
        self._fresh = self._broker.subscriber(stream=fresh, parser=_without_foreign_fields)
        self._left = self._broker.subscriber(stream=left, parser=_without_foreign_fields)

    async def open(self) -> None:
        """Connect, and make stream and group where there are none."""
        self._client = await self._broker.connect()
        try:
            await self._client.xgroup_create(self._name, _GROUP, id="0", mkstream=True)
        except ResponseError as error:
            if "BUSYGROUP" not in str(error):
                raise
        await self._fresh.start()
        await self._left.start()

    async def publish(self, hint: Hint) -> None:
        """Send a hint; returns when the server has it (in its memory, as it is set up)."""
        await self._broker.publish(encode(hint), stream=self._name, maxlen=_MOST)

    async def next(self) -> RedisStreamMessage | None:
        """Wait a second for a message; now and then look for those that others left behind."""
        if time.monotonic() >= self._look_at:
            left = await self._left.get_one()
            if left is not None:
                return left
            self._look_at = time.monotonic() + self._look_every_seconds
        return await self._fresh.get_one(timeout=_WAIT_SECONDS)

    async def probe(self) -> None:
        """Look whether the server answers.

        Raises:
            ConnectionError: it does not.
        """
        if not await self._broker.ping(timeout=_PROBE_SECONDS):
            raise ConnectionError("Redis does not answer")

    async def close(self) -> None:
        """Close the connections; what was not acknowledged is claimed by others after a while."""
        await self._broker.stop()


async def _without_foreign_fields(message: Mapping[str, object], parse: Callable[..., Awaitable[object]]) -> object:
    """Let a message that others put into the stream be dropped, instead of ending the line again and again."""
    try:
        return await parse(message)
    except Exception:  # noqa: BLE001 - whatever is wrong with it, it has an id and can be acknowledged
        return await parse({**message, "data": {}})
