"""What a store declares about itself, and what it was given at its creation."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

import msgspec


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
    PERIODIC = "periodic"
    """The end of its server; power loss of its node, but for the latest second or two."""
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
    AT_ONCE = "at once"
    """What is asked on an event loop is answered without a suspension: it can't be cancelled half-way."""


class Traits(msgspec.Struct, frozen=True):
    """What a store declares about itself; an operation that needs more is refused at construction (D3).

    Attributes:
        name: of the kind of store.
        clock: whose instants it compares (C2).
        durability: what its acknowledged write survives.
        capabilities: what it can do beyond its verbs.
        forgetful: set where the store's server may end while the application lives, and forget what it acknowledged:
            one sentence with the fix. The effects of steps and of transactions outlive that, and nobody would know of
            them: these modes are refused.
        margin_seconds: by how much the clocks of its processes may differ; with ``Clock.MARGIN`` the store adds it to
            every lease that it writes, so that a process whose clock is ahead by as much takes nothing over too early.
    """

    name: str
    clock: Clock
    durability: Durability
    capabilities: frozenset[Capability]
    forgetful: str | None = None
    margin_seconds: float = 0.0


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
