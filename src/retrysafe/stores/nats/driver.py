"""Running programs on a bucket: natively on event loops, and through a thread with a loop of its own for threads."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import timedelta
from functools import partial
from typing import Any, Final, TypeVar

from retrysafe.errors import ConfigurationError
from retrysafe.stores.base import Capability, Clock, Durability, Meta, Traits, Verbs
from retrysafe.stores.clock import HostClock
from retrysafe.stores.documents.statements import afetch
from retrysafe.stores.documents.verbs import DocumentVerbs
from retrysafe.stores.instants import HostInstants
from retrysafe.stores.nats.bucket import Bucket
from retrysafe.stores.nats.clock import LEARN, ServerInstants
from retrysafe.stores.nats.connect import connecting
from retrysafe.stores.nats.documents import Documents
from retrysafe.stores.nats.keeping import Keeping
from retrysafe.stores.nats.watching import watching
from retrysafe.stores.nats.wire import Connect
from retrysafe.stores.nats.wires import Wires
from retrysafe.stores.program import Answer, Factory, Statement, arun

T = TypeVar("T")

_REPLICAS = range(1, 6)


class NatsStore:
    """Checkpoints in a bucket of NATS JetStream (2.9 or later), which is made at first use.

    Event loops use a connection of their own each. Threads share one, on a daemon thread ``retrysafe-nats`` that has an
    event loop of its own; each of their calls is a hop there and back. Connections are made when they are needed, anew
    after a fork and when the server has ended them. Every instant is the server's; see ``clock.py``.

    What an acknowledged write survives is the server's to say, so it has to be told here. With one replica, JetStream
    syncs its files every two minutes: it survives a ``kill -9`` and not a power cut, and that is declared as durability
    ``process``. A server whose ``jetstream`` block says ``sync_interval: always`` is declared with ``synced=True``:
    ``node``. With three replicas or more: ``quorum``, as long as no majority of them loses its power at once.

    Args:
        servers: addresses, such as ``nats://127.0.0.1:4222``; those of a cluster are tried one after another.
        bucket: where everything lies: letters, digits, ``-`` and ``_``.
        replicas: how many servers keep it, when it is made, and at least otherwise.
        synced: the server syncs with every write.
        timeout: what is not answered after so long is given up (D4).
        options: more for ``nats.connect``: credentials, ``tls``, ``name``.
        connect: makes a client in place of ours, for each event loop; it must not connect again by itself
            (``allow_reconnect=False``).

    Attributes:
        traits: what the store declares about itself.
        verbs: what it can be asked.
    """

    def __init__(
        self,
        servers: Sequence[str] = (),
        *,
        bucket: str = "retrysafe",
        replicas: int = 1,
        synced: bool = False,
        timeout: timedelta = timedelta(seconds=5),
        options: Mapping[str, Any] | None = None,
        connect: Connect | None = None,
    ) -> None:
        _check(servers, bucket, replicas, connect)
        self._again: Final = partial(
            NatsStore,
            servers,
            bucket=bucket,
            replicas=replicas,
            synced=synced,
            timeout=timeout,
            options=options,
            connect=connect,
        )
        self.traits = Traits(
            name="nats",
            clock=Clock.SERVER,
            durability=_durability(replicas, synced=synced),
            capabilities=frozenset({Capability.SYNC, Capability.ASYNC, Capability.LIST_ABANDONED, Capability.NOTIFY}),
        )
        self._keeping: Final = Keeping(Bucket(bucket, replicas))
        verbs = DocumentVerbs(ServerInstants(self._keeping.clock))
        self.verbs: Verbs = verbs
        seconds = timeout.total_seconds()
        connect = connect or connecting(list(servers), dict(options or {}), seconds)
        self._wires: Final = Wires(connect, self._keeping, seconds, verbs.start_over)
        # A store that nobody closed is closed when it is collected, and at the latest when the interpreter ends.
        weakref.finalize(self, self._wires.abandon)

    def open(self) -> Meta:
        """Connect, make the bucket if it is missing, and return what the store keeps for ever (K4).

        Raises:
            SchemaMismatch: a newer version wrote the bucket.
            ConfigurationError: the bucket is there, but not one as we need it.
            StoreUnavailable: the server cannot be reached, or has no JetStream.
            StoreCorrupt: data is damaged.
        """
        opened = self._wires.meta
        return self._wires.portal.run(self.aopen()) if opened is None else opened

    def is_made(self) -> bool:
        """Tell whether the bucket, or that of its audit, is there; nothing is made.

        Raises:
            StoreUnavailable: the server cannot be reached, or has no JetStream.
        """
        return self._wires.portal.run(self._wires.is_made())

    def run(self, program: Factory[T]) -> T:
        """Run a program and block until it is durable.

        Raises:
            StoreUnavailable: nothing is known about the write (D4).
        """
        return self._wires.portal.run(self._arun(program))

    def query(self, program: Factory[T]) -> T:
        """Run a program that only reads."""
        return self._wires.portal.run(self._arun(program))

    def watch(self, digest: bytes, seconds: float, wake: Callable[[], None]) -> AbstractContextManager[None]:  # noqa: ARG002 - it ends with its context
        """Have ``wake`` called when an operation has its outcome; see :class:`~retrysafe.stores.base.Notifier`."""
        return watching(self._wires, self._keeping.bucket, digest, wake)

    def close(self) -> None:
        """Close the connection for threads, and their thread; an event loop's is closed with :meth:`aclose`."""
        self._wires.close_threads()

    def with_clock(self, wall: Callable[[], float]) -> NatsStore:
        """Return a store on the same bucket, by a wall clock of this process: for tests (C2)."""
        store = self._again()
        store.verbs = DocumentVerbs(HostInstants(HostClock(wall)))
        return store

    async def aopen(self) -> Meta:
        """Connect like :meth:`open`, on this event loop."""
        opened = self._wires.meta
        while opened is None:
            await self._wires.wire()
            opened = self._wires.meta
        return opened

    async def arun(self, program: Factory[T]) -> T:
        """Run a program and suspend until it is durable.

        A cancelled caller leaves it running to its end: what was submitted may be durable.

        Raises:
            StoreUnavailable: nothing is known about the write (D4).
        """
        running = asyncio.ensure_future(self._arun(program))
        # The loop itself keeps tasks weakly.
        self._wires.running.add(running)
        running.add_done_callback(self._wires.running.discard)
        return await asyncio.shield(running)

    async def aquery(self, program: Factory[T]) -> T:
        """Run a program that only reads."""
        return await self._arun(program)

    async def aclose(self) -> None:
        """Close this event loop's connection, and that for threads, without blocking the loop."""
        await self._wires.close_loop()
        await asyncio.to_thread(self.close)

    async def _arun(self, program: Factory[T]) -> T:
        documents = Documents(await self._wires.wire(), self._keeping)

        async def fetch(statement: Statement) -> Answer:
            if statement is LEARN:
                await documents.learn()
                return Answer()
            return await afetch(documents, statement)

        return await arun(program(), fetch)

    def __repr__(self) -> str:
        """Say what it is, and not where: an address may hold a password."""
        return "<NatsStore>"


def _durability(replicas: int, *, synced: bool) -> Durability:
    if replicas >= 3:
        return Durability.QUORUM
    return Durability.NODE if synced else Durability.PROCESS


def _check(servers: Sequence[str], bucket: str, replicas: int, connect: Connect | None) -> None:
    problems: list[str] = []
    if bool(servers) == (connect is not None):
        problems.append("a NATS store needs servers or a function that connects, and not both")
    if not bucket or not bucket.replace("-", "").replace("_", "").isalnum() or not bucket.isascii():
        # Behind a slash in a password, what follows is taken for the bucket.
        name = "" if "@" in bucket else f" {bucket!r}"
        problems.append(f"the bucket{name} has other than letters, digits, - and _")
    if replicas not in _REPLICAS or replicas % 2 == 0:
        problems.append(f"{replicas} replicas: write 1, 3 or 5, as a majority of an even number is no safer")
    if problems:
        raise ConfigurationError(problems)
