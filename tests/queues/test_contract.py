"""What every hint queue promises, against real brokers and the memory of one process (R1, R2, R3)."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

import pytest

from retrysafe.runtime.queues.base import Hint
from tests.queues.brokers import Broker
from tests.queues.workers import PATIENCE_SECONDS, put_all, sending, some_hints, until, working


def test_every_hint_that_was_put_is_taken_as_it_was_put(broker: Broker, namespace: str) -> None:
    hints = some_hints(40)
    seen: dict[str, Hint] = {}

    async def take(hint: Hint) -> None:
        seen[hint.operation_id] = hint

    async def scene() -> None:
        async with working(broker.queue(namespace), take) as worker:
            await put_all(worker.queue, hints)
            await worker.has_taken(hints)

    asyncio.run(scene())
    assert seen == {hint.operation_id: hint for hint in hints}


def test_hints_that_were_put_before_the_first_worker_are_taken(broker: Broker, namespace: str) -> None:
    """R2: whoever scans may be up before anybody who takes."""
    hints = some_hints(6)

    async def scene() -> None:
        async with sending(broker.queue(namespace)) as queue:
            await put_all(queue, hints)
        async with working(broker.queue(namespace)) as worker:
            await worker.has_taken(hints)

    asyncio.run(scene())


def test_a_take_that_raises_blocks_nothing_and_does_not_come_again(broker: Broker, namespace: str) -> None:
    """R2: the hint is acknowledged; the scan finds the operation again, and nothing loops."""
    poison, *others = some_hints(30)

    async def take(hint: Hint) -> None:
        if hint == poison:
            raise LookupError("the operation's code is gone")

    async def scene() -> None:
        async with working(broker.queue(namespace, parallel=2), take) as worker:
            await put_all(worker.queue, [poison])
            await worker.has_taken([poison])
            await put_all(worker.queue, others)
            await worker.has_taken(others)
        later = some_hints(1)
        async with working(broker.queue(namespace)) as next_worker:
            await put_all(next_worker.queue, later)
            await next_worker.has_taken(later)
            assert poison.operation_id not in next_worker.taken

    asyncio.run(scene())


def test_what_is_no_hint_is_dropped_and_the_next_hint_is_taken(
    broker: Broker, namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    """R1: anybody may write to a broker."""
    hints = some_hints(2)
    bodies = [b"", b"\xff\x00", b"[1, 2]", b'{"operation_id": "x", "digest": "AA==", "fence": 1, "reason": "due"}']

    async def scene() -> None:
        async with working(broker.queue(namespace)) as worker:
            await put_all(worker.queue, hints[:1])
            for body in bodies:
                await broker.put_foreign(namespace, body)
            await put_all(worker.queue, hints[1:])
            await worker.has_taken(hints)
            await until(lambda: caplog.text.count("dropped a message that is no hint") >= len(bodies))
            assert worker.queue.healthy["last_error"] is None

    asyncio.run(scene())


def test_a_hint_that_was_taken_does_not_come_again(broker: Broker, namespace: str) -> None:
    """R2: it is acknowledged once the claim is won or lost."""
    first, second = some_hints(20), some_hints(1)

    async def scene() -> None:
        async with working(broker.queue(namespace)) as worker:
            await put_all(worker.queue, first)
            await worker.has_taken(first)
        async with working(broker.queue(namespace)) as next_worker:
            await put_all(next_worker.queue, second)
            await next_worker.has_taken(second)
            assert next_worker.taken.keys().isdisjoint(hint.operation_id for hint in first)

    asyncio.run(scene())


def test_a_slow_take_holds_up_none_of_the_others(broker: Broker, namespace: str) -> None:
    slow, *others = some_hints(40)

    async def scene() -> None:
        let_go = asyncio.Event()

        async def take(hint: Hint) -> None:
            if hint == slow:
                await let_go.wait()

        async with working(broker.queue(namespace, parallel=2), take) as worker:
            await put_all(worker.queue, [slow])
            await worker.has_taken([slow])
            await put_all(worker.queue, others)
            await worker.has_taken(others)
            let_go.set()

    asyncio.run(scene())


def test_no_more_than_parallel_hints_are_taken_at_once(broker: Broker, namespace: str) -> None:
    hints = some_hints(12)

    async def scene() -> None:
        at_once = most = 0
        next_may_go = asyncio.Semaphore(0)

        async def take(hint: Hint) -> None:
            nonlocal at_once, most
            at_once += 1
            most = max(most, at_once)
            await next_may_go.acquire()
            at_once -= 1

        async with working(broker.queue(namespace, parallel=3), take) as worker:
            await put_all(worker.queue, hints)
            await until(lambda: at_once == 3)
            assert worker.queue.healthy["taking"] == 3
            for _ in hints:
                next_may_go.release()
            await worker.has_taken(hints)
            assert most == 3

    asyncio.run(scene())


def test_two_workers_share_the_hints(broker: Broker, namespace: str) -> None:
    async def scene() -> None:
        async with working(broker.queue(namespace)) as one, working(broker.queue(namespace)) as other:
            put: list[Hint] = []
            async with asyncio.timeout(PATIENCE_SECONDS):
                while not (one.taken and other.taken):
                    hints = some_hints(16)
                    await put_all(one.queue, hints)
                    put += hints
                    await asyncio.sleep(0.1)
            await until(lambda: {hint.operation_id for hint in put} <= one.taken.keys() | other.taken.keys())

    asyncio.run(scene())


def test_stopping_lets_what_is_being_taken_end_and_ends_the_run(broker: Broker, namespace: str) -> None:
    hints = some_hints(1)

    async def scene() -> None:
        begun, let_go, ended = asyncio.Event(), asyncio.Event(), asyncio.Event()

        async def take(hint: Hint) -> None:
            begun.set()
            await let_go.wait()
            ended.set()

        queue = broker.queue(namespace)
        await queue.start()
        running = asyncio.create_task(queue.run(take))
        await put_all(queue, hints)
        await asyncio.wait_for(begun.wait(), PATIENCE_SECONDS)
        stopping = asyncio.create_task(queue.stop())
        await asyncio.wait_for(running, PATIENCE_SECONDS)
        assert not stopping.done()
        let_go.set()
        await asyncio.wait_for(stopping, PATIENCE_SECONDS)
        assert ended.is_set()

    asyncio.run(scene())


def test_a_hint_whose_taking_was_cut_off_comes_again(broker: Broker, namespace: str) -> None:
    hints = some_hints(1)

    async def scene() -> None:
        async def never_ends(hint: Hint) -> None:
            await asyncio.Event().wait()

        queue = broker.queue(namespace)
        async with sending(queue):
            taken = asyncio.Event()

            async def take(hint: Hint) -> None:
                taken.set()
                await never_ends(hint)

            running = asyncio.create_task(queue.run(take))
            await put_all(queue, hints)
            await asyncio.wait_for(taken.wait(), PATIENCE_SECONDS)
            running.cancel()
            with pytest.raises(asyncio.CancelledError):
                await running
        async with working(broker.queue(namespace)) as worker:
            await worker.has_taken(hints)

    asyncio.run(scene())


def test_namespaces_do_not_see_each_other(broker: Broker, namespace: str) -> None:
    ours, theirs = some_hints(5), some_hints(5)

    async def scene() -> None:
        async with working(broker.queue(namespace)) as worker, sending(broker.queue(f"{namespace} of others")) as other:
            await put_all(other, theirs)
            await put_all(worker.queue, ours)
            await worker.has_taken(ours)
            assert worker.taken.keys() == {hint.operation_id for hint in ours}

    asyncio.run(scene())


def test_health_says_whether_it_is_connected_and_when_something_came(broker: Broker, namespace: str) -> None:
    hints = some_hints(1)

    async def scene() -> None:
        queue = broker.queue(namespace)
        assert queue.healthy == {
            "connected": False,
            "taking": 0,
            "seconds_since_delivery": None,
            "last_error": None,
        }
        async with working(queue) as worker:
            await put_all(queue, hints)
            await worker.has_taken(hints)
            health = json.loads(json.dumps(queue.healthy))
            assert health["connected"] is True
            assert health["seconds_since_delivery"] >= 0
        assert queue.healthy["connected"] is False

    asyncio.run(scene())


def test_a_queue_may_be_stopped_while_it_connects(broker: Broker, namespace: str) -> None:
    """A client that goes on connecting for ever keeps its process from ending."""

    async def scene() -> None:
        for seconds in (0.0, 0.001, 0.01, 0.02, 0.05):
            queue = broker.queue(namespace)
            await queue.start()
            await asyncio.sleep(seconds)
            await queue.stop()

    asyncio.run(scene())


def test_one_queue_is_run_once_at_a_time(broker: Broker, namespace: str) -> None:
    async def scene() -> None:
        async with working(broker.queue(namespace)) as worker:
            await asyncio.sleep(0)
            with pytest.raises(RuntimeError, match="already"):
                await worker.queue.run(worker.take)

    asyncio.run(scene())


def test_a_worker_that_is_killed_with_hints_in_its_hands_stops_nobody(broker: Broker, namespace: str) -> None:
    """R2: what it held comes again, or the scan finds it; what comes later is taken by others."""
    if broker.kind == "memory":
        pytest.skip("the memory of a process dies with it")
    held, later = some_hints(8), some_hints(8)

    async def scene() -> None:
        async with sending(broker.queue(namespace)) as queue:
            child = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "tests.queues.holder",
                broker.kind,
                broker.url,
                namespace,
                stdout=asyncio.subprocess.PIPE,
                cwd=Path(__file__).parents[2],
            )
            assert child.stdout is not None
            try:
                await put_all(queue, held)
                assert await asyncio.wait_for(child.stdout.readline(), PATIENCE_SECONDS) == b"holding\n"
            finally:
                child.kill()
                await child.wait()
            async with working(broker.queue(namespace)) as worker:
                await put_all(queue, later)
                await worker.has_taken(later)

    asyncio.run(scene())
