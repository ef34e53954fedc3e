"""The memory store for threads and for event loops."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from threading import Lock
from typing import TypeVar

from retrysafe.errors import ConfigurationError
from retrysafe.stores.base import Capability, Clock, Durability, Meta, Traits, Verbs
from retrysafe.stores.clock import HostClock
from retrysafe.stores.memory.verbs import MemoryVerbs
from retrysafe.stores.program import Answer, Factory, Statement, run

T = TypeVar("T")

_SCHEMA_VERSION = 1


def _no_database(statement: Statement) -> Answer:
    """Refuse a statement: programs of the memory store have none, so this one was made for another store."""
    message = f"this program was made for another store: {statement.text}"
    raise TypeError(message)


class MemoryStore:
    """Checkpoints in this process: nothing is left of them when it ends, and no other process sees them.

    Every method may be called from any thread and any event loop; none ever waits for anything but its lock, for
    microseconds. After a fork the child has a copy of its own, which is not what a server with several workers needs.

    Args:
        clock: the wall clock, in seconds since the epoch.
    """

    def __init__(self, *, clock: Callable[[], float] = time.time) -> None:
        self.traits = Traits(
            name="memory",
            clock=Clock.HOST,
            durability=Durability.PROCESS,
            capabilities=frozenset({Capability.SYNC, Capability.ASYNC, Capability.LIST_ABANDONED, Capability.AT_ONCE}),
        )
        self.verbs: Verbs = MemoryVerbs(HostClock(clock))
        self._meta = Meta(secrets.token_bytes(32), secrets.token_bytes(32), _SCHEMA_VERSION)
        self._lock = Lock()

    def open(self) -> Meta:
        """Return the store's pepper and secret, made with it (K4)."""
        return self._meta

    def run(self, program: Factory[T]) -> T:
        """Run a program under the lock."""
        with self._lock:
            return run(program(), _no_database)

    def query(self, program: Factory[T]) -> T:
        """Run a program under the lock."""
        return self.run(program)

    def close(self) -> None:
        """Do nothing: there is nothing to release, and what is stored stays."""

    def with_clock(self, wall: Callable[[], float]) -> MemoryStore:
        """Return another store, empty, on another wall clock: for tests (C2)."""
        return MemoryStore(clock=wall)

    async def aopen(self) -> Meta:
        """Return the store's pepper and secret, made with it (K4)."""
        return self._meta

    async def arun(self, program: Factory[T]) -> T:
        """Run a program under the lock."""
        with self._lock:
            return run(program(), _no_database)

    async def aquery(self, program: Factory[T]) -> T:
        """Run a program under the lock."""
        with self._lock:
            return run(program(), _no_database)

    async def aclose(self) -> None:
        """Do nothing: there is nothing to release, and what is stored stays."""


def from_url(url: str) -> MemoryStore:
    """Make a store from ``memory://``; each call makes another, which nobody else sees.

    Raises:
        ConfigurationError: there is more in the URL, which would mean nothing.
    """
    if url.lower() != "memory://":
        raise ConfigurationError(["a store in memory has neither name nor options: write memory://"])
    return MemoryStore()
