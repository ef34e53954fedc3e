"""Running programs on Redis, for threads and event loops."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Sequence
from copy import copy
from typing import Final, TypeVar, cast

import msgspec

from retrysafe.errors import ConfigurationError, SchemaMismatch, StoreCorrupt
from retrysafe.stores.base import Capability, Clock, Meta, Traits, Verbs
from retrysafe.stores.clock import HostClock
from retrysafe.stores.program import Answer, Factory, Statement, run
from retrysafe.stores.redis.calls import Call, Introduction, Keys
from retrysafe.stores.redis.connections import Transport
from retrysafe.stores.redis.layout import LAYOUT
from retrysafe.stores.redis.server import FSYNC, STATE, Facts, durability, facts, problems
from retrysafe.stores.redis.settings import Persistence
from retrysafe.stores.redis.verbs import RedisVerbs

T = TypeVar("T")

_SECRET_BYTES = 32
_FORGETFUL = (
    "let the server keep an append-only file (CONFIG SET appendonly yes), and declare it with persistence=everysec, or "
    "persistence=always where appendfsync is always"
)
_metas = msgspec.msgpack.Decoder(tuple[int, bytes, bytes])


class RedisStore:
    """Checkpoints in Redis 6.2 or later, or in Valkey, which may hold the application's own keys as well.

    Nothing is connected before the first use. Every instant is the server's.

    Args:
        transport: how it is reached: connections of ours, or clients of the application; see :func:`from_url` and
            :func:`from_clients`.
        persistence: what the server keeps (D3); checked when the store is opened.
        prefix: of every key.
        cluster: whether the server is a Cluster.
        replicated: whether a replica may take the server's place.

    Attributes:
        traits: what the store declares about itself.
        verbs: what it can be asked.
        persistence: what its server keeps, as declared.
        keys: where everything lies.
        is_cluster: whether the server is a Cluster.
    """

    def __init__(
        self,
        transport: Transport,
        *,
        persistence: Persistence = Persistence.NONE,
        prefix: str = "rs",
        cluster: bool = False,
        replicated: bool = False,
    ) -> None:
        self.persistence: Final = persistence
        self.traits = Traits(
            name="redis",
            clock=Clock.SERVER,
            durability=durability(persistence, replicated=replicated or cluster),
            capabilities=frozenset({Capability.SYNC, Capability.ASYNC, Capability.LIST_ABANDONED}),
            forgetful=_FORGETFUL if persistence is Persistence.NONE else None,
        )
        self.keys: Final = Keys(prefix)
        self.verbs: Verbs = RedisVerbs(self.keys)
        self._transport: Final = transport
        self.is_cluster: Final = cluster
        self._meta: Meta | None = None

    def open(self) -> Meta:
        """Connect, look at the server, and return what the store keeps for ever (K4).

        Raises:
            ConfigurationError: the server can't hold checkpoints, or keeps less than was declared (D3).
            SchemaMismatch: a newer version of retrysafe has the store.
            StoreUnavailable: the server can't be reached.
        """
        opened = self._meta
        if opened is None:
            found = self.facts()
            if found is not None:
                wrong = problems(found, self.persistence, cluster=self.is_cluster)
                if wrong:
                    raise ConfigurationError(wrong)
            opened = self._meta = self._make_meta()
        return opened

    def is_made(self) -> bool:
        """Tell whether a store with this prefix has ever been opened on the server; nothing is made.

        Raises:
            StoreUnavailable: the server can't be reached.
        """
        [[there]] = self._transport.exchange([Call("there", (self.keys.meta,), ())])
        return bool(there)

    def run(self, program: Factory[T]) -> T:
        """Run a program and block until what it did is as durable as the store declares.

        Raises:
            StoreUnavailable: nothing is known about the write (D4).
        """
        if self._meta is None:
            self.open()
        return run(program(), self._fetch)

    def query(self, program: Factory[T]) -> T:
        """Run a program that only reads."""
        return self.run(program)

    def close(self) -> None:
        """Close every connection for threads; an event loop's are closed with :meth:`aclose`, or once it is closed."""
        self._meta = None
        self._transport.close()

    def with_clock(self, wall: Callable[[], float]) -> RedisStore:
        """Return a store over the same connections, by a wall clock of this process: for tests (C2)."""
        host = HostClock(wall)
        store = copy(self)
        store.verbs = RedisVerbs(self.keys, lambda: repr(host.now()))
        return store

    async def aopen(self) -> Meta:
        """Connect like :meth:`open`, without blocking the loop."""
        opened = self._meta
        return await asyncio.to_thread(self.open) if opened is None else opened

    async def arun(self, program: Factory[T]) -> T:
        """Run a program and suspend until what it did is as durable as the store declares.

        A cancelled caller leaves it running to its end: what was submitted may be durable.

        Raises:
            StoreUnavailable: nothing is known about the write (D4).
        """
        if self._meta is None:
            await self.aopen()
        return await self._transport.arun(program())

    async def aquery(self, program: Factory[T]) -> T:
        """Run a program that only reads."""
        return await self.arun(program)

    async def aclose(self) -> None:
        """Close this event loop's connection, and those for threads, without blocking the loop."""
        self._meta = None
        await self._transport.aclose()

    def facts(self) -> Facts | None:
        """Return what the server says about itself, the weakest of a Cluster's; None when it may not be asked."""
        states, syncs = self._transport.command(STATE), self._transport.command(FSYNC)
        found = [facts(state, fsync) for state, fsync in zip(states, syncs, strict=True)]
        order = list(Persistence)
        known = [each for each in found if each is not None]
        return min(known, key=lambda each: order.index(each.persistence or Persistence.ALWAYS), default=None)

    def _make_meta(self) -> Meta:
        row = msgspec.msgpack.encode((LAYOUT, secrets.token_bytes(_SECRET_BYTES), secrets.token_bytes(_SECRET_BYTES)))
        there = run(RedisVerbs(self.keys).meta(row), self._fetch)
        try:
            version, pepper, secret = _metas.decode(there)
        except msgspec.DecodeError as error:
            raise StoreCorrupt("Redis: what the store keeps for ever can't be read") from error
        if version > LAYOUT:
            raise SchemaMismatch(version, LAYOUT)
        self._transport.introduce(Introduction(Call("meta", (self.keys.meta,), ("", there)), there))
        return Meta(pepper, secret, version)

    def _fetch(self, statement: Statement) -> Answer:
        calls = cast("Sequence[Call]", statement.parameters)
        return Answer(self._transport.exchange(calls))

    def __repr__(self) -> str:
        """Say what it is, and not where: an address may hold a password."""
        return "<RedisStore>"
