"""The contract of a store: its verbs, the two ways to run them, and what it declares about itself.

A store brings *verbs*, written once as programs (``program.py``), and a way to run a program for threads (``Store``),
for event loops (``AsyncStore``) or for both. Nothing else differs between sync and async, so nothing else can drift.

Every write carries its claim and is refused, as a value, when the fence differs (C4). Instants are the store's own
(C2). A run that raises :class:`~retrysafe.errors.StoreUnavailable` says nothing about whether it happened; every verb
may be run again with the same arguments and then tells (D4).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Protocol, TypeVar

import msgspec

from retrysafe.protocol.effects import Receipt
from retrysafe.protocol.model import Ask, Checkpoint, Claim, Limits, Message, Mode
from retrysafe.protocol.operator import Audit, Intervention, Refusal
from retrysafe.protocol.states import State
from retrysafe.protocol.steps import History, Memo
from retrysafe.protocol.verdicts import Verdict
from retrysafe.stores.program import Factory, Program
from retrysafe.stores.traits import Capability, Clock, Durability, Meta, Traits

# What is given on from ``traits.py``.
__all__ = ["Capability", "Clock", "Durability", "Meta", "Traits"]

T = TypeVar("T")


class Held(msgspec.Struct, frozen=True, gc=False):
    """The claim was renewed; its lease ends ``lease_seconds`` after the renewal was received."""


class Lost(msgspec.Struct, frozen=True, gc=False):
    """The claim is not ours any more, or the operation is no longer open: the attempt must stop."""


Renewal = Held | Lost


class Purged(msgspec.Struct, frozen=True, gc=False):
    """What one purge batch did.

    Attributes:
        expired: outcomes dropped, tombstones kept.
        deleted: tombstones deleted.
        more: True when another batch would find work right now.
    """

    expired: int
    deleted: int
    more: bool


class Terms(msgspec.Struct, frozen=True, gc=False):
    """On which terms recovery takes an abandoned operation over.

    Attributes:
        attempt_id: UUIDv7 of the new attempt.
        limits: how long recovery goes on by itself (R8).
        lease_seconds: lease of the new claim.
        backoff_seconds: how long the scan leaves the operation alone should this attempt die as well.
    """

    attempt_id: str
    limits: Limits
    lease_seconds: float
    backoff_seconds: float


class Wanted(msgspec.Struct, frozen=True):
    """Which abandoned operations whoever asks can do something about.

    Those of mode ``once`` always: parking them needs nothing of their application.

    Attributes:
        namespace: of the application that asks.
        modes: of its namespace, only these modes.
        names: of its namespace, only operations of these names, and what is being undone; None is all.
    """

    namespace: str
    modes: frozenset[Mode]
    names: frozenset[str] | None = None


class Outgoing(msgspec.Struct, frozen=True, gc=False):
    """A message in the outbox, on its way (R12).

    Attributes:
        operation_id: which operation sends it.
        number: which of its messages, from 1.
        message: what it says.
    """

    operation_id: str
    number: int
    message: Message

    @property
    def id(self) -> str:
        """What a consumer tells repeats by: ``operation:n``."""
        return f"{self.operation_id}:{self.number}"


class Query(msgspec.Struct, frozen=True, gc=False):
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

    def reclaim(self, seen: Checkpoint, terms: Terms) -> Program[Verdict | None]:
        """Take over or park one abandoned checkpoint, under the fence that was seen (R1, R8).

        Returns:
            ``Claimed``, ``Parked``, or None when it is no longer abandoned under that fence.
        """
        ...

    def dispatch(self, wanted: Wanted, limit: int) -> Program[Sequence[Checkpoint]]:
        """List abandoned operations that are due, oldest lease first, each to one asker; note that it has them (R2).

        Any number of processes may ask at once: nobody waits for what another is just noting (``SKIP LOCKED``, where
        the database has it), and no two get the same. The note grants nothing: who wants to act must win the claim
        (R1). It holds for as long as the operation has been due, at least 1 s and at most 5 min, and until the next
        claim; so what was never claimed is listed again, less and less often, and hides nothing behind it.
        With requests.
        """
        ...

    def trail(self, digest: bytes) -> Program[History | None]:
        """Read a checkpoint and every memo of its operation, as of one moment (R4)."""
        ...

    def memoize(self, claim: Claim, memo: Memo, messages: Sequence[Message] = ()) -> Program[Receipt]:
        """Write a memo under the fence (R5, I2, I3).

        An intent may become ``DONE`` or ``REFUSED``; what is one of these never changes: the same memo again is
        ``Written`` (D4), another one ``Superseded``. Forward intents and the pivot need a running operation. Whoever
        holds the fence of a parked one may still write what its step gave.
        ``began_at`` and ``ended_at`` are the store's to write. A local step's messages enter the outbox with it (I11).
        """
        ...

    def postpone(self, claim: Claim, seconds: float, reason: str) -> Program[Receipt]:
        """End our own lease and make the operation due in ``seconds``; its state stays (R8).

        Whoever takes it over then counts this attempt as dead.
        """
        ...

    def begin_undo(self, claim: Claim, reason: str, outcome: bytes | None) -> Program[Receipt]:
        """Undo from now on: no forward step begins any more, attempts are counted anew, the lease goes on (R7, I9).

        Args:
            claim: the right to.
            reason: why.
            outcome: what the operation answered, kept as the outcome that it will have.
        """
        ...

    def intervene(self, seen: Checkpoint, intervention: Intervention) -> Program[Checkpoint | Refusal]:
        """Carry out what a person decided, raise the fence, and write the audit; all or nothing (R10).

        Decided by :func:`~retrysafe.protocol.operator.judge_intervention`. A settled operation's request is erased.

        Returns:
            The checkpoint as it is now, or why the verb does not fit.
        """
        ...

    def audit(self, operation_id: str | None, limit: int) -> Program[Sequence[Audit]]:
        """List what persons did, newest first, to one operation or to all; for ``query`` (R10)."""
        ...

    def take_messages(self, limit: int, lease_seconds: float) -> Program[Sequence[Outgoing]]:
        """Take messages that are due to be sent, oldest first, and nobody else for ``lease_seconds`` (R12).

        The messages of one operation are taken in their order, as long as none has to be sent again.
        """
        ...

    def sent_messages(self, sent: Sequence[Outgoing]) -> Program[None]:
        """Delete messages that have left; safe to repeat (R12)."""
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
        self,
        claim: Claim,
        outcome: bytes,
        *,
        retention_seconds: float,
        tombstone_seconds: float,
        undone: bool = False,
        messages: Sequence[Message] = (),
    ) -> Program[Receipt]:
        """Record the encoded outcome and erase the stored request; final (S1, R13).

        ``undone`` leads to ``UNDONE``, from ``UNDOING`` only. The messages enter the outbox in the same transaction,
        numbered on from those of the operation's local steps (R12, I11).

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

        The memos of an operation go with its outcome, or with its tombstone.

        Args:
            limit: how many checkpoints one batch may touch.
        """
        ...

    def listing(self, query: Query) -> Program[Sequence[Checkpoint]]:
        """List checkpoints for a person, newest first, without outcomes and requests; for ``query``."""
        ...


class Notifier(Protocol):
    """What a store is as well that declares ``Capability.NOTIFY``: it tells of outcomes of other processes (S9)."""

    def watch(self, digest: bytes, seconds: float, wake: Callable[[], None]) -> AbstractContextManager[None]:
        """Have ``wake`` called when an operation has its outcome, as long as the context is open; never blocks.

        It may be called too often, and it may be called never, as when a connection was lost: whoever waits looks now
        and then as well, and claims again when it is woken (C6).

        Args:
            digest: of the operation's identity.
            seconds: how long it is waited for at most.
            wake: may be called from any thread.
        """
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
