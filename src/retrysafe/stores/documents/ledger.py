"""Changing documents: load, apply a function, compare and set; and again, if somebody else was faster."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Generic, NamedTuple, TypeVar

from retrysafe.errors import RecordUnreadable, StoreUnavailable
from retrysafe.stores.documents import statements
from retrysafe.stores.documents.encoding import decode_row, encode_row
from retrysafe.stores.documents.port import Change, Facts, Index, Loaded, facts_of
from retrysafe.stores.documents.row import Row
from retrysafe.stores.documents.shelf import Numbers, Shelf
from retrysafe.stores.instants import Instants
from retrysafe.stores.program import Program

T = TypeVar("T")

Act = Callable[[Row | None, float], tuple[Row | None, T]]
"""What is done to a document at an instant: it gets the row and returns the one that is to be there, often the same,
and a reply."""

# Each lost race is somebody else's progress, so this many in a row are a store that answers wrongly.
_MOST_TRIES = 100
_LARGEST_PAGE = 500
_SMALLEST_PAGE = 16


class Task(NamedTuple, Generic[T]):
    """Something to do to one document.

    Attributes:
        digest: to which.
        act: what.
        unreadable: what it replies, in a tuple, for a document of a newer version; None raises.
    """

    digest: bytes
    act: Act[T]
    unreadable: tuple[T] | None = None


class Try(NamedTuple, Generic[T]):
    """A task, done once, with what it wants to write."""

    place: int
    row: Row | None
    change: Change | None
    reply: T
    is_sure: bool


class Ledger:
    """The documents, and what changes them."""

    def __init__(self, instants: Instants, margin_seconds: float = 0.0) -> None:
        """Use a clock.

        Args:
            instants: the store's clock.
            margin_seconds: by how much those of other processes may be ahead; every lease is written that much longer,
                so that none of them takes over too early (C2).
        """
        self._instants = instants
        self._margin_seconds = margin_seconds
        self._numbers = Numbers()
        self._shelf = Shelf()

    def start_over(self) -> None:
        """Forget what this process remembers, in a forked child, where a thread that is gone may have held a lock."""
        self._numbers = Numbers()
        self._shelf = Shelf()

    def _now(self) -> Program[float]:
        return self._instants.now()

    def _row(self, digest: bytes) -> Program[Row | None]:
        found = yield from statements.load([digest])
        return decode_row(found[0].body) if found else None

    def _change(self, digest: bytes, act: Act[T], *, ours: bool = False) -> Program[T]:
        """Do something to one document, atomically; see :meth:`_change_each`."""
        known = self._remembered([digest]) if ours else {}
        [reply] = yield from self._change_each([Task(digest, act)], known)
        return reply

    def _change_each(self, tasks: Sequence[Task[T]], known: Mapping[bytes, Loaded]) -> Program[list[T]]:
        """Do something to each document, atomically for each; those that lose a race do it again.

        Args:
            tasks: what, in any order.
            known: documents as they were a moment ago, which spares loading them.

        Returns:
            What each replied, in order.

        Raises:
            StoreUnavailable: nothing is known about those that were not written (D4).
        """
        replies: dict[int, T] = {}
        for _ in range(_MOST_TRIES):
            now = yield from self._now()
            turn = list(_one_each(tasks, replies))
            missing = [tasks[place].digest for place in turn if tasks[place].digest not in known]
            loaded = {found.digest: found for found in (yield from statements.load(missing))}
            tries = [
                self._try(
                    place, tasks[place], loaded.get(digest) or known.get(digest), now, is_sure=digest not in known
                )
                for place in turn
                for digest in [tasks[place].digest]
            ]
            yield from self._carry_out(tries, replies)
            if len(replies) == len(tasks):
                return [replies[place] for place in range(len(tasks))]
            known = {}
        raise StoreUnavailable("others were faster, again and again")

    def _carry_out(self, tries: Sequence[Try[T]], replies: dict[int, T]) -> Program[None]:
        changes = [one.change for one in tries if one.change is not None]
        revisions = iter((yield from statements.write(changes)))
        for one in tries:
            if one.change is None:
                if one.is_sure:
                    replies[one.place] = one.reply
                continue
            revision = next(revisions)
            if revision is None:
                self._shelf.forget(one.change.digest)
                continue
            replies[one.place] = one.reply
            if one.row is not None and one.change.body is not None:
                self._shelf.put(one.row, Loaded(one.change.digest, one.change.body, revision))

    @staticmethod
    def _try(place: int, task: Task[T], met: Loaded | None, now: float, *, is_sure: bool) -> Try[T]:
        try:
            row = None if met is None else decode_row(met.body)
        except RecordUnreadable:
            if task.unreadable is None:
                raise
            return Try(place, None, None, task.unreadable[0], is_sure)
        before = None if row is None else facts_of(row)
        row, reply = task.act(row, now)
        change = None if row is None else _change_to(row, met, before, now)
        return Try(place, row, change, reply, is_sure)

    def _remembered(self, digests: Sequence[bytes]) -> dict[bytes, Loaded]:
        found = ((digest, self._shelf.get(digest)) for digest in digests)
        return {digest: kept for digest, kept in found if kept is not None}

    def _found(self, index: Index, by: float, choose: Callable[[Row], bool], enough: int) -> Program[list[Candidate]]:
        """Look through an index until enough documents were chosen, or all were seen.

        What this code can't read is for processes of the version that wrote it, and keeps nobody from all the rest.
        """
        size = page_size(enough)
        chosen: list[Candidate] = []
        after = None
        while True:
            page = yield from statements.find(index, by, after, size)
            for met in (yield from statements.load([found.digest for found in page])):
                with suppress(RecordUnreadable):
                    row = decode_row(met.body)
                    if choose(row):
                        chosen.append(Candidate(met, row))
            if len(page) < size or len(chosen) >= enough:
                return chosen
            after = page[-1].place


def page_size(enough: int) -> int:
    """Return how many documents to load at once where so many are wanted: each may be as large as a request can be."""
    return min(_LARGEST_PAGE, max(_SMALLEST_PAGE, 2 * enough))


def readable(bodies: Iterable[bytes]) -> Iterator[Row]:
    """Decode documents, but for those that only a newer version can read."""
    for body in bodies:
        with suppress(RecordUnreadable):
            yield decode_row(body)


class Candidate(NamedTuple):
    """A document that an index found, and what is in it."""

    met: Loaded
    row: Row


def known_of(candidates: Sequence[Candidate]) -> dict[bytes, Loaded]:
    """Return the documents of candidates, which were just loaded."""
    return {each.met.digest: each.met for each in candidates}


def _one_each(tasks: Sequence[Task[T]], replies: Mapping[int, T]) -> Iterator[int]:
    """Choose what is to be done now: of each document one task, as each must see what the one before did."""
    seen: set[bytes] = set()
    for place, task in enumerate(tasks):
        if place not in replies and task.digest not in seen:
            seen.add(task.digest)
            yield place


def _change_to(row: Row, met: Loaded | None, before: Facts | None, now: float) -> Change | None:
    """Return the change that makes a document what it is to be; None when it is that."""
    revision = None if met is None else met.revision
    if row.gone and not row.outbox and not row.audit:
        return None if met is None else Change(row.digest, revision, None, before, None, now)
    body = encode_row(row)
    if met is not None and met.body == body:
        return None
    return Change(row.digest, revision, body, before, facts_of(row), now)
