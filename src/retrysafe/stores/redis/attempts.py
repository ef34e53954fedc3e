"""The verbs of an attempt: one script each, which compares the fence inside the server (C4).

Only what stands in the way of a claim is decided here, by the functions that all stores share, and carried out by a
second script if the checkpoint is still the one that was read.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from msgspec.structs import replace

from retrysafe.protocol.effects import Receipt, Superseded, Written
from retrysafe.protocol.encoding import encode_message
from retrysafe.protocol.model import Ask, Checkpoint, Claim, Message
from retrysafe.protocol.states import LEASED, State, sources
from retrysafe.protocol.steps import PIVOT, History, Memo
from retrysafe.protocol.verdicts import Claimed, Verdict
from retrysafe.stores.base import Held, Lost, Renewal, Terms
from retrysafe.stores.decisions import memo_receipt, memoizable, receipt
from retrysafe.stores.documents import attempts
from retrysafe.stores.program import Program, Statement
from retrysafe.stores.redis.calls import Call, Keys, Reply, Stamp, Words, ask_all, servers_time
from retrysafe.stores.redis.layout import (
    STATE_CODES,
    STATUS_CODES,
    Met,
    memo_field,
    pack,
    pack_id,
    pack_memo,
    pack_new,
    states,
    unpack,
    unpack_memo,
)

_BEFORE = {target: states(sources(target)) for target in State}
_LEASED = states(LEASED)
_RUNNING = states({State.RUNNING})
_KEEP, _NONE, _SET = "k", "n", "s"


class Change(NamedTuple):
    """What a write changes, as ``scripts/write.lua`` takes it; by default nothing but the state.

    Attributes:
        allowed: the states that it may leave, if not all from which the new one can be reached.
        lease: when the lease ends, in seconds from now.
        due: when the scan may look at it, in seconds from now; with a lease.
        deaths: 1 to count attempts anew.
        reason_how: k to keep the reason, n for none, s for this one; and so on.
    """

    allowed: str = ""
    lease: float | str = ""
    due: float | str = ""
    deaths: str = "0"
    reason_how: str = _KEEP
    reason: str = ""
    request_how: str = _KEEP
    outcome_how: str = _KEEP
    outcome: bytes = b""


_NOTHING = Change()


class AttemptVerbs:
    """Claims, and what their attempts write.

    Args:
        keys: where everything lies.
        stamp: whose time it is.
    """

    def __init__(self, keys: Keys, stamp: Stamp = servers_time) -> None:
        self._keys = keys
        self._stamp = stamp

    def claim(self, ask: Ask) -> Program[Verdict]:
        """Claim the checkpoint, or tell what stands in the way (C1, F1, C5, C6)."""
        digest = ask.identity.digest
        keys = self._keys.bucket(digest).of(digest)
        front, back, packed_id = pack_new(ask)
        call = Call("claim", keys, (self._stamp(), front, back, packed_id, ask.lease_seconds, ask.tombstone_seconds))
        while True:
            answer = yield Statement("", (call,))
            [reply] = answer.rows
            if len(reply) == 1:
                return Claimed(
                    Claim(digest, ask.attempt_id, 1, 1, ask.mode, ask.name, ask.lease_seconds, version=ask.version)
                )
            met = unpack(reply[1], digest, float(reply[0]))
            before = met.row.fence, met.row.state
            row, verdict = attempts.claim(met.row, ask, met.now, 0)
            if row is not met.row:
                # Its tombstone is over: with it out of the way, whoever comes first begins anew (C6).
                yield from self._forget(met)
            elif before == (row.fence, row.state) or (yield from self._swap(met)):
                return verdict

    def reclaim(self, seen: Checkpoint, terms: Terms) -> Program[Verdict | None]:
        """Take over or park an abandoned checkpoint, under the fence that was seen (R1, R8)."""
        while True:
            met = yield from self._met(seen.digest)
            if met is None:
                return None
            before = met.row.fence, met.row.state
            verdict = attempts.reclaim(met.row, seen, terms, met.now)
            if before == (met.row.fence, met.row.state) or (yield from self._swap(met)):
                return verdict

    def renew(self, claims: Sequence[Claim]) -> Program[Sequence[Renewal]]:
        """Move the lease end of each claim that is still held (C3, C4)."""
        replies = yield from ask_all([self._renewal(claim, claim.lease_seconds, "0") for claim in claims])
        return [Held() if held else Lost() for (held,) in replies]

    def hand_over(self, claims: Sequence[Claim]) -> Program[None]:
        """End the leases of claims whose attempts have stopped (C7)."""
        yield from ask_all([self._renewal(claim, 0.0, "1") for claim in claims])

    def begin_stream(self, claim: Claim) -> Program[Receipt]:
        """Say that the response begins to leave (S5)."""
        return self._write(claim, State.STREAMING)

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
        """Record the outcome, erase the stored request, and put the messages into the outbox; final (S1, R13, I11)."""
        target = State.UNDONE if undone else State.DONE
        bucket = self._keys.bucket(claim.digest)
        keys: tuple[bytes, ...] = bucket.of(claim.digest)
        if messages:
            keys = (*keys, bucket.outbox[0], bucket.outbox[2])
        told: Words = (self._stamp(), pack_id(claim.operation_id), claim.fence, STATE_CODES[target], _BEFORE[target])
        said: Words = (retention_seconds, tombstone_seconds, outcome)
        arguments = (*told, *said, *map(encode_message, messages))
        answer = yield Statement("", (Call("record", keys, arguments),))
        return _receipt(answer.rows[0], claim, target)

    def release(self, claim: Claim) -> Program[Receipt]:
        """Free the key for the same request (S6). The request is erased: the next claim brings its own."""
        return self._write(claim, State.RELEASED, Change(request_how=_NONE))

    def park(self, claim: Claim, reason: str) -> Program[Receipt]:
        """Park the operation under its current fence."""
        return self._write(claim, State.PARKED, Change(reason_how=_SET, reason=reason))

    def postpone(self, claim: Claim, seconds: float, reason: str) -> Program[Receipt]:
        """End our own lease and make the operation due later (R8)."""
        return self._write(claim, None, Change(_LEASED, lease=0.0, due=seconds, reason_how=_SET, reason=reason))

    def begin_undo(self, claim: Claim, reason: str, outcome: bytes | None) -> Program[Receipt]:
        """Undo from now on (R7, I9)."""
        how = _NONE if outcome is None else _SET
        change = Change(_RUNNING, deaths="1", reason_how=_SET, reason=reason, outcome_how=how, outcome=outcome or b"")
        return self._write(claim, State.UNDOING, change)

    def memoize(self, claim: Claim, memo: Memo, messages: Sequence[Message] = ()) -> Program[Receipt]:
        """Write a memo under the fence (R5, I2, I3)."""
        memo = replace(memo, fence=claim.fence)
        bucket = self._keys.bucket(claim.digest)
        fresh, _, kept = bucket.outbox
        keys = (*bucket.of(claim.digest), bucket.memos + claim.digest, fresh, kept)
        answer = yield Statement(
            "",
            (
                Call(
                    "memoize",
                    keys,
                    (
                        self._stamp(),
                        pack_id(claim.operation_id),
                        claim.fence,
                        states(memoizable(memo)),
                        memo_field(memo.name, memo.index),
                        STATUS_CODES[memo.status],
                        memo.timeout_seconds,
                        memo.value or b"",
                        "0" if memo.value is None else "1",
                        pack_memo(memo),
                        "1" if memo.place == (PIVOT, 0) else "0",
                        *map(encode_message, messages),
                    ),
                ),
            ),
        )
        [reply] = answer.rows
        if not reply:
            return Written()
        stamp, record, there = reply
        met = unpack(record, claim.digest, float(stamp)).seen if record else None
        return memo_receipt(met, claim, unpack_memo(there) if there else None, memo)

    def trail(self, digest: bytes) -> Program[History | None]:
        """Read a checkpoint and every memo of its operation (R4)."""
        bucket = self._keys.bucket(digest)
        call = Call("read", (bucket.checkpoint + digest, bucket.memos + digest), (self._stamp(),))
        answer = yield Statement("", (call,))
        stamp, record, memos = answer.rows[0]
        if not record:
            return None
        found = sorted(map(unpack_memo, memos), key=lambda memo: memo.seq)
        return History(unpack(record, digest, float(stamp)).seen, tuple(found))

    def read(self, digest: bytes) -> Program[Checkpoint | None]:
        """Read one checkpoint."""
        met = yield from self._met(digest)
        return None if met is None else met.seen

    def _met(self, digest: bytes) -> Program[Met | None]:
        key = self._keys.bucket(digest).checkpoint + digest
        answer = yield Statement("", (Call("read", (key,), (self._stamp(),)),))
        stamp, record, _ = answer.rows[0]
        return unpack(record, digest, float(stamp)) if record else None

    def _forget(self, met: Met) -> Program[None]:
        """Delete a checkpoint whose tombstone is over, unless somebody else has written it since it was read."""
        digest = met.row.digest
        bucket = self._keys.bucket(digest)
        keys = (*bucket.of(digest), bucket.memos + digest)
        yield Statement("", (Call("forget", keys, (self._stamp(), met.id, met.revision)),))

    def _swap(self, met: Met, line: bytes | None = None) -> Program[bool]:
        """Write a changed row back, unless somebody else has written it since it was read."""
        digest = met.row.digest
        bucket = self._keys.bucket(digest)
        keys: tuple[bytes, ...] = bucket.of(digest)
        arguments: Words = (self._stamp(), met.id, met.revision, pack(met))
        if line is not None:
            keys, arguments = (*keys, bucket.audit), (*arguments, line)
        answer = yield Statement("", (Call("swap", keys, arguments),))
        [(swapped,)] = answer.rows
        return bool(swapped)

    def _renewal(self, claim: Claim, seconds: float, handed_over: str) -> Call:
        keys = self._keys.bucket(claim.digest).of(claim.digest)
        return Call("renew", keys, (self._stamp(), pack_id(claim.operation_id), claim.fence, seconds, handed_over))

    def _write(self, claim: Claim, target: State | None, change: Change = _NOTHING) -> Program[Receipt]:
        """Change what a script finds under the fence, into the state ``target``; None to stay."""
        if target is None:
            state = 0
        else:
            state = STATE_CODES[target]
            change = change if change.allowed else change._replace(allowed=_BEFORE[target])
        arguments = (self._stamp(), pack_id(claim.operation_id), claim.fence, state, *change)
        keys = self._keys.bucket(claim.digest).of(claim.digest)
        answer = yield Statement("", (Call("write", keys, arguments),))
        return _receipt(answer.rows[0], claim, target)


def _receipt(reply: Reply, claim: Claim, target: State | None) -> Receipt:
    """Tell a write that was refused, with what it met, whether it had been made before (D4)."""
    if not reply:
        return Written()
    if len(reply) == 1 or target is None:
        return Superseded()
    return receipt(unpack(reply[1], claim.digest, float(reply[0])).seen, claim, target)
