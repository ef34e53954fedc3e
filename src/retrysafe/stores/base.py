"""The contract of a store: its verbs, the two ways to run them, and what it declares about itself.

A store brings *verbs*, written once as programs (``program.py``), and a way to run a program for threads (``Store``),
for event loops (``AsyncStore``) or for both. Nothing else differs between sync and async, so nothing else can drift.

Every write carries its claim and is refused, as a value, when the fence differs (C4). Instants are the store's own
(C2). A run that raises :class:`~retrysafe.errors.StoreUnavailable` says nothing about whether it happened; every verb
may be run again with the same arguments and then tells (D4).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol, TypeVar

import msgspec

from retrysafe.protocol.effects import Receipt
from retrysafe.protocol.model import Ask, Checkpoint, Claim
from retrysafe.protocol.states import State
from retrysafe.protocol.verdicts import Verdict
from retrysafe.stores.program import Factory, Program

T = TypeVar("T")


class Clock(StrEnum):
    """Whose instants a store compares (C2)."""

    SERVER = "server"
    """The database server's: skew between application hosts changes nothing."""
    HOST = "host"
    """This host's, shared by all its processes; backward steps are tolerated."""
    MARGIN = "margin"
    """Each application's own; a margin is added before any take-over."""


class Durability(StrEnum):
    """What a store's acknowledged write survives (D3)."""

    PROCESS = "process"
    """Nothing: it lives in the process."""
    NODE = "node"
    """Power loss of its node."""
    REPLICATED = "async-replicated"
    """Power loss of its node; a failover may lose the latest writes."""
    QUORUM = "quorum"
    """Loss of any one node."""


class Capability(StrEnum):
    """What a store can do beyond its verbs (D3)."""

    SYNC = "sync"
    ASYNC = "async"
    LIST_ABANDONED = "list abandoned"
    NOTIFY = "notify"
    SAME_TRANSACTION = "same transaction"


class Traits(msgspec.Struct, frozen=True):
    """What a store declares about itself; an operation that needs more is refused at construction (D3)."""

    name: str
    clock: Clock
    durability: Durability
    capabilities: frozenset[Capability]


@dataclass(frozen=True, slots=True)
class Meta:
    """What a store was given at its creation and keeps for ever (K4).

    Attributes:
        pepper: keys the identity digest; 32 bytes, never rotated.
        fingerprint_secret: keys fingerprints when the application configures no secret of its own; 32 bytes.
        schema_version: number of the newest migration.
    """

    pepper: bytes = field(repr=False)
    fingerprint_secret: bytes = field(repr=False)
    schema_version: int


class Held(msgspec.Struct, frozen=True):
    """The claim was renewed; its lease ends ``lease_seconds`` after the renewal was received."""


class Lost(msgspec.Struct, frozen=True):
    """The claim is not ours any more, or the operation is no longer open: the attempt must stop."""


Renewal = Held | Lost


class Purged(msgspec.Struct, frozen=True):
    """What one purge batch did.

    Attributes:
        expired: outcomes dropped, tombstones kept.
        deleted: tombstones deleted.
        more: True when another batch would find work right now.
    """

    expired: int
    deleted: int
    more: bool


class Query(msgspec.Struct, frozen=True):
    """Which checkpoints a listing shows, newest first.

    Attributes:
        states: only these states; empty means all.
        abandoned: only those whose lease is over without an outcome.
        name: only this operation name.
        operation_id: only the operation whose id starts with this text.
        after: continue behind this operation id, for paging.
        limit: how many at most, 1 to 1,000.
    """

    states: frozenset[State] = frozenset()
    abandoned: bool = False
    name: str | None = None
    operation_id: str | None = None
    after: str | None = None
    limit: int = 50


