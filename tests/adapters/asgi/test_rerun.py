"""A stored request as a scope, and an abandoned operation that is run again on the application's loop (R9, R13)."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from retrysafe import current_operation
from retrysafe.adapters.asgi import RetrySafeMiddleware
from retrysafe.adapters.asgi.rerun import scope_template, stored_scope
from retrysafe.protocol.model import StoredRequest
from retrysafe.runtime.recovery import Scanner
from tests.adapters.asgi.server import Exchange, http_scope, part, run, start
from tests.adapters.guards import House

if TYPE_CHECKING:
    from retrysafe.adapters.asgi.types import App, Receive, Scope, Send

REQUEST = StoredRequest(
    method="PUT",
    target=b"/caf%C3%A9/a%2Fb?x=%20&x=2",
    headers=((b"content-type", b"text/plain"), (b"host", b"shop.test")),
    body=b"body",
    operation="PUT /caf%C3%A9/{thing}",
)
TEMPLATE = {
    "type": "lifespan",
    "asgi": {"version": "3.0", "spec_version": "2.4"},
    "app": object(),
    "extensions": {"http.response.pathsend": {}},
    "state": {"database": "open"},
    "unknown": 1,
}


def test_a_stored_request_is_a_scope_as_a_server_makes_it() -> None:
    """R13."""
    scope = stored_scope({}, REQUEST)
    assert (scope["type"], scope["method"], scope["http_version"]) == ("http", "PUT", "1.1")
    assert (scope["path"], scope["raw_path"], scope["query_string"]) == (
        "/café/a/b",
        b"/caf%C3%A9/a%2Fb",
        b"x=%20&x=2",
    )
    assert scope["headers"] == [(b"content-type", b"text/plain"), (b"host", b"shop.test")]
    assert (scope["client"], scope["server"], scope["root_path"], scope["scheme"]) == (None, None, "", "http")


def test_a_stored_request_without_a_query_has_an_empty_one() -> None:
    """R13; and bytes that are no UTF-8 do not break it."""
    scope = stored_scope({}, StoredRequest("POST", b"/%FF", (), b"", "x"))
    assert (scope["path"], scope["query_string"]) == ("/�", b"")


def test_a_stored_request_has_what_the_server_gave_to_the_application() -> None:
    """R13: its state, each request its own copy; but no extension of a client that is not there."""
    template = scope_template(TEMPLATE)
    first, second = stored_scope(template, REQUEST), stored_scope(template, REQUEST)
    assert first["app"] is TEMPLATE["app"]
    assert (first["type"], first["extensions"], "unknown" in first) == ("http", {}, False)
    first["state"]["database"] = "closed"
    assert (second["state"], TEMPLATE["state"]) == ({"database": "open"}, {"database": "open"})


class Shop:
    """An application that can be made to hang, and remembers for whom it worked."""

    def __init__(self) -> None:
        self.hangs = True
        self.called = asyncio.Event()
        self.status = 201
        self.calls: list[tuple[Any, ...]] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await receive()
            scope["state"]["opened"] = True
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})
            return
        body = (await receive())["body"]
        operation = current_operation()
        assert operation is not None
        names = [name for name, _ in scope["headers"]]
        self.calls.append((scope.get("user"), body, operation.attempt, operation.recovering, names))
        self.called.set()
        if self.hangs:
            await asyncio.Event().wait()
        await send(start(self.status))
        await send(part())


SECRETS = [(b"authorization", b"Bearer secret"), (b"cookie", b"a=secret"), (b"x-other", b"1"), (b"accept", b"*/*")]


def restoring(is_async: bool) -> Any:
    """Return a hook that puts the principal into the scope."""

    def restore(scope: Scope, principal: str) -> None:
        scope["user"] = principal

    async def restore_later(scope: Scope, principal: str) -> None:
        await asyncio.sleep(0)
        restore(scope, principal)

    return restore_later if is_async else restore


async def recovered(house: House, shop: Shop, path: str = "/again/1") -> Exchange:
    """Let an attempt die, look for it, and let its client retry."""
    app: App = RetrySafeMiddleware(shop, guard=house.guard)
    dying = asyncio.ensure_future(Exchange(http_scope(path, headers=SECRETS), body=[b"{}"]).through(app))
    await shop.called.wait()
    house.clock.advance(60)
    shop.hangs = False
    other = house.another_guard()
    there = RetrySafeMiddleware(shop, guard=other)
    # The loop of the application is known from its lifespan, or from its first request.
    await Exchange(http_scope("/once/first", key="other")).through(there)
    shop.calls.pop()
    engine = await other.aengine()
    scanner = Scanner(engine, other.policy_of, other._engines.reruns, namespace="default", interval_seconds=1)
    await asyncio.to_thread(scanner.look)
    # Until nothing of the recovery is left to do on this loop.
    if reruns := there._live:
        await asyncio.wait(list(reruns))
    retry = await Exchange(http_scope(path, headers=SECRETS)).through(there)
    dying.cancel()
    await asyncio.wait([dying])
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        task.cancel()
    other.close()
    return retry


@pytest.mark.parametrize("is_async", [False, True])
def test_an_abandoned_operation_is_run_again_for_its_principal(is_async: bool) -> None:
    """R9, R13: with what was stored, and never with a credential."""
    house = House({"principal": lambda _: "alice", "restore_principal": restoring(is_async)})
    shop = Shop()
    retry = run(recovered(house, shop))
    assert (retry.status, retry.replayed, retry.content) == (201, True, b"made")
    client, rerun = shop.calls
    assert client[:4] == (None, b"{}", 1, False)
    assert rerun[:4] == ("alice", b"{}", 2, True)
    assert set(rerun[4]) == {b"content-type", b"accept"}


@pytest.mark.parametrize("status", [401, 403])
def test_an_operation_whose_principal_cannot_be_restored_is_parked(status: int) -> None:
    """R13."""
    house = House({"principal": lambda _: "alice", "restore_principal": restoring(is_async=False)})
    shop = Shop()
    shop.status = status
    retry = run(recovered(house, shop))
    assert (retry.status, b"outcome-unknown" in retry.content, len(shop.calls)) == (409, True, 2)


def test_a_once_operation_is_never_run_again() -> None:
    """R2: it is parked."""
    house = House({"principal": lambda _: "alice", "restore_principal": restoring(is_async=False)})
    shop = Shop()
    retry = run(recovered(house, shop, "/once/1"))
    assert (retry.status, b"outcome-unknown" in retry.content, len(shop.calls)) == (409, True, 1)
