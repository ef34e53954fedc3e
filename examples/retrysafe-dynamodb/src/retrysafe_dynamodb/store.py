"""The store: runs programs in this thread, or for event loops in threads of its own."""

from __future__ import annotations

import asyncio
import os
import time
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from functools import cache, partial
from threading import Lock
from typing import Any, TypeVar

import boto3
from botocore.config import Config

from retrysafe.errors import ConfigurationError
from retrysafe.stores.base import Capability, Clock, Durability, Meta, Traits, Verbs
from retrysafe.stores.clock import HostClock
from retrysafe.stores.documents.statements import fetch
from retrysafe.stores.documents.verbs import DocumentVerbs
from retrysafe.stores.instants import HostInstants
from retrysafe.stores.program import Factory, run
from retrysafe_dynamodb.audit import AuditLines
from retrysafe_dynamodb.documents import Documents
from retrysafe_dynamodb.failures import unless_refused
from retrysafe_dynamodb.port import DynamoDBPort
from retrysafe_dynamodb.table import is_there, prepare

T = TypeVar("T")

_MOST_SHARDS = 64
_LONGEST_MARGIN = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class _Opened:
    """What one process has of the table. Connections must not be carried across a fork."""

    process: int
    meta: Meta
    port: DynamoDBPort
    client: Any
    runners: ThreadPoolExecutor
    """Run programs for event loops."""
    writers: ThreadPoolExecutor
    """Write what one program writes at the same time; not the same threads, which could all be waiting for these."""


