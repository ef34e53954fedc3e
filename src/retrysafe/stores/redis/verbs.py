"""The verbs of recovery, persons, listings and retention: they walk the indexes of all buckets (R2, R10, S10)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from heapq import nlargest
from itertools import islice, zip_longest
from typing import NamedTuple

from retrysafe.errors import RecordUnreadable
from retrysafe.protocol.model import Checkpoint
from retrysafe.protocol.operator import Audit, Intervention, Refusal
from retrysafe.protocol.states import LEASED, State
from retrysafe.stores.base import Purged, Query, Wanted
from retrysafe.stores.decisions import hint_again_at
from retrysafe.stores.documents import upkeep
from retrysafe.stores.program import Program
from retrysafe.stores.redis.calls import Bucket, Call, Reply, ask, ask_all
from retrysafe.stores.redis.layout import Member, Met, pack_id, pack_line, unpack, unpack_id, unpack_line
from retrysafe.stores.redis.outbox import OutboxVerbs

_OPEN, _PARKED, _CLOSED = range(3)
_PAGE = 1000
_HEADS_AT_ONCE = 500
# So many of a listing's members are kept in mind at once, however many the store has.
_MEMBERS_AT_ONCE = 5000


class _Stretch(NamedTuple):
    """Where in an index to go on reading."""

    bucket: Bucket
    group: int
    offset: int = 0


class RedisVerbs(OutboxVerbs):
    """What the Redis store can be asked; :class:`~retrysafe.stores.base.Verbs` says what each verb promises."""

    def dispatch(self, wanted: Wanted, limit: int) -> Program[Sequence[Checkpoint]]:
        """List what is due and noted by nobody, and note it (R2).

        Oldest lease first, as long as no bucket has a crowd; then those first that have been due for longest.
        """
        found: list[Checkpoint] = []
        page = 8 + limit // 16
        stretches = [_Stretch(bucket, _OPEN) for bucket in self._keys.buckets]
        while stretches and len(found) < limit:
            members = yield from self._members(stretches, page, due=True)
            heads = yield from self._heads([member for some in members for member in some])
            candidates = iter(
                sorted(
                    (met for met in heads if upkeep.is_wanted(met.row, wanted, met.now)),
                    key=lambda met: (met.row.lease_until, met.row.number),
                )
            )
            noted: list[Checkpoint] = []
            while some := list(islice(candidates, limit - len(found) - len(noted))):
                noted += yield from self._note(some)
            found += noted
            stretches = list(self._behind(stretches, members, page, noted))
        return found

    def abandoned(self, limit: int) -> Program[Sequence[Checkpoint]]:
        """List abandoned checkpoints that are due, oldest lease first (R2)."""
        due: list[Met] = []
        stretches = [_Stretch(bucket, _OPEN) for bucket in self._keys.buckets]
        while stretches:
            members = yield from self._members(stretches, _PAGE)
            heads = yield from self._heads([member for some in members for member in some])
            due += [met for met in heads if upkeep.is_abandoned(met.row, met.now)]
            stretches = list(self._behind(stretches, members, _PAGE))
        due.sort(key=lambda met: (met.row.lease_until, met.row.number))
        found = yield from self._records([met.row.digest for met in due[:limit]])
        return [met.seen for met in found if upkeep.is_abandoned(met.row, met.now)]

    def intervene(self, seen: Checkpoint, intervention: Intervention) -> Program[Checkpoint | Refusal]:
        """Carry out what a person decided, and write the audit (R10)."""
        while True:
            met = yield from self._met(seen.digest)
            row, now = (None, 0.0) if met is None else (met.row, met.now)
            after = upkeep.intervene(row, seen, intervention, now)
            if met is None or isinstance(after, Refusal):
                return after
            [line] = met.row.audit
            if (yield from self._swap(met, pack_line(line))):
                return after

    def audit(self, operation_id: str | None, limit: int) -> Program[Sequence[Audit]]:
        """List what persons did, newest first (R10). Lines are numbered in the order in which they were written."""
        calls = [Call("audit", (bucket.audit,), (self._stamp(),)) for bucket in self._keys.buckets]
        replies = yield from ask_all(calls)
        records = sorted(record for lines in replies for record in lines)
        lines = (unpack_line(record, number) for number, record in reversed(list(enumerate(records, start=1))))
        return list(islice((line for line in lines if operation_id in {None, line.operation_id}), limit))

    def purge(self, limit: int) -> Program[Purged]:
        """Drop outcomes and tombstones whose retention is over (S10)."""
        page = 2 + limit // 16
        stretches = [_Stretch(bucket, _CLOSED) for bucket in self._keys.buckets]
        members = yield from self._members(stretches, page, due=True)
        # One from each bucket in turn. The last of a full page stays, and says that there is more.
        due = [member for row in zip_longest(*(some[: page - 1] for some in members)) for member in row if member]
        replies = yield from ask_all([self._dropping(member) for member in due[:limit]])
        answers = [reply[0] for reply in replies]
        more = len(due) > limit or any(len(some) == page for some in members)
        return Purged(answers.count(b"expired"), answers.count(b"deleted"), more=more)

    def listing(self, query: Query) -> Program[Sequence[Checkpoint]]:
        """List checkpoints for a person, newest first, without outcomes and requests.

        Every page reads the names of all checkpoints in the states that are asked for, and only the newest themselves.
        """
        indexes = _indexes(query)
        before: bytes | None = None
        if query.after is not None:
            before = yield from self._place_of(query.after)
            if before is None:
                return []
        found: list[Checkpoint] = []
        while True:
            newest = yield from self._newest(indexes, before, query.operation_id)
            for start in range(0, len(newest), _HEADS_AT_ONCE):
                heads = yield from self._heads(newest[start : start + _HEADS_AT_ONCE])
                found += [upkeep.listed(met.row, met.now) for met in heads if upkeep.matches(met.row, query, met.now)]
                if len(found) >= query.limit:
                    return found[: query.limit]
            if len(newest) < _MEMBERS_AT_ONCE:
                return found
            before = newest[-1].place

    def meta(self, row: bytes) -> Program[bytes]:
        """Make the row of what the store keeps for ever, or read the one that is there (K4)."""
        [there] = yield from ask(Call("meta", (self._keys.meta,), (self._stamp(), row)))
        return bytes(there)

    def _newest(self, indexes: Sequence[int], before: bytes | None, beginning: str | None) -> Program[list[Member]]:
        """Return the names of the newest checkpoints that were made before a place, newest first."""
        newest: set[Member] = set()
        stretches = [_Stretch(bucket, index) for bucket in self._keys.buckets for index in indexes]
        while stretches:
            members = yield from self._members(stretches, _PAGE)
            newest.update(
                member
                for some in members
                for member in some
                if (before is None or member.place < before)
                and (beginning is None or unpack_id(member.id).startswith(beginning))
            )
            newest = set(nlargest(_MEMBERS_AT_ONCE, newest))
            stretches = list(self._behind(stretches, members, _PAGE))
        return sorted(newest, reverse=True)

    def _place_of(self, operation_id: str) -> Program[bytes | None]:
        """Return when an operation was made, as members say it."""
        found = yield from self._newest((_OPEN, _PARKED, _CLOSED), None, operation_id)
        packed = pack_id(operation_id)
        return next((member.place for member in found if member.id == packed), None)

    def _members(
        self, stretches: Sequence[_Stretch], page: int, *, due: bool = False
    ) -> Program[Sequence[list[Member]]]:
        calls = [
            Call("due", (stretch.bucket.indexes[stretch.group],), (self._stamp(), stretch.offset, page, int(not due)))
            for stretch in stretches
        ]
        replies = yield from ask_all(calls)
        return [list(map(Member.of, names)) for _, names in replies]

    @staticmethod
    def _behind(
        stretches: Sequence[_Stretch], members: Sequence[list[Member]], page: int, gone: Sequence[Checkpoint] = ()
    ) -> Iterator[_Stretch]:
        """Say where to go on: only pages that were full have something behind them."""
        digests = {checkpoint.digest for checkpoint in gone}
        for stretch, some in zip(stretches, members, strict=True):
            if len(some) == page:
                left = sum(member.digest not in digests for member in some)
                yield stretch._replace(offset=stretch.offset + left)

    def _heads(self, members: Sequence[Member]) -> Program[list[Met]]:
        """Read checkpoints without requests and outcomes; those that this code can read."""
        digests = [member.digest for member in members]
        return (yield from self._read("head", digests))

    def _records(self, digests: Sequence[bytes]) -> Program[list[Met]]:
        return (yield from self._read("read", digests))

    def _read(self, script: str, digests: Sequence[bytes]) -> Program[list[Met]]:
        calls = [Call(script, (self._keys.bucket(digest).checkpoint + digest,), (self._stamp(),)) for digest in digests]
        replies = yield from ask_all(calls)
        return list(_readable(digests, replies))

    def _note(self, candidates: Sequence[Met]) -> Program[list[Checkpoint]]:
        """Note that somebody was told; what another was faster to note is not ours."""
        calls = [
            Call(
                "note",
                self._keys.bucket(met.row.digest).of(met.row.digest),
                (
                    self._stamp(),
                    met.id,
                    met.revision,
                    hint_again_at(met.now, max(met.row.lease_until, met.row.due_at)),
                ),
            )
            for met in candidates
        ]
        replies = yield from ask_all(calls)
        return [met.seen for met in _readable([met.row.digest for met in candidates], replies)]

    def _dropping(self, member: Member) -> Call:
        bucket = self._keys.bucket(member.digest)
        keys = (*bucket.of(member.digest), bucket.memos + member.digest)
        return Call("drop", keys, (self._stamp(), member.id))


def _readable(digests: Sequence[bytes], replies: Sequence[Reply]) -> Iterator[Met]:
    """Unpack what is there and what this code can read; a newer version's is for processes of that version."""
    for digest, (stamp, record, *_) in zip(digests, replies, strict=True):
        if record:
            with suppress(RecordUnreadable):
                yield unpack(record, digest, float(stamp))


def _indexes(query: Query) -> tuple[int, ...]:
    """Say which indexes have checkpoints that a query may show."""
    if query.abandoned:
        return (_OPEN,)
    states = query.states or frozenset(State)
    wanted = {_OPEN if state in LEASED else _PARKED if state is State.PARKED else _CLOSED for state in states}
    return tuple(sorted(wanted))
