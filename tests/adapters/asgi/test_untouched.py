"""Requests that are not guarded: the application gets the server's own objects (S8)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from retrysafe import KeyRules
from retrysafe.adapters.asgi import RetrySafeMiddleware
from tests.adapters.asgi.server import http_scope, run
from tests.adapters.guards import House

if TYPE_CHECKING:
    from retrysafe.adapters.asgi.types import Message, Receive, Scope, Send


async def receive() -> Message:
    raise AssertionError("nobody reads from a request that is not guarded")


async def send(_: Message) -> None:
    raise AssertionError("nobody answers it")


SCOPES: dict[str, Scope] = {
    "a read with a key": http_scope(method="GET"),
    "a HEAD": http_scope(method="HEAD"),
    "a write without a key": http_scope(key=None),
    "an exempt write with a key": http_scope("/exempt/1"),
    "an exempt write with a bad key": http_scope("/exempt/1", key="a b"),
    "a read with a bad key": http_scope(method="GET", key="a b"),
    "a websocket": {**http_scope(), "type": "websocket"},
    "something new": {"type": "webtransport"},
}


@pytest.mark.parametrize("scope", SCOPES.values(), ids=SCOPES)
def test_the_application_sees_the_very_objects_of_the_server(house: House, scope: Scope) -> None:
    """S8: not copies, not wrappers; nothing is read, looked up or added."""
    house.guard.exempt("* /exempt/*")
    seen: list[tuple[Any, Any, Any]] = []
    before = dict(scope)

    async def app(*arguments: Any) -> None:
        seen.append(arguments)

    run(RetrySafeMiddleware(app, guard=house.guard)(scope, receive, send))
    ((got_scope, got_receive, got_send),) = seen
    assert got_scope is scope
    assert got_receive is receive
    assert got_send is send
    assert scope == before
    assert house.store.calls == {}


def test_exceptions_of_an_unguarded_request_pass(house: House) -> None:
    """S8."""

    async def app(_: Scope, __: Receive, ___: Send) -> None:
        raise LookupError("the application's own")

    with pytest.raises(LookupError):
        run(RetrySafeMiddleware(app, guard=house.guard)(http_scope(key=None), receive, send))


def test_the_application_sees_the_scope_of_a_guarded_request(house: House) -> None:
    """S8: frameworks keep things in it, so that it is the same object."""
    scope = http_scope(headers=[(b"x-twice", b"1"), (b"x-twice", b"2")])
    seen: list[Scope] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope)
        message = await receive()
        assert message == {"type": "http.request", "body": b"{}", "more_body": False}
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})

    async def give() -> Message:
        return {"type": "http.request", "body": b"{}"}

    async def take(_: Message) -> None:
        pass

    run(RetrySafeMiddleware(app, guard=house.guard)(scope, give, take))
    assert seen[0] is scope


def test_other_headers_may_carry_the_key() -> None:
    """K1."""
    house = House({"keys": KeyRules(headers=("X-Request-Id",))})
    seen: list[Any] = []

    async def app(*arguments: Any) -> None:
        seen.append(arguments)

    run(RetrySafeMiddleware(app, guard=house.guard)(http_scope(), receive, send))
    assert seen[0][1] is receive