class Verbs(Protocol):
    """What a store can be asked, as programs. Each is one atomic operation, durable when its run returns.

    Running a program raises ``StoreUnavailable`` (transient, nothing is known), ``StoreCorrupt`` or ``SchemaMismatch``.
    """

    def claim(self, ask: Ask) -> Program[Verdict]:
        """Claim the checkpoint that ``ask`` names, or tell what stands in the way (C1, F1, C5, C6).

        What stands in the way is decided by :func:`~retrysafe.protocol.verdicts.judge`. Running it again with the
        same ``attempt_id`` while the lease runs returns the same claim (D4).
        """
        ...

    def reclaim(
        self, seen: Checkpoint, attempt_id: str, *, attempts: int, lease_seconds: float, backoff_seconds: float
    ) -> Program[Verdict | None]:
        """Take over or park an abandoned checkpoint, under the fence that the scan saw (R1, R8).

        Args:
            seen: the checkpoint as the scan saw it.
            attempt_id: UUIDv7 of the new attempt.
            attempts: how many attempts may die before the operation is parked.
            lease_seconds: lease of the new claim.
            backoff_seconds: how long the scan leaves the operation alone should this attempt die as well.

        Returns:
            ``Claimed``, ``Parked``, or None when it is no longer abandoned under that fence.
        """
        ...

    def renew(self, claims: Sequence[Claim]) -> Program[Sequence[Renewal]]:
        """Move the lease end of each claim to its ``lease_seconds`` from now, in one round trip (C3).

        "Now" is the store's.

        Returns:
            ``Held`` or ``Lost`` for each claim, in order.
        """
        ...

    def begin_stream(self, claim: Claim) -> Program[Receipt]:
        """Make it durable that the response begins to leave and that its body will not be kept (S5)."""
        ...

    def record(
        self, claim: Claim, outcome: bytes, *, retention_seconds: float, tombstone_seconds: float
    ) -> Program[Receipt]:
        """Record the encoded outcome and erase the stored request; final (S1, R13).

        Accepted from the attempt whose fence the checkpoint has, even when it was parked meanwhile. Again with the
        same fence after it is done: ``Written``, and the first outcome stays (D4).
        """
        ...

    def release(self, claim: Claim) -> Program[Receipt]:
        """Free the key for the same request; fingerprint, operation id and fence stay (S6)."""
        ...

    def park(self, claim: Claim, reason: str) -> Program[Receipt]:
        """Park the operation under its current fence, because its outcome is unknown."""
        ...

    def hand_over(self, claims: Sequence[Claim]) -> Program[None]:
        """End the leases of claims whose attempts have stopped, so that nobody waits for them to run out (C7)."""
        ...

    def read(self, digest: bytes) -> Program[Checkpoint | None]:
        """Read one checkpoint; for ``query``."""
        ...

    def abandoned(self, limit: int) -> Program[Sequence[Checkpoint]]:
        """List abandoned checkpoints that are due, oldest lease first, by the store's clock (R2); for ``query``."""
        ...

    def purge(self, limit: int) -> Program[Purged]:
        """Drop outcomes and tombstones whose retention is over, one batch; never open or parked operations (S10).

        Args:
            limit: how many checkpoints one batch may touch.
        """
        ...

    def listing(self, query: Query) -> Program[Sequence[Checkpoint]]:
        """List checkpoints for a person, newest first, without outcomes and requests; for ``query``."""
        ...


class Store(Protocol):
    """Checkpoints for threads; every method is safe to call from any thread, and again after a fork."""

    traits: Traits
    verbs: Verbs

    def open(self) -> Meta:
        """Connect, migrate if the store may, and return the store's meta row; safe to call again (K4).

        Raises:
            SchemaMismatch: the schema is newer than the code, or older and may not be migrated here.
            StoreUnavailable: the store cannot be reached or written.
            StoreCorrupt: the file is damaged.
        """
        ...

    def run(self, program: Factory[T]) -> T:
        """Run a program in one transaction and block until it is durable."""
        ...

    def query(self, program: Factory[T]) -> T:
        """Run a program that only reads, without waiting for writers."""
        ...

    def close(self) -> None:
        """Release connections and threads; safe to call again."""
        ...


class AsyncStore(Protocol):
    """The same checkpoints for event loops; every method may be awaited on any loop."""

    traits: Traits
    verbs: Verbs

    async def aopen(self) -> Meta:
        """Connect, migrate if the store may, and return the store's meta row; see :meth:`Store.open`."""
        ...

    async def arun(self, program: Factory[T]) -> T:
        """Run a program in one transaction and suspend until it is durable.

        A cancelled caller leaves the program running to its end: what was submitted may be durable.
        """
        ...

    async def aquery(self, program: Factory[T]) -> T:
        """Run a program that only reads, without waiting for writers."""
        ...

    async def aclose(self) -> None:
        """Release connections and threads; safe to call again."""
        ...
