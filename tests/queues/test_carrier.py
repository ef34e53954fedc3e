"""The part that all brokers share, over lines that fail in ways that brokers do on bad days only."""

from __future__ import annotations

import asyncio
import logging
from collections import deque

import pytest

from retrysafe.runtime.queues.base import Hint, QueueUnavailable
from retrysafe.runtime.queues.carrier import Carrier
from retrysafe.runtime.queues.memory import Memory, MemoryDelivery, MemoryLine
from tests.queues.workers import put_all, sending, some_hints, until, working


class BadLine(MemoryLine):
    """A line on which each method may be told to fail, once."""

    def __init__(self, memory: Memory, bad: deque[str]) -> None:
        super().__init__(memory)
        self._bad = bad
        self.closed = False

    def _may_fail(self, what: str) -> None:
        if self._bad and self._bad[0] == what:
            self._bad.popleft()
            raise RuntimeError(f"{what} failed")

    async def open(self) -> None:
        self._may_fail("open")

    async def publish(self, hint: Hint) -> None:
        self._may_fail("publish")
        await super().publish(hint)

    async def next(self) -> MemoryDelivery | None:
        self._may_fail("next")
        if self._bad and self._bad[0] == "swallow":
            self._bad.popleft()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                return None
        return await super().next()

    async def close(self) -> None:
        self.closed = True
        await super().close()
        self._may_fail("close")


class Lines:
    """Makes lines, and remembers them."""

    def __init__(self, *bad: str) -> None:
        self.memory = Memory()
        self.bad = deque(bad)
        self.made: list[BadLine] = []

    def __call__(self) -> BadLine:
        if self.bad and self.bad[0] == "make":
            self.bad.popleft()
            raise RuntimeError("make failed")
        line = BadLine(self.memory, self.bad)
        self.made.append(line)
        return line


@pytest.mark.parametrize("bad", [("open",) * 3, ("make", "next"), ("next", "close", "open", "next"), ("publish",) * 2])
def test_whatever_fails_the_line_is_replaced_and_hints_arrive(bad: tuple[str, ...]) -> None:
    async def scene() -> None:
        lines = Lines(*bad)
        hints = some_hints(3)
        async with working(Carrier(lines)) as worker:
            await put_all(worker.queue, hints)
            await worker.has_taken(hints)
        assert not lines.bad
        assert all(line.closed for line in lines.made)

    asyncio.run(scene())


def test_a_line_that_is_lost_ends_no_take() -> None:
    """R2: the claim goes on; only its hint may come twice."""

    async def scene() -> None:
        lines = Lines()
        [hint] = hints = some_hints(1)
        let_go, ended = asyncio.Event(), asyncio.Event()

        async def take(_: Hint) -> None:
            await let_go.wait()
            ended.set()

        async with working(Carrier(lines), take) as worker:
            await put_all(worker.queue, hints)
            await worker.has_taken(hints)
            lines.bad.append("publish")
            with pytest.raises(QueueUnavailable):
                await worker.queue.put([hint])
            await until(lambda: worker.taken[hint.operation_id] == 2)
            assert lines.made[0].closed
            let_go.set()
            await asyncio.wait_for(ended.wait(), 60)

    asyncio.run(scene())


def test_a_client_that_swallows_the_cancellation_does_not_read_on() -> None:
    async def scene() -> None:
        lines = Lines("swallow")
        async with working(Carrier(lines)):
            await until(lambda: not lines.bad)
        assert lines.made[0].closed

    asyncio.run(scene())


def test_how_many_were_confirmed_is_told_even_if_the_rest_failed() -> None:
    class OnlyTwo(MemoryLine):
        left = 2

        async def publish(self, hint: Hint) -> None:
            if not self.left:
                raise ConnectionError("gone")
            self.left -= 1
            await super().publish(hint)

    async def scene() -> None:
        memory = Memory()
        async with sending(Carrier(lambda: OnlyTwo(memory))) as queue:
            assert await queue.put(some_hints(5)) == 2

    asyncio.run(scene())


def test_a_broker_that_is_known_to_be_down_is_not_waited_for() -> None:
    class Down(MemoryLine):
        async def open(self) -> None:
            raise ConnectionRefusedError("nobody listens at amqp.shop.test")

    async def scene() -> None:
        async with sending(Carrier(lambda: Down(Memory()))) as queue:
            with pytest.raises(QueueUnavailable, match="ConnectionRefusedError: nobody listens"):
                await queue.put(some_hints(1))
            assert queue.healthy["last_error"] == "ConnectionRefusedError: nobody listens at amqp.shop.test"

    asyncio.run(scene())


def test_being_down_is_said_once_and_not_at_each_attempt(caplog: pytest.LogCaptureFixture) -> None:
    async def scene() -> None:
        lines = Lines("open", "open", "open")
        async with sending(Carrier(lines)) as queue:
            await until(lambda: queue.healthy["connected"])

    caplog.set_level(logging.INFO, "retrysafe.queues")
    asyncio.run(scene())
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]


def test_a_queue_that_was_not_started_sends_nothing() -> None:
    async def scene() -> None:
        with pytest.raises(QueueUnavailable, match="TimeoutError"):
            await Carrier(Lines()).put(some_hints(1))

    asyncio.run(scene())


def test_a_stopped_queue_can_be_started_again() -> None:
    async def scene() -> None:
        queue = Carrier(Lines())
        for _ in range(2):
            hints = some_hints(1)
            async with working(queue) as worker:
                await put_all(queue, hints)
                await worker.has_taken(hints)

    asyncio.run(scene())


def test_memory_keeps_ten_thousand_hints_and_drops_the_oldest() -> None:
    """R2: nobody takes them, and the scan finds what they were about."""
    memory = Memory()
    for number in range(10_003):
        memory.keep(str(number).encode())
    assert memory.waiting.qsize() == 10_000
    assert memory.waiting.get_nowait() == b"3"