class DynamoDBStore:
    """Checkpoints in a DynamoDB table.

    Nothing is connected before the first use, and again after a fork or :meth:`close`. DynamoDB has no clock that a
    write could use, so instants are each process's own, and ``margin`` must be more than they ever differ by (C2).

    Args:
        table: name of the table.
        region: where it is; None leaves it to the usual configuration of boto3, as all credentials are.
        endpoint: of something that stands in for DynamoDB.
        create: whether a missing table may be made, with on-demand capacity.
        shards: into how many parts each index of a new table is split; each takes 1,000 writes a second.
        margin: how far apart the clocks of all processes may be.
        threads: how many requests for event loops, and of one batch, may be under way.
        timeout: after so long a request that is not answered is sent again, twice.
        clock: the wall clock, in seconds since the epoch.

    Attributes:
        traits: what the store declares about itself.
        verbs: what it can be asked.
    """

    def __init__(
        self,
        table: str,
        *,
        region: str | None = None,
        endpoint: str | None = None,
        create: bool = True,
        shards: int = 8,
        margin: timedelta = timedelta(seconds=5),
        threads: int = 16,
        timeout: timedelta = timedelta(seconds=5),
        clock: Callable[[], float] = time.time,
    ) -> None:
        problems: list[str] = []
        if not 1 <= shards <= _MOST_SHARDS:
            problems.append(f"shards is {shards}: choose 1 to {_MOST_SHARDS}")
        if not timedelta() <= margin <= _LONGEST_MARGIN:
            problems.append(f"margin is {margin}: choose up to {_LONGEST_MARGIN}, more than clocks ever differ by")
        if threads < 1:
            problems.append(f"threads is {threads}: choose 1 or more")
        if problems:
            raise ConfigurationError(problems)
        self.traits = Traits(
            name="dynamodb",
            clock=Clock.MARGIN,
            # A write is acknowledged when two of three zones have it.
            durability=Durability.QUORUM,
            capabilities=frozenset({Capability.SYNC, Capability.ASYNC, Capability.LIST_ABANDONED}),
            margin_seconds=margin.total_seconds(),
        )
        verbs = DocumentVerbs(HostInstants(HostClock(clock)), margin.total_seconds())
        self.verbs: Verbs = verbs
        self._forget = verbs.start_over
        self._with_other = partial(
            DynamoDBStore,
            table,
            region=region,
            endpoint=endpoint,
            create=create,
            shards=shards,
            threads=threads,
            timeout=timeout,
        )
        self._table, self._create, self._shards, self._threads = table, create, shards, threads
        self._client = partial(_client, region, endpoint, threads, timeout.total_seconds())
        self._opened: _Opened | None = None
        self._lock = Lock()
        _EVERY.add(self)

    def open(self) -> Meta:
        """Make the table where it is missing, and return its meta row (K4).

        Raises:
            SchemaMismatch: there is no table, and it may not be made here; or a newer version made it.
            StoreUnavailable: DynamoDB cannot be reached, or refuses us.
        """
        return self._open().meta

    def is_made(self) -> bool:
        """Tell whether the table is there; it is not made.

        Raises:
            StoreUnavailable: DynamoDB cannot be reached, or refuses us.
        """
        client = self._client()
        try:
            return is_there(client, self._table)
        finally:
            client.close()

    def run(self, program: Factory[T]) -> T:
        """Run a program in this thread and block until it is durable.

        Raises:
            StoreUnavailable: nothing is known about the write (D4).
        """
        return run(program(), partial(fetch, self._open().port))

    def query(self, program: Factory[T]) -> T:
        """Run a program that only reads; documents are read consistently."""
        return self.run(program)

    def close(self) -> None:
        """Close connections and threads; safe to call again."""
        with self._lock:
            opened, self._opened = self._opened, None
        if opened is not None and opened.process == os.getpid():
            opened.runners.shutdown()
            opened.writers.shutdown()
            opened.client.close()

    def with_clock(self, wall: Callable[[], float]) -> DynamoDBStore:
        """Return a store on the same table by a wall clock that all processes share, so without margin: for tests."""
        return self._with_other(clock=wall, margin=timedelta())

    async def aopen(self) -> Meta:
        """Open the table without blocking the loop; see :meth:`open`."""
        return await asyncio.to_thread(self.open)

    async def arun(self, program: Factory[T]) -> T:
        """Run a program in a thread of the store's, because boto3 has no event loop, and suspend until it is durable.

        A cancelled caller leaves it running to its end: what was submitted may be durable.
        """
        opened = self._opened
        if opened is None or opened.process != os.getpid():
            opened = await asyncio.to_thread(self._open)
        return await asyncio.get_running_loop().run_in_executor(opened.runners, self.run, program)

    async def aquery(self, program: Factory[T]) -> T:
        """Run a program that only reads; see :meth:`arun`."""
        return await self.arun(program)

    async def aclose(self) -> None:
        """Close connections and threads without blocking the loop."""
        await asyncio.to_thread(self.close)

    def start_over(self) -> None:
        """Begin with nothing, in a forked child, where a thread that is gone may have held a lock."""
        self._opened = None
        self._lock = Lock()
        self._forget()

    def _open(self) -> _Opened:
        opened = self._opened
        if opened is not None and opened.process == os.getpid():
            return opened
        with self._lock:
            if self._opened is None or self._opened.process != os.getpid():
                self._opened = self._connect()
            return self._opened

    def _connect(self) -> _Opened:
        client = self._client()
        meta, shards = prepare(client, self._table, shards=self._shards, create=self._create)
        runners = ThreadPoolExecutor(self._threads, "retrysafe-dynamodb")
        writers = ThreadPoolExecutor(self._threads, "retrysafe-dynamodb-write")
        port = DynamoDBPort(Documents(client, self._table, shards), AuditLines(client, self._table), writers)
        return _Opened(os.getpid(), meta, port, client, runners, writers)


_EVERY: weakref.WeakSet[DynamoDBStore] = weakref.WeakSet()


def _in_child() -> None:
    for store in list(_EVERY):
        store.start_over()


os.register_at_fork(after_in_child=_in_child)


def _client(region: str | None, endpoint: str | None, threads: int, timeout_seconds: float) -> Any:  # noqa: ANN401 - boto has no types
    config = Config(
        connect_timeout=timeout_seconds,
        read_timeout=timeout_seconds,
        max_pool_connections=4 * threads,
        # Sending again is safe: each write has its condition, and is known by its token.
        retries={"mode": "standard", "total_max_attempts": 3},
    )
    with unless_refused():
        return _session().client("dynamodb", region_name=region, endpoint_url=endpoint, config=config)


@cache
def _session() -> boto3.session.Session:
    """Return one for all stores of this process: it keeps what it has read about DynamoDB's interface."""
    return boto3.session.Session()
