"""Waiting for an attempt in flight."""

import asyncio
import threading
from collections.abc import Callable
from functools import partial

import pytest

from retrysafe.errors import InProgress, StoreUnavailable
from retrysafe.protocol import effects as fx
from retrysafe.protocol.model import Checkpoint
from retrysafe.runtime.clock import SystemClock
from retrysafe.runtime.waiting import Waiters
from retrysafe.testing.faults import fail
from tests.runtime.rig import CREATED, ONCE, Rig, auntil, nobody, returned, until

LONG = 60.0


def waiters(limit: int = 64) -> Waiters:
    """With the host's clock: the rig's would never let a wait end."""
    return Waiters(limit, SystemClock())


def in_thread(wait: Callable[[], bool]) -> tuple[threading.Thread, list[bool]]:
    woken: list[bool] = []
    thread = threading.Thread(target=lambda: woken.append(wait()))
    thread.start()
    return thread, woken


def waiting(some: Waiters, count: int = 1) -> Callable[[], bool]:
    return lambda: some._count == count


def test_an_attempt_of_this_process_wakes_its_waiting_threads(rig: Rig) -> None:
    """S9."""
    rig.claim()
    seen, some = rig.checkpoint(), waiters()
    threads = [in_thread(partial(some.wait, rig.store, seen, LONG)) for _ in range(3)]
    until(waiting(some, 3), "all three wait")
    some.notify(seen.digest)
    for thread, woken in threads:
        thread.join()
        assert woken == [True]
    assert some._wakers == {}


def test_an_attempt_of_this_process_wakes_its_waiting_tasks(rig: Rig) -> None:
    """S9. It ends on a thread as well as on the loop."""
    rig.claim()
    seen, some = rig.checkpoint(), waiters()

    async def wait() -> list[bool]:
        tasks = [asyncio.create_task(some.await_(rig.store, seen, LONG)) for _ in range(3)]
        await auntil(waiting(some, 3), "all three wait")
        await asyncio.to_thread(some.notify, seen.digest)
        return await asyncio.gather(*tasks)

    assert asyncio.run(wait()) == [True] * 3
    assert (some._count, some._wakers) == (0, {})


def _released(rig: Rig, seen: Checkpoint) -> None:
    rig.store.run(partial(rig.store.verbs.release, seen.claim(15.0)))


def _parked(rig: Rig, seen: Checkpoint) -> None:
    rig.store.run(partial(rig.store.verbs.park, seen.claim(15.0), "by an operator"))


def _abandoned(rig: Rig, seen: Checkpoint) -> None:
    rig.time.advance(seen.lease_remaining_seconds)


@pytest.mark.parametrize("change", [_released, _parked, _abandoned])
def test_what_another_process_does_is_noticed_by_looking(rig: Rig, change: Callable[[Rig, Checkpoint], None]) -> None:
    """S9, C6."""
    rig.claim()
    seen, some = rig.checkpoint(), waiters()
    thread, woken = in_thread(partial(some.wait, rig.store, seen, LONG))
    until(waiting(some), "somebody waits")
    change(rig, seen)
    thread.join()
    assert woken == [True]


def test_no_more_requests_wait_than_the_limit_says(rig: Rig) -> None:
    """S9."""
    rig.claim()
    seen, some = rig.checkpoint(), waiters(limit=1)
    thread, woken = in_thread(partial(some.wait, rig.store, seen, LONG))
    until(waiting(some), "one waits")
    assert not some.wait(rig.store, seen, LONG)
    assert not asyncio.run(some.await_(rig.store, seen, LONG))
    some.notify(seen.digest)
    thread.join()
    assert woken == [True]


def test_a_wait_is_over_when_its_seconds_are(rig: Rig) -> None:
    """S9."""
    rig.claim()
    seen, some = rig.checkpoint(), waiters()
    assert not some.wait(rig.store, seen, 0.01)
    assert not asyncio.run(some.await_(rig.store, seen, 0.01))
    assert (some._count, some._wakers) == (0, {})


def test_a_store_that_fails_ends_the_wait_and_frees_the_place(rig: Rig) -> None:
    """S9, D1."""
    rig.claim()
    seen, some = rig.checkpoint(), waiters(limit=1)
    rig.store.plan(fail("read"))
    with pytest.raises(StoreUnavailable):
        some.wait(rig.store, seen, LONG)
    with pytest.raises(StoreUnavailable):
        asyncio.run(some.await_(rig.store, seen, LONG))
    assert (some._count, some._wakers) == (0, {})


def test_a_cancelled_wait_frees_its_place(rig: Rig) -> None:
    """S9."""
    rig.claim()
    seen, some = rig.checkpoint(), waiters()

    async def cancelled() -> None:
        task = asyncio.create_task(some.await_(rig.store, seen, LONG))
        await auntil(waiting(some), "somebody waits")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancelled())
    assert (some._count, some._wakers) == (0, {})


def test_a_waiter_is_woken_by_the_record_and_replays(rig: Rig) -> None:
    """S9, C6."""
    first, _ = rig.begin()
    second = rig.run(ONCE, wait_seconds=LONG)
    answers: list[object] = []
    thread = threading.Thread(target=lambda: answers.append(second.advance()))
    thread.start()
    until(waiting(rig.engine.waiters), "the second waits")
    assert first.advance(returned()) == fx.Fresh(CREATED)
    thread.join()
    assert [answer.response for answer in answers if isinstance(answer, fx.Replayed)] == [CREATED]


def test_a_waiter_claims_a_key_that_was_released_meanwhile(rig: Rig) -> None:
    """C6."""
    _, claim = rig.begin()
    second = rig.run(ONCE, wait_seconds=LONG)
    steps: list[object] = []
    thread = threading.Thread(target=lambda: steps.append(second.advance()))
    thread.start()
    until(waiting(rig.engine.waiters), "the second waits")
    rig.engine.perform(fx.Release(claim), ONCE)
    thread.join()
    assert [step.claim.fence for step in steps if isinstance(step, fx.Execute) and step.claim] == [2]


def test_a_wait_is_spent_once() -> None:
    """A client is not held for longer than it asked, however often somebody else is faster (S9)."""
    rig = Rig()
    rig.claim()
    asks = rig.store.calls["claim"]
    run = rig.run(ONCE, wait_seconds=LONG, stop=nobody)
    caught: list[BaseException] = []

    def advance() -> None:
        try:
            run.advance()
        except InProgress as error:
            caught.append(error)

    thread = threading.Thread(target=advance)
    thread.start()
    until(waiting(rig.engine.waiters), "somebody waits")
    rig.engine.waiters.notify(rig.checkpoint().digest)
    thread.join()
    assert [type(error) for error in caught] == [InProgress]
    assert rig.store.calls["claim"] == asks + 2
    rig.engine.close()
