"""Hint carriers: how a scan that found something tells a worker that is free, over a broker if there is one.

No broker is the default and loses nothing: the scan stays on whatever carries hints (R2). ``base.py`` says what a
carrier promises, ``carrier.py`` is the one implementation, and each broker's module holds one connection to it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from retrysafe.errors import ConfigurationError
from retrysafe.runtime.queues.base import Hint, HintQueue, QueueUnavailable, Take
from retrysafe.runtime.queues.carrier import PARALLEL, Carrier

if TYPE_CHECKING:
    from retrysafe.runtime.queues.line import Line

__all__ = ["Hint", "HintQueue", "QueueUnavailable", "Take", "open_queue"]


def open_queue(url: str, *, namespace: str = "default", parallel: int = PARALLEL) -> HintQueue:
    """Make the queue that a URL names. Nothing is connected yet: that is :meth:`HintQueue.start`.

    Args:
        url: ``amqp://`` or ``amqps://`` (RabbitMQ), ``nats://`` or ``tls://``, ``kafka://``, ``redis://`` or
            ``rediss://``, or ``memory://``, which reaches nobody outside of this object. NATS and Kafka take several
            servers: ``nats://one:4222,two:4222``. It may hold a password, so no message repeats it.
        namespace: whose hints; each has a queue of its own.
        parallel: how many hints are taken at once.

    Raises:
        ConfigurationError: nobody knows the scheme, or the rest of the URL is wrong.
        ImportError: the broker's client is not installed; it names the extra.
    """
    make_line = _line(url, namespace, parallel)
    try:
        make_line()  # connects to nothing, and finds out what is wrong before anything starts
    except ValueError:
        # Without the cause, which may repeat a part of the URL.
        problem = (
            "the queue's URL can't be read: write scheme://user:password@host:port, signs in them as %40 and so on"
        )
        raise ConfigurationError([problem]) from None
    return Carrier(make_line, parallel=parallel)


def _line(url: str, namespace: str, parallel: int) -> Callable[[], Line]:
    """Look up who speaks to a broker; its client is imported only now, and only that one."""
    match url.partition("://")[0].lower():
        case "amqp" | "amqps":
            from retrysafe.runtime.queues.rabbit import RabbitLine  # noqa: PLC0415 - an extra

            return partial(RabbitLine, url, namespace=namespace, parallel=parallel)
        case "nats" | "tls":
            from retrysafe.runtime.queues.nats import NatsLine  # noqa: PLC0415 - an extra

            return partial(NatsLine, url, namespace=namespace)
        case "kafka":
            from retrysafe.runtime.queues.kafka import KafkaLine, servers_of  # noqa: PLC0415 - an extra

            return partial(KafkaLine, servers_of(url), namespace=namespace)
        case "redis" | "rediss":
            from retrysafe.runtime.queues.redis import RedisLine  # noqa: PLC0415 - an extra

            return partial(RedisLine, url, namespace=namespace)
        case "memory":
            from retrysafe.runtime.queues.memory import Memory, MemoryLine  # noqa: PLC0415 - for one process

            return partial(MemoryLine, Memory())
        case _:
            known = "amqp://, amqps://, nats://, tls://, kafka://, redis://, rediss:// or memory://"
            raise ConfigurationError([f"a queue's URL begins with its scheme: write {known}"])
