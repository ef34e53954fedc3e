"""What a store must be able to do so that the verbs work on it.

A driver is a :class:`Port` or an :class:`AsyncPort`; ``statements.py`` makes the function of it that runs programs.

**The document is the truth.** It is written whole, under compare-and-set: a change is carried out only if the document
has the revision that the change names, or is not there when it names none. Everything that a verb promises stands in
that one write: state, fence, memos, messages that have yet to leave, lines that the audit does not have yet.

**Indexes only find documents**, and are checked against them. :class:`Facts` says which indexes a document belongs in,
and at which instant each. A store that can writes them together with the document. One that cannot must see to it that
an index may show too much, and never too little, whenever a process dies:

- what the facts *after* a change need is written **before** the document: entries that are missing, and instants that
  become earlier;
- what they no longer need is taken away **after** it, at leisure and only if no later change may need it. An entry that
  is left over costs a look at its document; so does one whose instant is too early.

An index may also be late, as long as it gets there: what is found later is recovered later. Nothing else depends on
one, and each can be made anew from the documents.

**The audit** is written twice: the line enters its document together with what it tells of, and is then copied to the
audit under an id of its own, where a second copy changes nothing, and dropped from the document. In between, and should
the process die there, the index ``audit`` finds it.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from typing import Any, Final, Literal, NamedTuple, Protocol, cast

from retrysafe.protocol.states import LEASED, State
from retrysafe.stores.documents.row import Row

Index = Literal["open", "purge", "outbox", "audit"]
"""``open``: in flight, abandoned or parked. ``purge``: retention will drop something. ``outbox``: messages wait to be
sent. ``audit``: lines wait to be copied."""

INDEXES: Final[tuple[Index, ...]] = ("open", "purge", "outbox", "audit")

Place = Any
"""Where a page ended; only the driver that gave it knows what it is."""


class Facts(NamedTuple):
    """What the indexes must know of a document.

    Instants are seconds by the store's clock; None is "not in this index", and infinity "in it, and never due".

    Attributes:
        number: grows with each new checkpoint: the order of listings. In a process each is greater than the one before;
            of several processes, the later one by the store's clock.
        operation_id: which operation it is.
        open_at: when a scan would find it.
        purge_at: when a purge would find work here.
        outbox_at: when its first message is due.
        audit_at: since when a line waits to be copied.
        forget_at: when all of it may be dropped, by a time to live of the store's own, say: its tombstone is over, and
            nothing waits to leave. None while it is open or parked (S10), or anything waits.
    """

    number: int
    operation_id: str
    open_at: float | None
    purge_at: float | None
    outbox_at: float | None
    audit_at: float | None
    forget_at: float | None

    def at(self, index: Index) -> float | None:
        """Return the instant under which an index has the document."""
        return cast("float | None", self[2 + INDEXES.index(index)])


class Change(NamedTuple):
    """One write of a document, carried out if and only if nobody else wrote it since it was read.

    Attributes:
        digest: which document.
        revision: what it must have; None: it must not be there.
        body: what it becomes; None: it is deleted.
        before: the facts of what is there, None for nothing.
        after: the facts of what it becomes, None for nothing.
        now: when it was decided, by the store's clock.
    """

    digest: bytes
    revision: Any
    body: bytes | None
    before: Facts | None
    after: Facts | None
    now: float


class Loaded(NamedTuple):
    """A document as it was read."""

    digest: bytes
    body: bytes
    revision: Any


class Found(NamedTuple):
    """What an index has.

    Attributes:
        digest: of a document that may belong here.
        place: for the next page.
    """

    digest: bytes
    place: Place


class Shown(NamedTuple):
    """A document in a listing, and the place for the next page."""

    body: bytes
    place: Place


class Line(NamedTuple):
    """A line of the audit."""

    number: int
    body: bytes


class Port(Protocol):
    """What a store can do, for threads.

    Every method raises :class:`~retrysafe.errors.StoreUnavailable` when nothing is known about what became of it; the
    program is then run again, and tells (D4).
    """

    def load(self, digests: Sequence[bytes]) -> Sequence[Loaded]:
        """Read documents as they are now, those that are there; in one round trip, if it can be had."""
        ...

    def write(self, changes: Sequence[Change]) -> Sequence[Any]:
        """Carry out changes, each by itself, of documents that differ; durable when it returns.

        Returns:
            For each its new revision (anything but None, also for a deletion), or None: somebody else was faster.
        """
        ...

    def find(self, index: Index, by: float, after: Place | None, limit: int) -> Sequence[Found]:
        """List what an index has up to an instant, the earliest first, from behind a place.

        It may show what does not belong there. Fewer than ``limit`` means that there is no more.
        """
        ...

    def newest(self, after: Place | None, limit: int) -> Sequence[Shown]:
        """List all documents by their number, the greatest first, from behind a place; fewer than ``limit``: no more.

        It need not be as of one moment.
        """
        ...

    def append(self, line_id: str, operation_id: str, body: bytes) -> None:
        """Add a line to the audit, durably; one whose id is there already changes nothing."""
        ...

    def lines(self, operation_id: str | None, limit: int) -> Sequence[Line]:
        """List the audit, newest first, of one operation or of all; numbers grow with each line."""
        ...


class AsyncPort(Protocol):
    """What a store can do, for an event loop; see :class:`Port`."""

    async def load(self, digests: Sequence[bytes]) -> Sequence[Loaded]:
        """Read documents."""
        ...

    async def write(self, changes: Sequence[Change]) -> Sequence[Any]:
        """Carry out changes."""
        ...

    async def find(self, index: Index, by: float, after: Place | None, limit: int) -> Sequence[Found]:
        """List what an index has."""
        ...

    async def newest(self, after: Place | None, limit: int) -> Sequence[Shown]:
        """List all documents."""
        ...

    async def append(self, line_id: str, operation_id: str, body: bytes) -> None:
        """Add a line to the audit."""
        ...

    async def lines(self, operation_id: str | None, limit: int) -> Sequence[Line]:
        """List the audit."""
        ...


def facts_of(row: Row) -> Facts:
    """Tell what the indexes must know of a document."""
    open_at = purge_at = outbox_at = audit_at = forget_at = None
    if not row.gone:
        if row.state in LEASED:
            open_at = max(row.lease_until, row.due_at)
        elif row.state is State.PARKED:
            open_at = inf
        else:
            purge_at = row.purge_at()
    if row.outbox:
        outbox_at = min(sending.due_at for sending in row.outbox)
    if row.audit:
        audit_at = min(line.at for line in row.audit)
    if purge_at is not None and not row.outbox and not row.audit:
        forget_at = row.tombstone_until
    return Facts(row.number, row.operation_id, open_at, purge_at, outbox_at, audit_at, forget_at)
