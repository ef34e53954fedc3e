"""Batches form by themselves, and nobody is hurt by a neighbour; no test here depends on time."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrysafe.errors import StoreError, StoreUnavailable
from retrysafe.stores import batching
from retrysafe.stores.batching import LARGEST_BATCH, LoopBatches, ThreadBatches

PATIENCE_SECONDS = 60.0

Row = tuple[str, str]
"""A key, and who asks."""
Answer = tuple[str, str]
"""What became of it, and whose row it was that was written."""


def _key(row: Row) -> str:
    return row[0]


def _changed(answer: Answer) -> bool:
    return answer[0] == "written"


class Table:
    """What is written to, and every batch as it came; rows of "poison" break the batch that they are in."""

    def __init__(self) -> None:
        self.rows: dict[str, str] = {}
        self.batches: list[list[str]] = []
        self.error: BaseException | None = None

    def write(self, rows: Sequence[Row]) -> list[Answer | None]:
        self.batches.append([key for key, _ in rows])
        if self.error is not None:
            raise self.error
        if any(key == "poison" for key, _ in rows):
            raise ValueError("the database does not take this")
        return [("met" if key in self.rows else "written", self.rows.setdefault(key, who)) for key, who in rows]


class Gate:
    """A flush that waits, once it was told to, until it may go on."""

    def __init__(self, table: Table) -> None:
        self.table = table
        self.open = asyncio.Event()
        self.open.set()
        self.under_way = 0
        self.left: list[Row] = []

    async def flush(self, rows: Sequence[Row]) -> list[Answer | None]:
        self.under_way += 1
        try:
            await self.open.wait()
            return self.table.write(rows)
        finally:
            self.under_way -= 1

    def batches(self) -> LoopBatches[Row, Answer]:
        return LoopBatches(self.flush, key=_key, changed=_changed, left=self.left.append)


async def _some_turns() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


class TestLoop:
    def test_who_is_alone_is_written_alone_and_at_once(self) -> None:
        table = Table()

        async def work() -> None:
            batches = Gate(table).batches()
            assert await batches.put(("a", "1")) == ("written", "1")
            assert await batches.put(("b", "1")) == ("written", "1")

        asyncio.run(work())
        assert table.batches == [["a"], ["b"]]

    def test_what_comes_in_one_turn_is_one_batch_in_the_order_of_keys(self) -> None:
        table = Table()

        async def work() -> None:
            batches = Gate(table).batches()
            answers = await asyncio.gather(*(batches.put((key, key)) for key in "dacb"))
            assert answers == [("written", key) for key in "dacb"]

        asyncio.run(work())
        assert table.batches == [["a", "b", "c", "d"]]

    def test_two_flushes_are_under_way_and_the_rest_collects(self) -> None:
        table = Table()

        async def work() -> None:
            gate = Gate(table)
            batches = gate.batches()
            gate.open.clear()
            answers = []
            for key in "abcdef":
                answers.append(asyncio.ensure_future(batches.put((key, key))))
                await _some_turns()
            assert gate.under_way == 2
            gate.open.set()
            await asyncio.gather(*answers)
            assert gate.under_way == 0

        asyncio.run(work())
        assert sorted(table.batches) == [["a"], ["b"], ["c", "d", "e", "f"]]

    def test_a_batch_is_bounded_and_who_came_first_is_written_first(self) -> None:
        table = Table()
        number = 2 * LARGEST_BATCH + 3

        async def work() -> None:
            batches = Gate(table).batches()
            await asyncio.gather(*(batches.put((f"{place:06d}", "x")) for place in reversed(range(number))))

        asyncio.run(work())
        assert [len(batch) for batch in table.batches] == [LARGEST_BATCH, LARGEST_BATCH, 3]
        assert table.batches[0][-1] == f"{number - 1:06d}"
        assert table.batches[2] == ["000000", "000001", "000002"]

    def test_of_equal_rows_one_is_written_and_the_rest_learns_what_it_wrote(self) -> None:
        """C1, C6: one round more, for however many."""
        table = Table()

        async def work() -> None:
            batches = Gate(table).batches()
            answers = await asyncio.gather(*(batches.put(("a", str(who))) for who in range(50)))
            assert answers == [("written", "0"), *[("met", "0")] * 49]

        asyncio.run(work())
        assert table.batches == [["a"], ["a"]]

    def test_a_row_that_the_database_does_not_take_hurts_no_neighbour(self) -> None:
        """Each is told to write by itself, and so has a verdict of its own."""
        table = Table()

        async def work() -> None:
            batches = Gate(table).batches()
            assert await asyncio.gather(*(batches.put((key, "x")) for key in ("a", "poison", "b"))) == [None] * 3
            assert await batches.put(("a", "x")) == ("written", "x")

        asyncio.run(work())

    def test_what_concerns_all_is_raised_to_all_and_to_each_as_its_own(self) -> None:
        """D1: a server that is gone is not asked again for each."""
        table = Table()
        gone = table.error = StoreUnavailable("gone")

        async def work() -> list[object]:
            batches = Gate(table).batches()
            errors = await asyncio.gather(*(batches.put((key, "x")) for key in "abc"), return_exceptions=True)
            table.error = None
            assert await batches.put(("a", "x")) == ("written", "x")
            return list(errors)

        errors = asyncio.run(work())
        assert [str(error) for error in errors] == ["gone"] * 3
        assert len({id(error) for error in errors}) == 3
        assert all(isinstance(error, StoreError) and error.__cause__ is gone for error in errors)
        assert len(table.batches) == 2

    def test_a_cancelled_caller_leaves_its_row_in_the_line_and_under_way(self) -> None:
        """C7: what was submitted becomes durable."""
        table = Table()

        async def work() -> None:
            gate = Gate(table)
            batches = gate.batches()
            gate.open.clear()
            first = [asyncio.ensure_future(batches.put(("a", "x")))]
            await _some_turns()
            first.append(asyncio.ensure_future(batches.put(("b", "x"))))
            await _some_turns()
            waiting, neighbour = (asyncio.ensure_future(batches.put((key, "x"))) for key in "cd")
            await _some_turns()
            for each in (*first, waiting):
                each.cancel()
            gate.open.set()
            assert await neighbour == ("written", "x")

        asyncio.run(work())
        assert sorted(table.rows) == ["a", "b", "c", "d"]

    @pytest.mark.parametrize("turns", [2, 100])
    def test_a_cancelled_caller_whose_row_must_be_written_alone_leaves_it_to_somebody(self, turns: int) -> None:
        """C7: whether it is cancelled before it is told so, or in that very moment."""

        async def work() -> list[Row]:
            gate = Gate(Table())
            batches = gate.batches()
            asked = [asyncio.ensure_future(batches.put((key, "x"))) for key in ("a", "poison")]
            for _ in range(turns):
                await asyncio.sleep(0)
                if gate.table.batches:
                    break
            asked[0].cancel()
            answers = await asyncio.gather(*asked, return_exceptions=True)
            assert isinstance(answers[0], asyncio.CancelledError)
            assert answers[1] is None
            return gate.left

        assert asyncio.run(work()) == [("a", "x")]

    @pytest.mark.parametrize("turns", [0, 1, 3])
    def test_flushes_that_are_cancelled_leave_nobody_waiting(self, turns: int) -> None:
        """C7: before their first turn as well as in the middle."""
        table = Table()

        async def work() -> None:
            gate = Gate(table)
            batches = gate.batches()
            gate.open.clear()
            answers = [asyncio.ensure_future(batches.put((key, "x"))) for key in "abc"]
            for _ in range(turns):
                await asyncio.sleep(0)
            answers.append(asyncio.ensure_future(batches.put(("d", "x"))))
            await asyncio.sleep(0)
            for task in asyncio.all_tasks() - {asyncio.current_task(), *answers}:
                task.cancel()
            errors = await asyncio.gather(*answers, return_exceptions=True)
            assert {type(error) for error in errors} == {StoreUnavailable}
            gate.open.set()
            assert await batches.put(("a", "x")) == ("written", "x")

        asyncio.run(work())

    def test_the_line_is_bounded(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(batching, "LONGEST_LINE", 3)

        async def work() -> None:
            batches = Gate(Table()).batches()
            answers = [asyncio.ensure_future(batches.put((key, "x"))) for key in "abcd"]
            await asyncio.sleep(0)
            with pytest.raises(StoreUnavailable, match="waiting already"):
                await answers.pop()
            await asyncio.gather(*answers)
            assert await batches.put(("d", "x")) == ("written", "x")

        asyncio.run(work())

    @given(st.lists(st.lists(st.sampled_from(["a", "b", "c", "poison"]), max_size=6), max_size=6))
    def test_each_key_is_written_once_whatever_comes_when(self, turns: list[list[str]]) -> None:
        """C1: and everybody has the answer to the own row."""
        table = Table()

        async def one(batches: LoopBatches[Row, Answer], key: str, who: str) -> tuple[str, str, Answer | None]:
            return key, who, await batches.put((key, who))

        async def work() -> list[tuple[str, str, Answer | None]]:
            batches = Gate(table).batches()
            tasks = []
            for turn, keys in enumerate(turns):
                tasks += [asyncio.ensure_future(one(batches, key, f"{turn}.{at}")) for at, key in enumerate(keys)]
                await asyncio.sleep(0)
            return list(await asyncio.gather(*tasks))

        for key, who, answer in asyncio.run(work()):
            if answer is not None:
                assert answer == ("written" if table.rows[key] == who else "met", table.rows[key])


class Hold:
    """A flush that threads can be held in."""

    def __init__(self, table: Table) -> None:
        self.table = table
        self.may_go_on = threading.Semaphore(0)
        self.arrived = threading.Semaphore(0)
        self.interrupts: list[BaseException] = []

    def flush(self, rows: Sequence[Row]) -> list[Answer | None]:
        self.arrived.release()
        assert self.may_go_on.acquire(timeout=PATIENCE_SECONDS)
        if self.interrupts:
            raise self.interrupts.pop()
        return self.table.write(rows)

    def batches(self) -> ThreadBatches[Row, Answer]:
        return ThreadBatches(self.flush, key=_key, changed=_changed)

    def wait_for_flushes(self, number: int) -> None:
        for _ in range(number):
            assert self.arrived.acquire(timeout=PATIENCE_SECONDS)

    def let_go(self, number: int = 100) -> None:
        self.may_go_on.release(number)


def _wait_for_line(batches: ThreadBatches[Row, Answer], number: int) -> None:
    pause = threading.Event()
    while len(batches._line._places) < number:
        pause.wait(0.001)


def _submit(
    threads: ThreadPoolExecutor, act: Callable[[Row], Answer | None], *keys: str
) -> list[Future[Answer | None]]:
    return [threads.submit(act, (key, key)) for key in keys]


class TestThreads:
    def test_who_is_alone_is_written_alone_by_itself(self) -> None:
        table = Table()
        writers: list[int] = []

        def flush(rows: Sequence[Row]) -> list[Answer | None]:
            writers.append(threading.get_ident())
            return table.write(rows)

        batches = ThreadBatches(flush, key=_key, changed=_changed)
        assert [batches.put((key, "x")) for key in "ab"] == [("written", "x")] * 2
        assert (table.batches, set(writers)) == ([["a"], ["b"]], {threading.get_ident()})

    def test_two_flush_and_the_rest_collects_and_each_flushes_but_once(self) -> None:
        table = Table()
        hold = Hold(table)
        batches = hold.batches()
        with ThreadPoolExecutor(12) as threads:
            first = _submit(threads, batches.put, "x", "y")
            hold.wait_for_flushes(2)
            rest = _submit(threads, batches.put, *"hgfedcba")
            _wait_for_line(batches, 8)
            hold.let_go(1)
            # Whoever has flushed has its answer, and another one flushes for all who wait.
            hold.wait_for_flushes(1)
            hold.let_go()
            answers = [each.result(PATIENCE_SECONDS) for each in (*first, *rest)]
        assert answers == [("written", key) for key in "xyhgfedcba"]
        assert table.batches[-1] == list("abcdefgh") or table.batches[-2] == list("abcdefgh")

    def test_of_equal_rows_one_is_written_and_the_rest_learns_what_it_wrote(self) -> None:
        """C1, C6."""
        table = Table()
        hold = Hold(table)
        batches = hold.batches()
        with ThreadPoolExecutor(40) as threads:
            first = _submit(threads, batches.put, "x", "y")
            hold.wait_for_flushes(2)
            equal = [threads.submit(batches.put, ("a", str(who))) for who in range(30)]
            _wait_for_line(batches, 30)
            hold.let_go()
            answers = [each.result(PATIENCE_SECONDS) for each in equal]
            assert [each.result() for each in first] == [("written", "x"), ("written", "y")]
        writer = table.rows["a"]
        assert sorted(str(answer) for answer in answers) == sorted(
            [str(("written", writer)), *[str(("met", writer))] * 29]
        )
        assert [batch for batch in table.batches if "a" in batch] == [["a"], ["a"]]

    def test_a_row_that_the_database_does_not_take_hurts_no_neighbour(self) -> None:
        hold = Hold(Table())
        batches = hold.batches()
        with ThreadPoolExecutor(6) as threads:
            first = _submit(threads, batches.put, "x", "y")
            hold.wait_for_flushes(2)
            rest = _submit(threads, batches.put, "a", "poison", "b")
            _wait_for_line(batches, 3)
            hold.let_go()
            assert [each.result(PATIENCE_SECONDS) for each in rest] == [None] * 3
            assert all(each.result() for each in first)

    def test_what_concerns_all_is_raised_to_all(self) -> None:
        """D1."""
        table = Table()
        hold = Hold(table)
        batches = hold.batches()
        table.error = StoreUnavailable("gone")
        with ThreadPoolExecutor(6) as threads:
            asked = _submit(threads, batches.put, "x", "y")
            hold.wait_for_flushes(2)
            asked += _submit(threads, batches.put, "a", "b", "c")
            _wait_for_line(batches, 3)
            hold.let_go()
            errors = [each.exception(PATIENCE_SECONDS) for each in asked]
        assert [str(error) for error in errors] == ["gone"] * 5
        assert len({id(error) for error in errors}) == 5
        table.error = None
        assert batches.put(("a", "x")) == ("written", "x")

    def test_a_flush_that_is_interrupted_leaves_nobody_waiting_and_gives_its_right_on(self) -> None:
        """C7: such as by a signal in the main thread."""
        table = Table()
        hold = Hold(table)
        batches = hold.batches()
        hold.interrupts += [KeyboardInterrupt()]
        with ThreadPoolExecutor(6) as threads:
            first = _submit(threads, batches.put, "x", "y")
            hold.wait_for_flushes(2)
            rest = _submit(threads, batches.put, "a", "b")
            _wait_for_line(batches, 2)
            hold.let_go()
            assert [each.result(PATIENCE_SECONDS) for each in rest] == [("written", "a"), ("written", "b")]
            errors = [each.exception(PATIENCE_SECONDS) for each in first]
        assert sorted(str(type(error)) for error in errors) == sorted(map(str, [KeyboardInterrupt, type(None)]))
        assert batches._flushes == 0

    def test_a_row_whose_thread_was_interrupted_is_written_all_the_same(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """C7: what was submitted becomes durable, though nobody waits for it."""
        table = Table()
        hold = Hold(table)
        batches = hold.batches()

        def interrupted(_: object) -> None:
            raise KeyboardInterrupt

        with ThreadPoolExecutor(6) as threads:
            first = _submit(threads, batches.put, "x", "y")
            hold.wait_for_flushes(2)
            with monkeypatch.context() as patch:
                patch.setattr(batching._ThreadPlace, "wait", interrupted)
                with pytest.raises(KeyboardInterrupt):
                    batches.put(("a", "gone"))
            hold.let_go()
            assert all(each.result(PATIENCE_SECONDS) for each in first)
        assert table.rows["a"] == "gone"
        assert batches._flushes == 0

    def test_a_duty_that_comes_with_the_interrupt_is_done(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """C7: the batch of a thread that is just leaving holds the rows of others."""
        table = Table()
        hold = Hold(table)
        batches = hold.batches()
        waits = batching._ThreadPlace.wait

        def interrupted(place: batching._ThreadPlace[Row, Answer]) -> None:
            waits(place)
            if place.key == "a":
                raise KeyboardInterrupt

        monkeypatch.setattr(batching._ThreadPlace, "wait", interrupted)
        with ThreadPoolExecutor(6) as threads:
            first = _submit(threads, batches.put, "x", "y")
            hold.wait_for_flushes(2)
            leaving = _submit(threads, batches.put, "a")
            _wait_for_line(batches, 1)
            other = _submit(threads, batches.put, "b")
            _wait_for_line(batches, 2)
            hold.let_go()
            assert other[0].result(PATIENCE_SECONDS) == ("written", "b")
            assert isinstance(leaving[0].exception(PATIENCE_SECONDS), KeyboardInterrupt)
            assert all(each.result(PATIENCE_SECONDS) for each in first)
        assert batches._flushes == 0

    def test_many_threads_and_many_rows(self) -> None:
        """C1: every key once, and everybody the answer to the own row."""
        table = Table()
        batches = ThreadBatches(table.write, key=_key, changed=_changed)

        def one(number: int) -> bool:
            key, who = f"key-{number % 400}", str(number)
            answer = batches.put((key, who))
            return answer == ("written" if table.rows[key] == who else "met", table.rows[key])

        with ThreadPoolExecutor(24) as threads:
            assert all(threads.map(one, range(4000)))
        assert len(table.rows) == 400
        assert batches._flushes == 0


# Python 3.12 warns about forks of processes with threads.
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_child_that_makes_its_own_is_not_held_up_by_its_parent_s() -> None:
    """A fork in the middle of a flush: the parent's callers are answered, and the child has none of them."""
    table = Table()
    hold = Hold(table)
    batches = hold.batches()
    with ThreadPoolExecutor(6) as threads:
        asked = _submit(threads, batches.put, "x", "y")
        hold.wait_for_flushes(2)
        asked += _submit(threads, batches.put, "a")
        _wait_for_line(batches, 1)
        child = os.fork()
        if child == 0:
            fresh = ThreadBatches(Table().write, key=_key, changed=_changed)
            os._exit(0 if fresh.put(("a", "child")) == ("written", "child") else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        hold.let_go()
        assert [each.result(PATIENCE_SECONDS) for each in asked] == [("written", key) for key in "xya"]
