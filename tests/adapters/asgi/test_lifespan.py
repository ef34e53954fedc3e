"""Starting with the application, and draining before it stops (C7, K4, D1)."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from retrysafe import SchemaMismatch
from retrysafe.adapters.asgi import RetrySafeMiddleware
from retrysafe.testing.faults import fail
from tests.adapters.asgi.server import Exchange, http_scope, part, run, start
from tests.adapters.guards import House

if TYPE_CHECKING:
    from retrysafe.adapters.asgi.types import App, Message, Receive, Scope, Send

COMPLETE: Message = {"type": "lifespan.startup.complete"}
STOPPED: Message = {"type": "lifespan.shutdown.complete"}


async def lively(scope: Scope, receive: Receive, send: Send) -> None:
    """An application with a lifespan, and requests that are answered."""
    if scope["type"] != "lifespan":
        await receive()
        await send(start())
        await send(part())
        return
    assert await receive() == {"type": "lifespan.startup"}
    scope["state"]["opened"] = True
    await send(COMPLETE)
    assert await receive() == {"type": "lifespan.shutdown"}
    await send(STOPPED)


async def unaware(scope: Scope, receive: Receive, send: Send) -> None:
    """An application that asserts that it is called for requests only."""
    assert scope["type"] == "http"
    await lively(scope, receive, send)


async def unaware_later(scope: Scope, receive: Receive, send: Send) -> None:
    """An application that takes the first message for a request's."""
    message = await receive()
    assert message["type"] == "http.request"
    await send(start())
    await send(part())


async def silent(scope: Scope, receive: Receive, send: Send) -> None:
    """An application that returns when it is not called for a request."""
    if scope["type"] == "http":
        await lively(scope, receive, send)


class Server:
    """The lifespan of a server."""

    def __init__(self, app: App) -> None:
        self.state: dict[str, Any] = {}
        self.sent: list[Message] = []
        self._messages: asyncio.Queue[Message] = asyncio.Queue()
        self._answered = asyncio.Event()
        scope = {"type": "lifespan", "asgi": {"version": "3.0"}, "state": self.state}
        self.task = asyncio.ensure_future(app(scope, self._messages.get, self._send))

    async def _send(self, message: Message) -> None:
        self.sent.append(message)
        self._answered.set()

    async def say(self, kind: str) -> None:
        """Send a message, and return when it was answered or the application has returned."""
        self._answered.clear()
        self._messages.put_nowait({"type": kind})
        answered = asyncio.ensure_future(self._answered.wait())
        await asyncio.wait([answered, self.task], return_when=asyncio.FIRST_COMPLETED)
        answered.cancel()


@pytest.mark.parametrize("app", [lively, unaware, silent])
def test_every_application_is_started_and_drained(house: House, app: App) -> None:
    """C7: also one that knows no lifespan."""

    async def live() -> Server:
        server = Server(RetrySafeMiddleware(app, guard=house.guard))
        await server.say("lifespan.startup")
        assert (server.sent, house.guard.local_engine().opened) == ([COMPLETE], True)
        await server.say("lifespan.shutdown")
        await server.task
        return server

    server = run(live())
    assert server.sent == [COMPLETE, STOPPED]
    assert server.state == ({"opened": True} if app is lively else {})


def test_an_application_that_fails_to_start_is_not_taken_for_one_that_knows_no_lifespan(house: House) -> None:
    """The server hears what the application raised, as it would without us."""

    async def live() -> None:
        server = Server(RetrySafeMiddleware(unaware_later, guard=house.guard))
        await server.say("lifespan.startup")
        with pytest.raises(AssertionError):
            await server.task
        assert server.sent == []

    run(live())


def test_a_wrong_pepper_refuses_to_start(house: House) -> None:
    """K4: every key would be free again."""
    house.guard.engine()
    guard = house.another_guard(pepper=b"another" * 8)

    async def live() -> Server:
        server = Server(RetrySafeMiddleware(lively, guard=guard))
        await server.say("lifespan.startup")
        server.task.cancel()
        await asyncio.wait([server.task])
        return server

    ((failed),) = run(live()).sent
    assert failed["type"] == "lifespan.startup.failed"
    assert "pepper" in failed["message"]
    assert "another" not in failed["message"]


def test_a_wrong_pepper_refuses_requests_where_there_is_no_lifespan(house: House) -> None:
    """K4: nothing runs under keys that would be free again."""
    house.guard.engine()
    guard = house.another_guard(pepper=b"another" * 8)
    ran: list[Scope] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        ran.append(scope)
        await lively(scope, receive, send)

    async def one() -> None:
        with pytest.raises(Exception, match="pepper"):
            await Exchange().through(RetrySafeMiddleware(app, guard=guard))

    run(one())
    assert ran == []


