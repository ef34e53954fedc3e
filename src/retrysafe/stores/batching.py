"""Natural micro-batches: what many callers want written in the same moment goes to the database as one statement.

There is no timer, and nobody waits for a batch to fill. A row that comes alone is written at once, by itself. While it
is under way others collect, and are written together when it is back, or at once if the second flush is free. So a
batch is as large as the load makes it.

What holds for each caller:

- the answer is that of its own row, and a row that the database does not take hurts no other: when a flush fails, each
  of its callers is told None, and writes by itself. Only what concerns all alike, such as a server that is gone, is
  raised to all;
- rows are written in the order of their keys, so that two batches cannot wait for each other in a circle, and no
  statement has the same key twice: of equal ones the first is written. What it found holds for the others as well; if
  it was the one that changed something, they are written after it, and find what it wrote;
- who is cancelled leaves its row where it is: it becomes durable all the same, also when it must be written alone (C7);
- who came first is written first, and no thread works for others longer than one flush.

Event loops and threads have lines of their own, so neither waits for the other; after a fork a store makes new ones.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from copy import copy
from threading import Lock
from typing import Any, Generic, Protocol, TypeVar

from retrysafe.errors import StoreError, StoreUnavailable

R = TypeVar("R")
A = TypeVar("A")
P = TypeVar("P", bound="_Place")

LARGEST_BATCH = 256
MOST_FLUSHES = 2
LONGEST_LINE = 10_000

_CUT_OFF = "the write was cut off before its answer came"


class LoopBatches(Generic[R, A]):
    """The batches of one event loop.

    Args:
        flush: writes rows with different keys, in their order, and returns an answer for each, or None for one that its
            caller must write by itself. A ``StoreError`` is raised to all; after any other exception all write by
            themselves. For one row it should be the plain statement for one.
        key: what names a row: something that can be hashed and compared.
        changed: whether an answer tells that the row was written, so that an equal one would now be answered otherwise.
        left: is given each row whose caller was cancelled and that must be written by itself: by whoever that is now.
    """

    def __init__(
        self,
        flush: Callable[[Sequence[R]], Awaitable[Sequence[A | None]]],
        *,
        key: Callable[[R], Any],
        changed: Callable[[A], bool],
        left: Callable[[R], None],
    ) -> None:
        """Begin with nothing under way."""
        self._flush = flush
        self._left = left
        self._key = key
        self._changed = changed
        self._line: _Line[_LoopPlace[R, A]] = _Line()
        self._tasks: set[asyncio.Task[None]] = set()
        self._flushes = 0
        self._starting = False
        """A task has yet to have its first turn, in which it takes all that wait."""

    async def put(self, row: R) -> A | None:
        """Have a row written, and suspend until its answer is there; a cancelled caller takes nothing back.

        Returns:
            Its answer; None when the caller must write it by itself.

        Raises:
            StoreUnavailable: too many wait already, or what the flush raised.
        """
        future = self._put(row)
        try:
            return await future
        except asyncio.CancelledError:
            if not future.cancelled() and future.exception() is None and future.result() is None:
                # Told so in the very moment in which it was cancelled.
                self._left(row)
            raise

    def _put(self, row: R) -> asyncio.Future[A | None]:
        loop = asyncio.get_running_loop()
        place: _LoopPlace[R, A] = _LoopPlace(self._key(row), row, loop.create_future(), self._left)
        self._line.join(place)
        if not self._starting and self._flushes < MOST_FLUSHES:
            self._starting = True
            task = loop.create_task(self._work())
            # The loop itself keeps tasks weakly.
            self._tasks.add(task)
            task.add_done_callback(self._ended)
        return place.future

    async def _work(self) -> None:
        """Flush until nobody waits; begun one turn of the loop after the first row, with all that came meanwhile."""
        self._starting = False
        self._flushes += 1
        try:
            while groups := self._line.take():
                await self._settle(groups)
        finally:
            self._flushes -= 1

    async def _settle(self, groups: Sequence[list[_LoopPlace[R, A]]]) -> None:
        try:
            answers = await self._flush([places[0].row for places in groups])
            again = _tell(groups, answers, self._changed)
        except Exception as error:  # noqa: BLE001 - whatever it is, nobody may be left waiting
            _fail(groups, error)
        except BaseException:
            _fail(groups, StoreUnavailable(_CUT_OFF))
            raise
        else:
            self._line.begin_with(again)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if task.cancelled():
            # The loop is being closed, or somebody cancelled whatever it had: perhaps before the first turn.
            self._starting = False
            while groups := self._line.take():
                _fail(groups, StoreUnavailable(_CUT_OFF))


class ThreadBatches(Generic[R, A]):
    """The batches of threads: whoever comes when a flush is free writes, for itself and for those who wait.

    It has no thread of its own: one that has flushed gives its right, and a batch, to the one that waits longest.

    Args:
        flush: as that of :class:`LoopBatches`, but blocking.
        key: what names a row: something that can be hashed and compared.
        changed: whether an answer tells that the row was written, so that an equal one would now be answered otherwise.
    """

    def __init__(
        self,
        flush: Callable[[Sequence[R]], Sequence[A | None]],
        *,
        key: Callable[[R], Any],
        changed: Callable[[A], bool],
    ) -> None:
        """Begin with nothing under way."""
        self._flush = flush
        self._key = key
        self._changed = changed
        self._line: _Line[_ThreadPlace[R, A]] = _Line()
        self._door = Lock()
        """Held while places change hands; never for long."""
        self._flushes = 0

    def put(self, row: R) -> A | None:
        """Have a row written, and block until its answer is there.

        Returns:
            Its answer; None when the caller must write it by itself.

        Raises:
            StoreUnavailable: too many wait already, or what the flush raised.
        """
        place: _ThreadPlace[R, A] = _ThreadPlace(self._key(row), row)
        try:
            self._join(place)
            while place.duty or not place.settled:
                if place.duty:
                    self._work(place)
                else:
                    place.wait()
        except BaseException:
            self._leave(place)
            raise
        if place.error is not None:
            raise place.error
        return place.answer

    def _join(self, place: _ThreadPlace[R, A]) -> None:
        with self._door:
            self._line.join(place)
            if self._flushes < MOST_FLUSHES:
                place.duty = self._line.take()
                self._flushes += 1

    def _work(self, place: _ThreadPlace[R, A]) -> None:
        """Flush a batch, and hand on the right to do so."""
        groups = place.duty
        again: list[_ThreadPlace[R, A]] = []
        try:
            answers = self._flush([places[0].row for places in groups])
            again = _tell(groups, answers, self._changed)
        except Exception as error:  # noqa: BLE001 - whatever it is, nobody may be left waiting
            _fail(groups, error)
        except BaseException:
            _fail(groups, StoreUnavailable(_CUT_OFF))
            raise
        finally:
            self._hand_on(place, again)

    def _hand_on(self, place: _ThreadPlace[R, A], again: list[_ThreadPlace[R, A]]) -> None:
        """Give the right to whoever waits longest; keep it while there are only rows whose threads are gone."""
        with self._door:
            self._line.begin_with(again)
            place.duty = []
            groups = self._line.take()
            if not groups:
                self._flushes -= 1
                return
            waiting = [each for places in groups for each in places if not each.gone]
            successor = min(waiting, key=_number) if waiting else place
            successor.duty = groups
        if successor is not place:
            successor.wake()

    def _leave(self, place: _ThreadPlace[R, A]) -> None:
        """Leave the row where it is, as the thread was interrupted; what it was just given to flush becomes durable."""
        with self._door:
            place.gone = True
        while place.duty:
            self._work(place)


class _Place(Protocol):
    """Whoever waits for the answer to a row, by the order in which they came."""

    key: Any
    number: int

    def settle(self, answer: Any) -> None: ...  # noqa: ANN401 - each has answers of its own

    def fail(self, error: StoreError) -> None: ...


class _LoopPlace(Generic[R, A]):
    __slots__ = ("_left", "future", "key", "number", "row")

    def __init__(
        self,
        key: Any,  # noqa: ANN401 - the caller's
        row: R,
        future: asyncio.Future[A | None],
        left: Callable[[R], None],
    ) -> None:
        self.key = key
        self.row = row
        self.number = 0
        self.future = future
        self._left = left

    def settle(self, answer: A | None) -> None:
        if not self.future.done():
            self.future.set_result(answer)
        elif answer is None:
            self._left(self.row)

    def fail(self, error: StoreError) -> None:
        if not self.future.done():
            self.future.set_exception(error)


class _ThreadPlace(Generic[R, A]):
    """A thread's place.

    Attributes:
        duty: a batch which this thread is to flush.
        settled: its own row has an answer, or an error.
        gone: the thread was interrupted and does not wait any more.
    """

    __slots__ = ("_resting", "answer", "duty", "error", "gone", "key", "number", "row", "settled")

    def __init__(self, key: Any, row: R) -> None:  # noqa: ANN401 - the caller's
        self.key = key
        self.row = row
        self.number = 0
        self.duty: Sequence[list[_ThreadPlace[R, A]]] = []
        self.settled = False
        self.gone = False
        self.answer: A | None = None
        self.error: StoreError | None = None
        # A bare lock is the cheapest event: held until there is an answer, or a duty.
        self._resting = Lock()
        self._resting.acquire()

    def wake(self) -> None:
        self._resting.release()

    def wait(self) -> None:
        self._resting.acquire()

    def settle(self, answer: A | None) -> None:
        self._end(answer, None)

    def fail(self, error: StoreError) -> None:
        self._end(None, error)

    def _end(self, answer: A | None, error: StoreError | None) -> None:
        if not self.settled:
            self.answer, self.error = answer, error
            self.settled = True
            if not self.duty:
                self.wake()


class _Line(Generic[P]):
    """Those who wait, in the order in which they came."""

    def __init__(self) -> None:
        self._places: deque[P] = deque()
        self._joined = 0

    def join(self, place: P) -> None:
        if len(self._places) >= LONGEST_LINE:
            raise StoreUnavailable(f"{LONGEST_LINE} writes are waiting already")
        self._joined += 1
        place.number = self._joined
        self._places.append(place)

    def begin_with(self, places: Sequence[P]) -> None:
        """Let those go first whose equal has just been written."""
        self._places.extendleft(reversed(places))

    def take(self) -> list[list[P]]:
        """Take out the next batch: those with equal keys together, in the order of the keys."""
        groups: dict[Any, list[P]] = {}
        places = self._places
        while places and len(groups) < LARGEST_BATCH:
            place = places.popleft()
            groups.setdefault(place.key, []).append(place)
        return [groups[key] for key in sorted(groups)]


def _tell(groups: Sequence[list[P]], answers: Sequence[Any], changed: Callable[[Any], bool]) -> list[P]:
    """Give each its answer, and return those who must go again, because their equal has just changed what they meet."""
    again: list[P] = []
    for (first, *others), answer in zip(groups, answers, strict=True):
        first.settle(answer)
        if others and answer is not None and changed(answer):
            again += others
        else:
            for other in others:
                other.settle(answer)
    return again


def _fail(groups: Sequence[list[P]], error: Exception) -> None:
    """Raise what concerns all to all, a copy to each, as each adds a traceback; else let each write by itself."""
    for places in groups:
        for place in places:
            if isinstance(error, StoreError):
                mine = copy(error)
                mine.__cause__ = error.__cause__ or error
                place.fail(mine)
            else:
                place.settle(None)


def _number(place: _Place) -> int:
    return place.number
