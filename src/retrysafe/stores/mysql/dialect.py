"""The verbs of MySQL and MariaDB: those that all SQL databases share, and the few that these servers have no words for.

MySQL returns nothing from a write, and tells with no number whether ``ON DUPLICATE KEY UPDATE`` changed what it met:
there, rows are locked first, then read, then written.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from functools import cache
from typing import Any

from msgspec.structs import replace

from retrysafe.protocol.effects import Receipt, Written
from retrysafe.protocol.encoding import decode_message
from retrysafe.protocol.model import Claim, Message
from retrysafe.protocol.steps import Memo, StepStatus
from retrysafe.stores.base import Held, Lost, Outgoing, Renewal
from retrysafe.stores.decisions import memo_receipt, memoizable, replaces
from retrysafe.stores.program import Program, Statement
from retrysafe.stores.rows import memo_of
from retrysafe.stores.sql.base import Instants, chunks, right
from retrysafe.stores.sql.recovery import SQLVerbs
from retrysafe.stores.sql.statements import Statements


@cache
def statements() -> Statements:
    """Read the ``queries.sql`` files once per process."""
    return Statements("retrysafe.stores.mysql")


class MySQLVerbs(SQLVerbs):
    """What the store can be asked."""

    def __init__(self, instants: Instants | None = None) -> None:
        """Use the server's clock (C2), or, in a test, another one."""
        super().__init__(statements(), instants or _ServerInstants())

    def renew(self, claims: Sequence[Claim]) -> Program[Sequence[Renewal]]:
        """Move the lease end of each claim that is still held, without waiting for what is locked (C3, C4)."""
        now = yield from self._now()
        held: set[bytes] = set()
        for some in chunks(claims):
            ours = {right(claim): claim.lease_seconds for claim in some}
            free = yield from self._found("lock_free", [claim.digest for claim in some])
            by_lease: defaultdict[float, list[bytes]] = defaultdict(list)
            for place, _ in free:
                if place in ours:
                    by_lease[ours[place]].append(place[0])
            for lease_seconds, digests in by_lease.items():
                until = now + lease_seconds
                text = self._sql.with_conditions("prolong", (_among("digest", len(digests)),))
                yield Statement(text, (until, until, *digests))
                held.update(digests)
            seen = {place[0] for place, _ in free}
            locked = [claim.digest for claim in some if claim.digest not in seen]
            if locked:
                # What is locked by a transaction of our own counts as held while its lease runs.
                found = yield from self._found("look_at_locked", locked)
                held.update(place[0] for place, lease_until in found if place in ours and lease_until > now)
        return [Held() if claim.digest in held else Lost() for claim in claims]

    def hand_over(self, claims: Sequence[Claim]) -> Program[None]:
        """End the leases of claims whose attempts have stopped, 200 claims to a statement (C7)."""
        now = yield from self._now()
        for some in chunks(claims):
            rights = " OR ".join([self._sql["right"]] * len(some))
            terms = [term for claim in some for term in right(claim)]
            yield Statement(self._sql.with_conditions("hand_over", (f"({rights})",)), (now, now, *terms, now))

    def memoize(self, claim: Claim, memo: Memo, messages: Sequence[Message] = ()) -> Program[Receipt]:
        """Write a memo under the fence, which is locked before the memo is looked at (R5, I2, I3)."""
        now = yield from self._now()
        memo = replace(memo, fence=claim.fence)
        locks = self._sql.with_states("lock_for_memo", memoizable(memo))
        locked = yield Statement(locks, right(claim))
        found = yield Statement(self._sql["memo"], (claim.operation_id, memo.name, memo.index))
        there = memo_of(found.rows[0]) if found.rows else None
        if not locked.rows or not replaces(there, memo):
            return memo_receipt((yield from self.read(claim.digest)), claim, there, memo)
        yield self._put(claim, memo, there, now)
        if messages:
            yield from self._enqueue(claim, messages, now)
        return Written()

    def take_messages(self, limit: int, lease_seconds: float) -> Program[Sequence[Outgoing]]:
        """Take messages that are due, oldest first (R12)."""
        now = yield from self._now()
        answer = yield Statement(self._sql["due_messages"], (now, limit))
        places = [row[0] for row in answer.rows]
        if places:
            text = self._sql.with_conditions("put_off_messages", (_among("place", len(places)),))
            yield Statement(text, (now + lease_seconds, *places))
        return [Outgoing(operation, number, decode_message(record)) for _, operation, number, record in answer.rows]

    def _found(self, name: str, digests: Sequence[bytes]) -> Program[list[tuple[tuple[bytes, str, int], float]]]:
        """Read what is open among checkpoints: what a write has to prove, and when the lease ends."""
        answer = yield Statement(self._sql.with_conditions(name, (_among("digest", len(digests)),)), tuple(digests))
        return [((digest, operation_id, fence), until) for digest, operation_id, fence, until in answer.rows]

    def _put(self, claim: Claim, memo: Memo, there: Memo | None, now: float) -> Statement:
        ended_at = None if memo.status is StepStatus.INTENT else now
        place = (claim.operation_id, memo.name, memo.index)
        if there is not None:
            timeout_seconds = there.timeout_seconds
            if memo.status is StepStatus.INTENT:
                # Counted from the first call, which may still be under way.
                timeout_seconds = max(timeout_seconds, now - (there.began_at or now) + memo.timeout_seconds)
            changed = (timeout_seconds, memo.status.value, memo.fence, memo.value, ended_at)
            return Statement(self._sql["change_memo"], (*changed, *place))
        values: tuple[Any, ...] = (
            memo.seq,
            memo.kind.value,
            memo.status.value,
            memo.fence,
            memo.value,
            memo.undo,
            memo.arguments,
            memo.timeout_seconds,
            now,
            ended_at,
        )
        return Statement(self._sql["add_memo"], (*place, *values))


class _ServerInstants:
    """The server's clock, asked inside each transaction; skew between application hosts changes nothing (C2)."""

    def now(self) -> Program[float]:
        """Return the store's time."""
        answer = yield Statement(statements()["now"])
        [(now,)] = answer.rows
        return float(now)


def _among(column: str, number: int) -> str:
    return f"{column} IN ({', '.join(['?'] * number)})"
