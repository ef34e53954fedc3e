"""A checkpoint with everything that belongs to its operation: memos, messages that wait, lines of the audit."""

from __future__ import annotations

from math import inf
from typing import Any

import msgspec
from msgspec.structs import astuple

from retrysafe.protocol.model import Checkpoint, Mode
from retrysafe.protocol.operator import Audit
from retrysafe.protocol.states import State
from retrysafe.protocol.steps import PIVOT, Memo, Place
from retrysafe.stores.base import Outgoing
from retrysafe.stores.rows import COLUMNS, PURGEABLE


class Sending(msgspec.Struct, array_like=True):
    """A message in the outbox.

    Attributes:
        outgoing: the message.
        due_at: when it is due to leave.
        number: grows with each write that told something, of all operations: the order in which messages leave.
    """

    outgoing: Outgoing
    due_at: float
    number: int


class Row(msgspec.Struct, array_like=True, gc=False):
    """A checkpoint that changes in place; see :class:`~retrysafe.protocol.model.Checkpoint`.

    Fields are only ever added at the end, each with its default, so that what an older release wrote can be read.
    """

    digest: bytes
    operation_id: str
    name: str
    mode: Mode
    state: State
    namespace: str
    principal: str
    key_hint: str
    fingerprint: bytes
    fence: int
    attempt: int
    deaths: int
    attempt_id: str
    created_at: float
    lease_until: float
    due_at: float
    finished_at: float | None
    outcome_until: float | None
    tombstone_until: float
    outcome: bytes | None
    request: bytes | None
    reason: str | None
    version: int
    undoing: bool
    number: int
    """Grows with each new checkpoint."""
    next_hint_at: float = 0.0
    """Until then somebody was told about it (R2)."""
    messages: int = 0
    """How many messages its operation has sent in all."""
    memos: dict[Place, Memo] = {}
    """By place; each row has its own."""
    outbox: tuple[Sending, ...] = ()
    """Messages that have not left, also of an operation that had the key before this one (R12)."""
    audit: tuple[Audit, ...] = ()
    """What persons did that is not in the audit yet; its lines get their number there (R10)."""
    gone: bool = False
    """The checkpoint is deleted; only its outbox and its audit are still there."""

    @property
    def pivoted(self) -> bool:
        """Tell whether the operation has passed the point after which it is never undone (R7)."""
        return (PIVOT, 0) in self.memos

    def seen(self, now: float) -> Checkpoint:
        """Return the checkpoint as it is at ``now`` of the store's clock."""
        values: list[Any] = [*astuple(self)[: len(COLUMNS)], now]
        return Checkpoint(*values)

    def become(self, checkpoint: Checkpoint) -> None:
        """Take every stored field of a checkpoint over."""
        for column in COLUMNS:
            setattr(self, column, getattr(checkpoint, column))

    def purge_at(self) -> float:
        """When a purge would find work here; never, while it is open or parked (S10)."""
        if self.state not in PURGEABLE or self.gone:
            return inf
        if self.outcome is None or self.outcome_until is None:
            return self.tombstone_until
        return min(self.outcome_until, self.tombstone_until)
