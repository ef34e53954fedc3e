"""Shutting down in the middle of operations: whose claim may be handed over, and whose may not."""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
import uvloop

from retrysafe import State
from retrysafe.adapters.asgi import RetrySafeMiddleware
from retrysafe.adapters.asgi.types import App, Message
from retrysafe.runtime import events
from retrysafe.stores.base import Query
from retrysafe.testing.faults import delay, fail
from tests.runtime.rig import auntil
from tests.runtime.surfaces import Guarded, acall, guarded, responding

HOUR = timedelta(hours=1)
LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}

Handler = Callable[[], Coroutine[Any, Any, None]]


@pytest.fixture(params=LOOPS)
def runner(request: pytest.FixtureRequest) -> Any:
    with asyncio.Runner(loop_factory=LOOPS[request.param]) as runner:
        yield runner


async def shut_down(app: App, condition: Callable[[], object]) -> None:
    """Go through a lifespan in which one request is made, whose operation is running when the shutdown begins."""
    moments: asyncio.Queue[Message] = asyncio.Queue()
    moments.put_nowait({"type": "lifespan.startup"})
    told: list[str] = []

    async def send(message: Message) -> None:
        told.append(message["type"])

    lifespan = asyncio.ensure_future(app({"type": "lifespan", "asgi": {"version": "3.0"}}, moments.get, send))
    await auntil(lambda: told, "it has started")
    others = asyncio.create_task(_tick())
    request = asyncio.create_task(acall(app))
    await auntil(condition, "the operation runs")
    moments.put_nowait({"type": "lifespan.shutdown"})
    await lifespan
    with suppress(RuntimeError):
        await request
    others.cancel()


async def _tick() -> None:
    """Something else on the loop that is always due before the timers of an operation."""
    while True:  # noqa: ASYNC110 - it waits for nothing
        await asyncio.sleep(0.001)


def remaining(service: Guarded) -> float:
    (met,) = service.store.query(partial(service.store.verbs.listing, Query()))
    assert met.state is State.RUNNING
    return met.lease_remaining_seconds


async def sleeps() -> None:
    await asyncio.sleep(3600)


async def waits_with_a_timeout() -> None:
    async with asyncio.timeout(3600):
        await asyncio.wait_for(asyncio.Event().wait(), 3600)


async def runs_children() -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(sleeps())
        group.create_task(waits_with_a_timeout())


async def fails_while_it_is_cancelled() -> None:
    try:
        await sleeps()
    except asyncio.CancelledError as error:
        message = "the transaction could not be rolled back"
        raise asyncio.CancelledError(message) from error


ASYNC: list[Handler] = [sleeps, waits_with_a_timeout, runs_children, fails_while_it_is_cancelled]


def service_for(**how: Any) -> Any:
    settings = {"drain": timedelta(seconds=0.01)} | how
    return guarded(policy={"mode": "again", "lease": HOUR, "max_duration": HOUR}, **settings)


@pytest.mark.parametrize("handler", ASYNC)
def test_the_claim_of_a_task_that_has_stopped_is_handed_over_at_once(runner: asyncio.Runner, handler: Handler) -> None:
    """Whatever timers and tracebacks still lie about (C7)."""
    begun: list[bool] = []

    async def work() -> None:
        begun.append(True)
        await handler()

    with service_for() as service:
        runner.run(shut_down(RetrySafeMiddleware(responding(work), service.guard), lambda: begun))
        assert remaining(service) <= 0


def test_the_claim_of_an_operation_whose_thread_still_runs_is_left_to_its_lease(runner: asyncio.Runner) -> None:
    """C7."""
    gate, begun = threading.Event(), threading.Event()

    def block() -> None:
        begun.set()
        gate.wait()

    with service_for() as service:
        app = RetrySafeMiddleware(responding(partial(asyncio.to_thread, block)), service.guard)
        runner.run(shut_down(app, begun.is_set))
        assert remaining(service) > HOUR.total_seconds() / 2
        gate.set()


def test_what_ends_within_the_drain_is_recorded(runner: asyncio.Runner) -> None:
    """C7."""
    begun: list[bool] = []

    async def work() -> None:
        begun.append(True)
        await asyncio.sleep(0.01)

    with service_for(drain=timedelta(seconds=20)) as service:
        runner.run(shut_down(RetrySafeMiddleware(responding(work), service.guard), lambda: begun))
        assert len(service.events.of(events.Recorded)) == 1


def test_what_waits_to_be_recorded_is_recorded_before_the_process_ends(runner: asyncio.Runner) -> None:
    """C7, D2."""
    with service_for(drain=timedelta(seconds=20)) as service:
        service.store.plan(fail("record", call=1), fail("record", call=2))
        app = RetrySafeMiddleware(responding(partial(asyncio.sleep, 0)), service.guard)
        runner.run(shut_down(app, lambda: service.events.of(events.RecordDeferred)))
        assert len(service.events.of(events.Recorded)) == 1


def test_what_is_handed_over_is_not_taken_up_again_by_the_process_that_stops(runner: asyncio.Runner) -> None:
    """It would die with it, and count as a death (C7, R8)."""
    begun: list[bool] = []

    async def work() -> None:
        begun.append(True)
        await sleeps()

    with service_for(scan=timedelta(milliseconds=1), restore_principal=lambda *_: None) as service:
        service.store.plan(delay("hand_over", timedelta(milliseconds=50), when="after"))
        runner.run(shut_down(RetrySafeMiddleware(responding(work), service.guard), lambda: begun))
        assert remaining(service) <= 0
        assert begun == [True]
