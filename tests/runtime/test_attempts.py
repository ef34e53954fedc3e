"""Attempts under their leases: blocked loops, outages, and what their clients hear."""

import asyncio
import time
from collections.abc import Iterator
from datetime import timedelta
from functools import partial

import pytest

from retrysafe import State
from retrysafe.adapters.asgi import RetrySafeMiddleware
from retrysafe.adapters.wsgi import RetrySafeMiddleware as WsgiMiddleware
from retrysafe.protocol.encoding import encode_outcome
from retrysafe.protocol.model import Checkpoint, Limits, Outcome
from retrysafe.protocol.verdicts import Claimed
from retrysafe.runtime import events
from retrysafe.stores.base import Query, Terms
from retrysafe.testing.faults import fail
from tests.runtime.rig import auntil, until
from tests.runtime.surfaces import Guarded, acall, call, guarded, responding

SECOND = timedelta(seconds=1)
SHORT = {"lease": SECOND, "max_duration": timedelta(seconds=60)}


@pytest.fixture(params=["once", "again"])
def service(request: pytest.FixtureRequest) -> Iterator[Guarded]:
    """A guard whose leases are as short as they may be."""
    with guarded(policy={"mode": request.param, **SHORT}) as service:
        yield service


def only(service: Guarded) -> Checkpoint:
    (met,) = service.store.query(partial(service.store.verbs.listing, Query()))
    return met


def test_a_handler_that_blocks_the_loop_for_longer_than_its_lease_keeps_it(service: Guarded) -> None:
    """Renewals have a thread of their own (C3)."""
    remaining: list[float] = []

    async def block() -> None:
        blocked_until = time.monotonic() + 1.7
        while time.monotonic() < blocked_until:
            time.sleep(0.05)  # noqa: ASYNC251 - that is the point
        remaining.append(only(service).lease_remaining_seconds)

    app = RetrySafeMiddleware(responding(block), service.guard)
    assert asyncio.run(acall(app)).status == 201
    assert remaining[0] > 0
    assert service.store.calls["renew"] >= 2
    assert service.events.of(events.LeaseLost) == []
    assert asyncio.run(acall(app)).replayed


def test_an_outage_longer_than_the_lease_cancels_the_handler_and_its_client_is_told_503(service: Guarded) -> None:
    """C3, C4. What it would have answered is nobody's business any more."""
    cancelled: list[bool] = []

    async def work() -> None:
        service.store.plan(fail("*"))
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(True)
            raise

    reply = asyncio.run(acall(RetrySafeMiddleware(responding(work), service.guard)))
    assert (reply.status, reply.code) == (503, "attempt-superseded")
    assert cancelled == [True]
    assert len(service.events.of(events.LeaseLost)) == 1


def test_the_key_of_a_cancelled_attempt_is_not_held_when_the_store_is_back(service: Guarded) -> None:
    """Nobody works on it, so nobody may renew it (C3, C7)."""

    async def work() -> None:
        service.store.plan(fail("*"))
        await asyncio.Event().wait()

    asyncio.run(acall(RetrySafeMiddleware(responding(work), service.guard)))
    service.store.heal()
    until(lambda: only(service).lease_remaining_seconds <= 0, "the lease runs out")
    assert service.guard.local_engine().keeper.claims() == []


def test_a_claim_that_was_taken_over_cancels_the_handler_and_its_client_gets_the_winners_answer(
    service: Guarded,
) -> None:
    """C4: never its own."""
    app = RetrySafeMiddleware(responding(partial(asyncio.sleep, 60)), service.guard)

    async def losing() -> tuple[int, bytes]:
        first = asyncio.create_task(acall(app))
        await auntil(lambda: service.events.of(events.Claimed), "the first runs")
        _take_over_and_finish(service)
        reply = await first
        return reply.status, reply.body

    assert asyncio.run(losing()) == (200, b"the winner's")
    assert len(service.events.of(events.LeaseLost)) == 1


def _take_over_and_finish(service: Guarded) -> None:
    """As another process would: end the lease, take over, record."""
    verbs, met = service.store.verbs, only(service)
    claim = met.claim(1.0)
    if met.mode == "again":
        service.store.run(partial(verbs.hand_over, [claim]))
        seen = only(service)
        taken = service.store.run(partial(verbs.reclaim, seen, Terms("another attempt", Limits(9), 60.0, 0.0)))
        assert isinstance(taken, Claimed)
        claim = taken.claim
    outcome = encode_outcome(Outcome(200, (), b"the winner's"))
    service.store.run(partial(verbs.record, claim, outcome, retention_seconds=60.0, tombstone_seconds=60.0))


