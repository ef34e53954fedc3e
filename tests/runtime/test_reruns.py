"""Surfaces that run abandoned operations again."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from typing import Any

import pytest

from retrysafe import Checkpoint, Operation, State, current_operation
from retrysafe.adapters.asgi import RetrySafeMiddleware
from retrysafe.adapters.wsgi import RetrySafeMiddleware as WsgiMiddleware
from retrysafe.adapters.wsgi.types import Environ, StartResponse
from retrysafe.runtime import events
from retrysafe.runtime.recovery import Scanner
from retrysafe.stores.base import Query
from tests.runtime.rig import auntil, until
from tests.runtime.surfaces import Guarded, acall, call, guarded, responding

SECOND = timedelta(seconds=1)
AGAIN = {"mode": "again", "lease": SECOND, "max_duration": timedelta(seconds=60)}


def stored(service: Guarded) -> list[Checkpoint]:
    return list(service.store.query(partial(service.store.verbs.listing, Query())))


def scanner(service: Guarded) -> Scanner:
    """A scan that looks when it is told to."""
    engines = service.guard._engines
    return Scanner(
        service.guard.engine(), service.guard.policy_of, engines.reruns, namespace="default", interval_seconds=3600.0
    )


def abandon(service: Guarded, app: Any, count: int) -> None:
    """Leave claims behind, as processes do that die."""
    for number in range(count):
        with pytest.raises(SystemExit):
            call(app, key=f"key-{number}")
    until(lambda: all(met.lease_remaining_seconds <= 0 for met in stored(service)), "their leases are over")


@contextmanager
def shop(handler: Callable[[Operation], None]) -> Iterator[tuple[Guarded, WsgiMiddleware]]:
    """A WSGI application whose first attempts die."""

    def app(environ: Environ, start_response: StartResponse) -> list[bytes]:
        operation = current_operation()
        assert operation is not None
        if operation.attempt == 1:
            raise SystemExit
        handler(operation)
        start_response("201 Created", [("content-length", "2")])
        return [b"{}"]

    with guarded(policy=AGAIN, restore_principal=lambda *_: None) as service:
        yield service, WsgiMiddleware(app, service.guard)


def test_however_often_the_scan_looks_an_operation_is_lined_up_once() -> None:
    """Re-runs may take minutes, and the scan looks every second (R2)."""
    gate, ran = threading.Event(), list[Operation]()

    def wait(operation: Operation) -> None:
        ran.append(operation)
        gate.wait(20)

    with shop(wait) as (service, app):
        abandon(service, app, 10)
        scan = scanner(service)
        for _ in range(20):
            scan.look()
        until(lambda: len(ran) == 4, "as many run as may at once")
        assert app._executor is not None
        assert app._executor._work_queue.qsize() <= 6
        gate.set()
        until(lambda: {met.state for met in stored(service)} == {State.DONE}, "all are done")
    assert len({operation.id for operation in ran}) == len(ran) == 10


def test_a_principal_that_cannot_be_restored_is_told_and_counts_as_a_death() -> None:
    """R8, R13: the attempt is dead, and told; its request is kept for the next one."""

    def restore(*_: object) -> None:
        raise LookupError

    with guarded(policy=AGAIN, restore_principal=restore) as service:
        app = WsgiMiddleware(_dying, service.guard)
        abandon(service, app, 1)
        scanner(service).look()
        until(lambda: service.events.of(events.HandlerFailed), "it is told")
        assert [event.error for event in service.events.of(events.HandlerFailed)] == ["LookupError"]
        until(lambda: not service.guard.local_engine().keeper.claims(), "its lease is left to run out")
        [left] = stored(service)
        assert (left.state, left.deaths) == (State.RUNNING, 1)


def _dying(environ: Environ, start_response: StartResponse) -> list[bytes]:
    raise SystemExit


def test_on_a_loop_a_re_run_knows_that_nobody_waits_and_its_outcome_is_replayed() -> None:
    """R9, R13."""
    ran: list[Operation | None] = []

    async def work() -> None:
        ran.append(current_operation())
        if len(ran) == 1:
            raise asyncio.CancelledError

    async def recover(service: Guarded) -> None:
        app = RetrySafeMiddleware(responding(work), service.guard)
        assert (await acall(app)).code == "attempt-superseded"
        await auntil(lambda: stored(service)[0].lease_remaining_seconds <= 0, "its lease is over")
        scan = scanner(service)
        for _ in range(3):
            await asyncio.to_thread(scan.look)
        await auntil(lambda: stored(service)[0].state is State.DONE, "it was run again")
        assert (await acall(app)).replayed

    with guarded(policy=AGAIN, restore_principal=lambda *_: None) as service:
        asyncio.run(recover(service))
    first, second = ran
    assert first is not None
    assert second is not None
    assert (second.id, second.attempt, second.fence, second.recovering) == (first.id, 2, 2, True)
