"""The verbs of the outbox as programs (R12, I11).

A message waits in the document of its operation, so it is durable if and only if what it tells of is.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from heapq import nsmallest
from math import inf
from threading import Lock

from retrysafe.stores.base import Outgoing
from retrysafe.stores.documents import upkeep
from retrysafe.stores.documents.claims import AttemptVerbs
from retrysafe.stores.documents.ledger import Candidate, Task, known_of
from retrysafe.stores.documents.row import Row, Sending
from retrysafe.stores.instants import Instants
from retrysafe.stores.program import Program

_ENOUGH = 500
"""So many documents with something to send are enough to choose the oldest messages from."""
_MOST_REMEMBERED = 10_000
_NOTHING: list[Sending] = []


class OutboxVerbs(AttemptVerbs):
    """Messages on their way."""

    def __init__(self, instants: Instants, margin_seconds: float = 0.0) -> None:
        """Use a clock.

        Args:
            instants: the store's clock.
            margin_seconds: by how much those of other processes may be ahead.
        """
        super().__init__(instants, margin_seconds)
        self._senders = _Senders()

    def start_over(self) -> None:
        """Forget what this process remembers, in a forked child."""
        super().start_over()
        self._senders = _Senders()

    def take_messages(self, limit: int, lease_seconds: float) -> Program[Sequence[Outgoing]]:
        """Take messages that are due, oldest first (R12)."""
        now = yield from self._now()
        found = yield from self._found("outbox", now, lambda row: bool(upkeep.due_messages(row, now)), _ENOUGH)
        due = (sending for each in found for sending in upkeep.due_messages(each.row, now))
        wanted = {_id(sending) for sending in nsmallest(limit, due, key=_order)}

        def act(row: Row | None, now: float) -> tuple[Row | None, list[Sending]]:
            taken = [] if row is None else [each for each in upkeep.due_messages(row, now) if _id(each) in wanted]
            for sending in taken:
                sending.due_at = now + lease_seconds
            return row, taken

        chosen = [each for each in found if _has_any(each.row, wanted)]
        taken = yield from self._change_each(
            [Task(each.met.digest, act, (_NOTHING,)) for each in chosen], known_of(chosen)
        )
        self._senders.remember(chosen)
        return [sending.outgoing for sending in sorted((each for some in taken for each in some), key=_order)]

    def sent_messages(self, sent: Sequence[Outgoing]) -> Program[None]:
        """Delete messages that have left (R12)."""
        gone = {(message.operation_id, message.number) for message in sent}

        def act(row: Row | None, now: float) -> tuple[Row | None, None]:  # noqa: ARG001 - as every act
            if row is not None:
                row.outbox = tuple(each for each in row.outbox if _id(each) not in gone)
            return row, None

        digests = self._senders.of({operation_id for operation_id, _ in gone})
        if digests is None:
            # Another process took them.
            found = yield from self._found("outbox", inf, lambda row: _has_any(row, gone), len(gone))
            digests = {each.met.digest for each in found}
        yield from self._change_each([Task(digest, act, (None,)) for digest in sorted(digests)], {})


class _Senders:
    """Which documents messages came from that this process has taken; an operation's is always the same."""

    def __init__(self) -> None:
        self._digests: OrderedDict[str, bytes] = OrderedDict()
        self._guard = Lock()

    def remember(self, chosen: Sequence[Candidate]) -> None:
        with self._guard:
            for each in chosen:
                for sending in each.row.outbox:
                    self._digests[sending.outgoing.operation_id] = each.met.digest
            while len(self._digests) > _MOST_REMEMBERED:
                self._digests.popitem(last=False)

    def of(self, operations: set[str]) -> set[bytes] | None:
        """Return their documents; None when not all are known."""
        with self._guard:
            found = {self._digests.get(operation_id) for operation_id in operations}
        return None if None in found else {digest for digest in found if digest is not None}


def _id(sending: Sending) -> tuple[str, int]:
    return sending.outgoing.operation_id, sending.outgoing.number


def _order(sending: Sending) -> tuple[int, int]:
    return sending.number, sending.outgoing.number


def _has_any(row: Row, ids: set[tuple[str, int]]) -> bool:
    return any(_id(sending) in ids for sending in row.outbox)