@pytest.mark.parametrize(("mode", "retried"), [("once", (409, "outcome-unknown")), ("again", (201, None))])
def test_a_handler_that_outlasts_its_duration_is_cancelled_and_told_of(
    mode: str, retried: tuple[int, str | None]
) -> None:
    """C8. Its key is abandoned: parked in mode once, claimed anew in mode again."""
    hangs = [True, False]

    async def work() -> None:
        if hangs.pop(0):
            await asyncio.Event().wait()

    with guarded(policy={"mode": mode, "lease": SECOND, "max_duration": SECOND}) as service:
        app = RetrySafeMiddleware(responding(work), service.guard)
        reply = asyncio.run(acall(app))
        assert (reply.status, reply.code) == (503, "attempt-superseded")
        assert len(service.events.of(events.Overran)) == 1
        until(lambda: only(service).lease_remaining_seconds <= 0, "the lease runs out")
        reply = asyncio.run(acall(app))
        assert (reply.status, reply.code) == retried


def test_an_application_that_cancels_itself_leaves_its_key_to_the_lease(service: Guarded) -> None:
    """C7: a cancelled attempt is a crash, whoever cancelled it."""

    async def work() -> None:
        raise asyncio.CancelledError

    reply = asyncio.run(acall(RetrySafeMiddleware(responding(work), service.guard)))
    assert (reply.status, reply.code) == (503, "attempt-superseded")
    assert only(service).state is State.RUNNING
    assert service.guard.local_engine().keeper.claims() == []


def test_a_thread_that_its_server_ends_leaves_its_key_to_the_lease(service: Guarded) -> None:
    """C7."""

    def app(environ: object, start_response: object) -> list[bytes]:
        raise SystemExit

    with pytest.raises(SystemExit):
        call(WsgiMiddleware(app, service.guard))
    assert only(service).state is State.RUNNING
    assert service.guard.local_engine().keeper.claims() == []


def test_an_answer_that_could_not_be_recorded_says_so_and_its_retry_replays(service: Guarded) -> None:
    """D2: never a second run."""
    runs: list[int] = []

    async def work() -> None:
        runs.append(1)

    app = RetrySafeMiddleware(responding(work), service.guard)
    service.store.plan(fail("record", call=1))
    first = asyncio.run(acall(app))
    assert (first.status, first.headers["idempotency-stored"]) == (201, "false")
    assert service.guard.local_engine().deferred.drain(20)
    again = asyncio.run(acall(app))
    assert (again.status, again.replayed, runs) == (201, True, [1])


def test_until_it_is_recorded_a_retry_is_told_to_wait(service: Guarded) -> None:
    """D2: the claim is not freed because saving failed."""

    async def work() -> None:
        service.store.plan(fail("record"))

    app = RetrySafeMiddleware(responding(work), service.guard)
    assert asyncio.run(acall(app)).headers["idempotency-stored"] == "false"
    reply = asyncio.run(acall(app))
    assert (reply.status, reply.code) == (409, "in-progress")


def test_a_store_that_is_down_before_the_operation_keeps_it_from_running(service: Guarded) -> None:
    """Fail closed (D1), when connecting and later."""
    runs: list[int] = []

    async def work() -> None:
        runs.append(1)

    app = RetrySafeMiddleware(responding(work), service.guard)
    for down in ("open", "claim"):
        service.store.plan(fail(down))
        reply = asyncio.run(acall(app))
        assert (reply.status, reply.code, reply.headers["retry-after"]) == (503, "store-unavailable", "1")
        service.store.heal()
    assert runs == []
    assert asyncio.run(acall(app)).status == 201


@pytest.mark.parametrize("down", ["open", "claim"])
@pytest.mark.parametrize("surface", ["asgi", "wsgi"])
def test_an_operation_that_prefers_running_unprotected_does_and_says_so(down: str, surface: str) -> None:
    """Fail open (D1)."""

    def wsgi_app(environ: object, start_response: object) -> list[bytes]:
        start_response("201 Created", [("content-length", "2")])  # type: ignore[operator]
        return [b"{}"]

    with guarded(policy={"fail_open": True}) as service:
        service.store.plan(fail(down))
        if surface == "asgi":
            reply = asyncio.run(acall(RetrySafeMiddleware(responding(partial(asyncio.sleep, 0)), service.guard)))
        else:
            reply = call(WsgiMiddleware(wsgi_app, service.guard))
        assert (reply.status, reply.headers["idempotency-status"]) == (201, "unprotected")
        told = service.events.of(events.Unprotected)
        assert [(event.name, event.reason) for event in told] == [("POST /charges", "store unavailable")]
        service.store.heal()
        assert service.store.query(partial(service.store.verbs.listing, Query())) == []