def test_a_schema_that_does_not_fit_refuses_to_start(house: House) -> None:
    """D1: it does not pass by itself."""
    house.store.plan(fail("open", error=lambda: SchemaMismatch(2, 1)))

    async def live() -> Server:
        server = Server(RetrySafeMiddleware(lively, guard=house.guard))
        await server.say("lifespan.startup")
        server.task.cancel()
        await asyncio.wait([server.task])
        return server

    assert run(live()).sent[0]["type"] == "lifespan.startup.failed"


def test_a_store_that_is_down_does_not_keep_an_application_from_starting(house: House) -> None:
    """D1: its guarded requests are answered 503, until the store is back."""
    house.store.plan(fail("open"))

    async def live() -> tuple[Server, list[int]]:
        app = RetrySafeMiddleware(lively, guard=house.guard)
        server = Server(app)
        await server.say("lifespan.startup")
        down = (await Exchange().through(app)).status
        house.store.heal()
        back = (await Exchange().through(app)).status
        await server.say("lifespan.shutdown")
        await server.task
        return server, [down, back]

    server, statuses = run(live())
    assert (server.sent, statuses) == ([COMPLETE, STOPPED], [503, 201])


def test_an_application_that_fails_to_start_says_so_itself(house: House) -> None:
    """We add nothing to it."""
    failed = {"type": "lifespan.startup.failed", "message": "the application's own"}

    async def app(_: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send(failed)
        raise LookupError("and it raises as Starlette does")

    async def live() -> Server:
        server = Server(RetrySafeMiddleware(app, guard=house.guard))
        await server.say("lifespan.startup")
        with pytest.raises(LookupError):
            await server.task
        return server

    assert run(live()).sent == [failed]
    assert not house.guard.local_engine().opened


def test_an_application_that_fails_while_it_lives_is_heard(house: House) -> None:
    """Its exception is the server's to show."""

    async def app(_: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send(COMPLETE)
        raise LookupError("later")

    async def live() -> None:
        server = Server(RetrySafeMiddleware(app, guard=house.guard))
        await server.say("lifespan.startup")
        with pytest.raises(LookupError):
            await server.task

    run(live())


def test_shutdown_waits_for_operations_in_flight(house: House) -> None:
    """C7: the application is stopped only after them."""
    order: list[str] = []
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await lively(scope, receive, send)
            order.append("application stopped")
            return
        order.append("operation begins")
        begun.set()
        await go_on.wait()
        order.append("operation ends")
        await send(start())
        await send(part())

    async def live() -> Exchange:
        guarded = RetrySafeMiddleware(app, guard=house.guard)
        server = Server(guarded)
        await server.say("lifespan.startup")
        request = asyncio.ensure_future(Exchange().through(guarded))
        await begun.wait()
        shutdown = asyncio.ensure_future(server.say("lifespan.shutdown"))
        for _ in range(20):
            await asyncio.sleep(0)
        assert server.sent == [COMPLETE]
        go_on.set()
        await shutdown
        await server.task
        return await request

    assert (run(live()).status, house.states) == (201, ["done"])
    assert order == ["operation begins", "operation ends", "application stopped"]


@pytest.mark.parametrize(("path", "left"), [("/once/1", "parked"), ("/again/1", "done")])
def test_what_does_not_end_is_stopped_and_handed_over(path: str, left: str) -> None:
    """C7: its lease ends at once, so that nobody waits for it; what then happens is the mode's."""
    house = House({"drain": _moment()})
    begun = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await lively(scope, receive, send)
            return
        begun.set()
        await asyncio.Event().wait()

    async def live() -> None:
        guarded = RetrySafeMiddleware(app, guard=house.guard)
        server = Server(guarded)
        await server.say("lifespan.startup")
        exchange = Exchange(http_scope(path))
        request = asyncio.ensure_future(exchange.through(guarded))
        await begun.wait()
        await server.say("lifespan.shutdown")
        await server.task
        await request
        assert exchange.status == 503
        retry = Exchange(http_scope(path))
        await retry.through(RetrySafeMiddleware(lively, guard=house.another_guard()))
        assert retry.status == (409 if left == "parked" else 201)

    run(live())
    assert house.states == [left]


def _moment() -> Any:
    from datetime import timedelta

    return timedelta(milliseconds=20)


def test_a_guard_may_be_used_again_after_a_shutdown(house: House) -> None:
    """Test suites start an application many times."""

    async def live() -> int:
        app = RetrySafeMiddleware(lively, guard=house.guard)
        server = Server(app)
        await server.say("lifespan.startup")
        exchange = await Exchange().through(app)
        await server.say("lifespan.shutdown")
        await server.task
        return exchange.status + exchange.replayed

    assert [run(live()) for _ in range(3)] == [201, 202, 202]
