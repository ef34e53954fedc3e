"""Documents in a bucket: what :class:`~retrysafe.stores.documents.port.AsyncPort` asks for, over one connection."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from math import inf
from typing import Any, NamedTuple

import msgspec
from nats.aio.msg import Msg

from retrysafe.errors import StoreError, StoreUnavailable
from retrysafe.stores.documents.port import Change, Found, Index, Line, Loaded, Place, Shown
from retrysafe.stores.nats import parts
from retrysafe.stores.nats.bucket import EXPECTED, FACTS, Stored, is_wrong_sequence, refused
from retrysafe.stores.nats.clock import seconds_of
from retrysafe.stores.nats.headers import headers_of, seen_in_line
from retrysafe.stores.nats.keeping import Keeping
from retrysafe.stores.nats.listing import Listing
from retrysafe.stores.nats.pointers import Pointer, Shelf, missing, needed
from retrysafe.stores.nats.walk import walk
from retrysafe.stores.nats.wire import ApiError, Wire, ack_of

_SHELVES: Mapping[Index, tuple[Shelf, ...]] = {
    "open": ("open", "parked"),
    "outbox": ("outbox",),
    "audit": ("auditing",),
}
# A document that a pointer announces is behind it on the same connection.
_SURELY_THERE_SECONDS = 60.0
# A renewal moves a document's instant; its pointer follows when somebody meets it.
_WORTH_MOVING_SECONDS = 1.0
_MOST_LOOKS = 10


class _Deleted(msgspec.Struct, frozen=True):
    success: bool = False
    error: ApiError | None = None


_deleted = msgspec.json.Decoder(_Deleted)


class _Entered(NamedTuple):
    """An pointer on its way; a new one is refused where there is one."""

    shelf: Shelf
    at: float
    is_new: bool
    answer: asyncio.Future[Msg]


class _Sent(NamedTuple):
    """A change on its way."""

    entered: list[_Entered]
    answer: asyncio.Future[Msg]
    named: parts.Parts | None = None


class Documents:
    """A port on a connection."""

    def __init__(self, wire: Wire, keeping: Keeping) -> None:
        self._wire = wire
        self._keeping = keeping
        self._bucket = keeping.bucket

    async def learn(self) -> None:
        """Learn the server's time: have it store something, and read when it did."""
        subject = self._bucket.subject("clock")
        ack = ack_of(await self._wire.ask(subject))
        if ack.error is not None:
            raise refused(ack.error)
        stored = await self._bucket.get(self._wire, subject)
        if stored is None:
            raise StoreUnavailable("NATS: what was just written is not there yet")
        self._keeping.clock.learn(seconds_of(stored.time))

    async def _now(self) -> float:
        if not self._keeping.clock.is_fresh:
            await self.learn()
        return self._keeping.clock.now()

    async def load(self, digests: Sequence[bytes]) -> Sequence[Loaded]:
        """Read documents, from the stream's leader."""
        subjects = [self._bucket.subject("op", digest.hex()) for digest in digests]
        answers = [await self._wire.send(*self._bucket.getting(subject)) for subject in subjects]
        found: list[Loaded] = []
        for digest, answer in zip(digests, answers, strict=True):
            stored = self._bucket.got(await self._wire.answered(answer))
            if stored is not None and stored.is_mark:
                self._keeping.mark(digest, stored.seq)
                stored = None
            for pointer in self._keeping.take_shown(digest):
                await self._tend(pointer, stored)
            if stored is not None:
                whole = await self._whole(digest, stored)
                found += [] if whole is None else [whole]
        return found

    async def write(self, changes: Sequence[Change]) -> Sequence[Any]:
        """Carry changes out, each under compare-and-set on its revision."""
        if len(changes) == 1:
            [change] = changes
            return [await self._end(change, await self._begin(change))]
        # All are sent before the first answer is waited for.
        sent = [await self._begin(change) for change in changes]
        return [await self._end(change, each) for change, each in zip(changes, sent, strict=True)]

    async def find(self, index: Index, by: float, after: Place | None, limit: int) -> Sequence[Found]:
        """List what an index has up to an instant, the earliest first."""
        for shelf, digest, at in self._keeping.owed():
            await self._enter(shelf, digest, at)
            self._keeping.settle(shelf, digest)
        if index == "purge":
            found, waiting = await self._keeping.sweep.find(self._wire, by, after or frozenset(), limit)
            for digest, seen in waiting:
                for shelf, at in needed(seen.facts).items():
                    # Nothing changes where there is one.
                    await self._wire.tell(self._bucket.subject(shelf, digest.hex()), repr(at).encode(), {EXPECTED: "0"})
            if self._keeping.is_time_to_tidy():
                await parts.drop_left_over(self._wire, self._bucket, await self._now())
            return found
        # What is parked is never due.
        shelves: list[Shelf] = [shelf for shelf in _SHELVES[index] if shelf != "parked" or by == inf]
        pointers = [pointer for shelf in shelves for pointer in await self._on(shelf)]
        due = sorted((pointer for pointer in pointers if pointer.at <= by), key=_place)
        page = [pointer for pointer in due if after is None or _place(pointer) > after][:limit]
        self._keeping.show(page)
        return [Found(pointer.digest, _place(pointer)) for pointer in page]

    async def newest(self, after: Place | None, limit: int) -> Sequence[Shown]:
        """List all documents, the newest first."""
        listing = after if isinstance(after, Listing) else Listing(self._bucket)
        shown: list[Shown] = []
        while len(shown) < limit:
            wanted = limit - len(shown)
            digests = await listing.next(self._wire, wanted)
            # What was deleted meanwhile is not there.
            shown += [Shown(loaded.body, listing) for loaded in await self.load(digests)]
            if len(digests) < wanted:
                break
        return shown

    async def append(self, line_id: str, operation_id: str, body: bytes) -> None:
        """Add a line to the audit; its sequence there is its number."""
        subject = self._bucket.audit_subject(operation_id, line_id.replace(".", "_"))
        ack = ack_of(await self._wire.ask(subject, body, {EXPECTED: "0"}))
        if ack.error is not None and not is_wrong_sequence(ack):
            raise refused(ack.error)

    async def lines(self, operation_id: str | None, limit: int) -> Sequence[Line]:
        """List the audit, newest first."""
        stream = self._bucket.audit_stream
        first, last = await self._bucket.bounds(self._wire, stream)
        if operation_id is None:
            subject, first = self._bucket.audit_subject(">"), max(first, last - limit + 1)
        else:
            subject = self._bucket.audit_subject(operation_id, "*")
        steps = walk(self._wire, stream, subject, first=first)
        async with aclosing(steps):
            lines = [Line(passed.seq, passed.body) async for passed in steps]
        return lines[::-1][:limit]

    async def _whole(self, digest: bytes, stored: Stored) -> Loaded | None:
        """Join what lies in parts; None when the document is gone meanwhile."""
        for _ in range(_MOST_LOOKS):
            named = parts.parts_of(stored)
            body = stored.body if named is None else await parts.get(self._wire, self._bucket, digest, named)
            if body is not None:
                if named is not None:
                    self._keeping.keep_parts(digest, stored.seq, named)
                return Loaded(digest, body, stored.seq)
            again = await self._bucket.get(self._wire, self._subject(digest))
            if again is None or again.is_mark:
                return None
            if again.seq == stored.seq:
                break
            stored = again
        raise parts.lost(digest)

    async def _begin(self, change: Change) -> _Sent:
        """Send what indexes need, and behind it the document."""
        before, after = needed(change.before), needed(change.after)
        entered: list[_Entered] = []
        for shelf, at in missing(before, after).items():
            is_new = shelf not in before
            answer = await self._send_pointer(shelf, change.digest, at, is_new=is_new)
            entered.append(_Entered(shelf, at, is_new, answer))
        if change.body is None or change.after is None:
            return _Sent(entered, await self._wire.send(*self._bucket.deleting(change.revision)))
        if change.after.purge_at is not None:
            self._keeping.sweep.learn(change.after.purge_at - change.now)
        headers = headers_of(change.after, change.now, drops_by_itself=self._keeping.drops_by_itself)
        expected = change.revision if change.revision is not None else self._keeping.take_mark(change.digest)
        headers[EXPECTED] = str(expected)
        named = await parts.put(self._wire, self._bucket, change.digest, change.body)
        if named is not None:
            headers[parts.PARTS] = named.header
        body = change.body if named is None else b""
        return _Sent(entered, await self._wire.send(self._subject(change.digest), body, headers), named)

    async def _end(self, change: Change, sent: _Sent) -> int | None:
        revision = await self._revision(change, sent.answer)
        for entered in sent.entered:
            await self._settle(change.digest, entered, is_written=revision is not None)
        if revision is not None:
            after = needed(change.after)
            for shelf in needed(change.before):
                seq = None if shelf in after else self._keeping.written.take(shelf, change.digest)
                if seq is not None:
                    await self._wire.tell(*self._bucket.deleting(seq))
        useless = sent.named if revision is None else self._keeping.take_parts(change.digest, change.revision)
        if useless is not None:
            await parts.drop(self._wire, self._bucket, change.digest, useless)
        return revision

    async def _revision(self, change: Change, answer: asyncio.Future[Msg]) -> int | None:
        message = await self._wire.answered(answer)
        if change.body is None:
            deleted = _deleted.decode(message.data)
            # Refused: it was written again, or is gone.
            return 0 if deleted.success else None
        ack = ack_of(message)
        if ack.error is None:
            return ack.seq
        if is_wrong_sequence(ack):
            return None
        raise refused(ack.error)

    async def _settle(self, digest: bytes, entered: _Entered, *, is_written: bool) -> None:
        """See to it that a pointer is there if its document is, and is not if it alone is there."""
        try:
            ack = ack_of(await self._wire.answered(entered.answer))
        except StoreUnavailable:
            if is_written:
                self._keeping.owe(entered.shelf, digest, entered.at)
            raise
        if ack.error is None:
            if is_written:
                self._keeping.written.put(entered.shelf, digest, ack.seq)
            elif entered.is_new:
                await self._withdraw(digest, entered.shelf, ack.seq)
        elif is_written:
            # One was there before, and whoever left it there may just be deleting it.
            await self._enter(entered.shelf, digest, entered.at)

    async def _withdraw(self, digest: bytes, shelf: Shelf, seq: int) -> None:
        """Delete a pointer whose document lost a race, unless the winner's document needs one: it may rely on this."""
        stored = await self._bucket.get(self._wire, self._subject(digest))
        seen = None if stored is None or stored.is_mark else seen_in_line(stored.header(FACTS))
        if seen is not None and shelf not in needed(seen.facts):
            await self._wire.tell(*self._bucket.deleting(seq))

    async def _enter(self, shelf: Shelf, digest: bytes, at: float) -> None:
        try:
            ack = ack_of(await self._wire.answered(await self._send_pointer(shelf, digest, at, is_new=False)))
            if ack.error is not None:
                raise refused(ack.error)
        except StoreError:
            self._keeping.owe(shelf, digest, at)
            raise
        self._keeping.written.put(shelf, digest, ack.seq)

    async def _send_pointer(self, shelf: Shelf, digest: bytes, at: float, *, is_new: bool) -> asyncio.Future[Msg]:
        headers = {EXPECTED: "0"} if is_new else None
        return await self._wire.send(self._bucket.subject(shelf, digest.hex()), repr(at).encode(), headers)

    async def _on(self, shelf: Shelf) -> list[Pointer]:
        steps = walk(self._wire, self._bucket.stream, self._bucket.subject(shelf, "*"))
        async with aclosing(steps):
            return [
                Pointer(shelf, passed.digest, float(passed.body), passed.seq, passed.stored_at)
                async for passed in steps
                if passed.body
            ]

    async def _tend(self, pointer: Pointer, stored: Stored | None) -> None:
        """Delete a pointer that its document does not need, and move one that is too early."""
        seen = None if stored is None else seen_in_line(stored.header(FACTS))
        if stored is not None and seen is None:
            return
        at = None if seen is None else needed(seen.facts).get(pointer.shelf)
        if at is None:
            if await self._now() - pointer.written_at > _SURELY_THERE_SECONDS:
                await self._wire.tell(*self._bucket.deleting(pointer.seq))
        elif at > pointer.at + _WORTH_MOVING_SECONDS:
            subject = self._bucket.subject(pointer.shelf, pointer.digest.hex())
            await self._wire.tell(subject, repr(at).encode(), {EXPECTED: str(pointer.seq)})

    def _subject(self, digest: bytes) -> str:
        return self._bucket.subject("op", digest.hex())


def _place(pointer: Pointer) -> tuple[float, bytes]:
    return pointer.at, pointer.digest
