"""The verbs of MySQL and MariaDB: those that all SQL databases share, and the few that these servers have no words for.

MySQL returns nothing from a write, and tells with no number whether ``ON DUPLICATE KEY UPDATE`` changed what it met:
there, rows are locked first, then read, then written. What lies on the way of every request is one statement each,
which tells the time by itself, and which a driver may run together with others.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from functools import cache, lru_cache
from types import MappingProxyType
from typing import Any

from msgspec.structs import replace

from retrysafe.protocol.effects import Receipt, Written
from retrysafe.protocol.encoding import decode_message
from retrysafe.protocol.model import Ask, Checkpoint, Claim, Message
from retrysafe.protocol.states import State
from retrysafe.protocol.steps import Memo, StepStatus
from retrysafe.protocol.verdicts import Claimed
from retrysafe.stores.base import Held, Lost, Outgoing, Renewal
from retrysafe.stores.decisions import memo_receipt, memoizable, receipt, replaces
from retrysafe.stores.instants import Instants
from retrysafe.stores.program import ALONE, Answer, Batch, Program, Statement, whole
from retrysafe.stores.rows import COLUMNS, checkpoint, memo_of
from retrysafe.stores.sql.base import chunks, right
from retrysafe.stores.sql.claims import first_claim
from retrysafe.stores.sql.purging import Purging
from retrysafe.stores.sql.recovery import SQLVerbs
from retrysafe.stores.sql.statements import Statements

_NUMBERED = re.compile(r"\?(\d+)")
_DIGEST = COLUMNS.index("digest")
_PURGED_BY = MappingProxyType({"purge_memos": "operation_id"})


@cache
def statements() -> Statements:
    """Read the ``queries.sql`` files once per process."""
    return Statements("retrysafe.stores.mysql")


_ENTER = Batch("enter", 1)
# What names its row stands at the end, as the statement has it.
_FINISH = Batch("finish", -3)
BATCHES = (_ENTER, _FINISH)
"""What is run together with others."""


class MySQLVerbs(SQLVerbs):
    """What the store can be asked."""

    def __init__(self, instants: Instants | None = None) -> None:
        """Use the server's clock (C2), or, in a test, another one."""
        super().__init__(statements(), instants or _ServerInstants())
        self._purging = _Purging(statements())
        self._by_server = instants is None
        self._enters = statements().with_asked("enter", "entry")

    @whole
    def read(self, digest: bytes) -> Program[Checkpoint | None]:
        """Read one checkpoint, with the time, in one statement."""
        answer = yield Statement(self._sql["look"], ((yield from self._told()), digest), ALONE)
        return _met(answer.rows[0]) if answer.rows else None

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
        found = yield Statement(self._sql["lock_memo"], (claim.operation_id, memo.name, memo.index))
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

    def _told(self) -> Program[float | None]:
        """Return the instant that a statement is given: none, as it knows by itself."""
        return None if self._by_server else (yield from self._now())

    def _enter(self, ask: Ask) -> Program[Claimed | Checkpoint | None]:
        """Make the checkpoint, or read the one that is there."""
        identity = ask.identity
        terms = (
            identity.digest,
            ask.mode.value,
            ask.lease_seconds,
            ask.tombstone_seconds,
            ask.attempt_id,
            ask.name,
            identity.namespace,
            identity.principal,
            identity.key_hint,
            ask.fingerprint.stored,
            ask.request,
            ask.version,
            (yield from self._told()),
        )
        answer = yield Statement(self._enters, terms, _ENTER)
        if answer.changed:
            return first_claim(ask)
        # Together with others, what is there was read already.
        return _met(answer.rows[0]) if answer.rows else (yield from self.read(identity.digest))

    def _finish(
        self, claim: Claim, outcome: bytes, retention_seconds: float, tombstone_seconds: float
    ) -> Program[Receipt]:
        """Record an outcome without messages."""
        now = yield from self._told()
        terms = (now, now, retention_seconds, now, tombstone_seconds, outcome, *right(claim))
        answer = yield Statement(self._sql["finish"], terms, _FINISH)
        if answer.changed:
            return Written()
        return receipt((yield from self.read(claim.digest)), claim, State.DONE)

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


class _Purging(Purging):
    """Chooses rows before it purges them: only a SELECT passes by what is locked."""

    def _drop(self, name: str, terms: Sequence[Any]) -> Program[int]:
        chosen = yield Statement(self._sql[f"choose_to_{name}"], terms)
        if not chosen.rows:
            return 0
        text = self._sql.with_conditions(name, (_among(_PURGED_BY.get(name, "number"), len(chosen.rows)),))
        answer = yield Statement(text, [row[0] for row in chosen.rows])
        return answer.changed


class _ServerInstants:
    """The server's clock, asked inside each transaction; skew between application hosts changes nothing (C2)."""

    def now(self) -> Program[float]:
        """Return the store's time."""
        answer = yield Statement(statements()["now"])
        [(now,)] = answer.rows
        return float(now)


def together(batch: Batch, asked: Sequence[Statement]) -> Program[Sequence[Answer | None]]:
    """Run the same statement of several programs as one; None for each that must be run by itself."""
    if len(asked) == 1:
        return [(yield asked[0])]
    return (yield from (_enter_all(asked) if batch == _ENTER else _finish_all(asked)))


def _enter_all(asked: Sequence[Statement]) -> Program[Sequence[Answer | None]]:
    sql, digests = statements(), [statement.parameters[0] for statement in asked]
    look = sql.with_conditions("look_at_all", (_among("digest", len(digests)),))
    answer = yield Statement(look, (asked[0].parameters[-1], *digests))
    met = {row[_DIGEST]: Answer(rows=(row,)) for row in answer.rows}
    new = [statement.parameters for statement in asked if statement.parameters[0] not in met]
    made: Answer | None = None
    if new:
        rows = _repeated(f"({sql['entry']})", ", ", len(new), len(new[0]))
        inserted = yield Statement(f"{sql['enter_all']} {rows}", [term for terms in new for term in terms])
        # One that somebody else was faster with takes all the others along.
        made = Answer(changed=1) if inserted.changed else None
    return [met.get(digest, made) for digest in digests]


def _finish_all(asked: Sequence[Statement]) -> Program[Sequence[Answer | None]]:
    sql, width = statements(), len(asked[0].parameters)
    rows = _repeated(f"SELECT {sql['ending']}", " UNION ALL ", len(asked), width)
    text = _filled("finish_all", rows)
    answer = yield Statement(text, [term for statement in asked for term in statement.parameters])
    # Which one was refused is not told. Each may ask again, and is told that it is written (D4).
    return [Answer(changed=1) if answer.changed == len(asked) else None] * len(asked)


@lru_cache(maxsize=1024)
def _repeated(text: str, between: str, times: int, width: int) -> str:
    """Repeat a text with numbered placeholders, so that each copy takes the next parameters."""

    def copy(first: int) -> str:
        return _NUMBERED.sub(lambda found: f"?{int(found[1]) + first}", text)

    return between.join(copy(number * width) for number in range(times))


@lru_cache(maxsize=512)
def _filled(name: str, rows: str) -> str:
    return statements()[name].replace("$rows", rows)


def _met(row: Sequence[Any]) -> Checkpoint:
    """Decode a row that ends with the time."""
    *values, now = row
    return checkpoint(values, now)


def _among(column: str, number: int) -> str:
    return f"{column} IN ({', '.join(['?'] * number)})"
