"""A guarded application whose checkpoints are in NATS, from the request to the recovery."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from functools import partial

import httpx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from retrysafe import SHARED, Policy, RetrySafe
from retrysafe.adapters.asgi import RetrySafeMiddleware
from retrysafe.protocol.model import Mode
from retrysafe.protocol.states import State
from retrysafe.stores.nats import NatsStore
from retrysafe.testing.asks import an_ask
from retrysafe.testing.runner import Runner
from tests.stores.postgres.tools import until


def test_a_request_runs_once_is_replayed_and_conflicts_with_itself(make: Callable[[], NatsStore]) -> None:
    """C1, S1, S7: natively on the loop of the server, whose renewals and scans go through the thread."""
    store, runs = make(), list[int]()
    entered, leave = asyncio.Event(), asyncio.Event()

    async def charge(request: Request) -> JSONResponse:
        runs.append(1)
        if request.url.query:
            entered.set()
            await leave.wait()
        return JSONResponse({"charge": len(runs)}, 201)

    async def requests() -> None:
        guard = RetrySafe(store, principal=SHARED, sinks=[])
        app = RetrySafeMiddleware(Starlette(routes=[Route("/charges", charge, methods=["POST"])]), guard=guard)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://shop") as client:
            one = {"Idempotency-Key": "one"}
            first = await client.post("/charges", headers=one)
            again = await client.post("/charges", headers=one)
            assert (first.status_code, first.json()) == (201, {"charge": 1})
            assert (again.content, again.headers["idempotent-replayed"]) == (first.content, "true")
            slow = asyncio.ensure_future(client.post("/charges?slow", headers={"Idempotency-Key": "two"}))
            await entered.wait()
            assert (await client.post("/charges?slow", headers={"Idempotency-Key": "two"})).status_code == 409
            leave.set()
            assert (await slow).status_code == 201
        await asyncio.to_thread(guard.close)
        await store.aclose()

    asyncio.run(requests())
    assert len(runs) == 2


def test_what_a_dead_process_left_is_parked_by_the_scan_of_another(make: Callable[[], NatsStore]) -> None:
    """R2, C5: by the server's clock, as soon as the lease is over."""
    dead, alive = make(), make()
    claim = Runner(dead, "sync").claimed(an_ask(mode=Mode.ONCE, lease_seconds=0.5))
    guard = RetrySafe(
        alive, principal=SHARED, sinks=[], scan=timedelta(milliseconds=50), policy=Policy(lease=timedelta(seconds=1))
    )
    guard.engine()
    until(lambda: _state(dead, claim.digest) is State.PARKED)
    guard.close()


def _state(store: NatsStore, digest: bytes) -> State | None:
    met = store.query(partial(store.verbs.read, digest))
    return None if met is None else met.state
