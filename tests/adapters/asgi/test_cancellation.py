"""A request that is cancelled, or whose client goes, at every single await: the operation is done once (S1, C7).

Each case lets the loop turn a number of times and then strikes, for every number until the request is over. So there
is no await point that no case strikes at, also not one that somebody adds later.
"""

from __future__ import annotations

import asyncio
import gc
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from msgspec.structs import replace
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.responses import StreamingResponse
from starlette.routing import Route

from retrysafe.adapters.asgi import RetrySafeMiddleware
from retrysafe.stores.base import Capability
from tests.adapters.asgi.server import Exchange, http_scope, part, run, start
from tests.adapters.guards import House

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from starlette.requests import Request

    from retrysafe.adapters.asgi.types import App, Message, Receive, Scope, Send

LONGEST = 300
PATHS = pytest.mark.parametrize("path", ["/once/1", "/again/1"])


class Slow:
    """Lets every call of a store take a few turns of the loop."""

    def __init__(self, store: Any) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def arun(self, program: Any) -> Any:
        await asyncio.sleep(0)
        reply = await self._store.arun(program)
        await asyncio.sleep(0)
        return reply

    async def aopen(self) -> Any:
        await asyncio.sleep(0)
        return await self._store.aopen()


class AtOnce:
    """Declares that it answers at once, as the memory store does, so that claims are made in the server's task."""

    def __init__(self, store: Any) -> None:
        self._store = store
        self.traits = replace(store.traits, capabilities=store.traits.capabilities | {Capability.AT_ONCE})

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


def application(effects: list[int], *, streams: bool) -> App:
    """An application that suspends everywhere."""

    async def app(_scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await asyncio.sleep(0)
        effects.append(1)
        await asyncio.sleep(0)
        if streams:
            await send(start())
            for _turn in range(3):
                await send(part(b"x", more=True))
                await asyncio.sleep(0)
            await send(part(b""))
        else:
            await send(start(headers=[(b"content-length", b"4")]))
            await send(part())
        await asyncio.sleep(0)

    return app


def guarded(app: App, disguise: Callable[[Any], Any] = Slow) -> tuple[House, App]:
    house = House(disguise=disguise)
    return house, RetrySafeMiddleware(app, guard=house.guard)


async def settle() -> None:
    """Let everything that still runs come to its end."""
    me = asyncio.current_task()
    while others := [task for task in asyncio.all_tasks() if task is not me]:
        await asyncio.wait(others)


async def strike(app: App, exchange: Exchange, turns: int, how: Callable[[asyncio.Task[Any]], object]) -> bool:
    """Strike at a request after some turns of the loop; False when it was over before."""
    request = asyncio.create_task(exchange.through(app))
    for _ in range(turns):
        await asyncio.sleep(0)
    if request.done():
        await request
        return False
    how(request)
    await asyncio.wait([request])
    await settle()
    return True


def every_turn(
    path: str,
    make: Callable[[list[int]], App],
    how: Callable[[Exchange, asyncio.Task[Any]], object],
    disguise: Callable[[Any], Any] = Slow,
) -> int:
    """Strike at every turn; return how many cases there were."""

    async def case(turns: int) -> bool:
        effects: list[int] = []
        house, app = guarded(make(effects), disguise)
        exchange = Exchange(http_scope(path), body=[b"{", b"}"])
        struck = await strike(app, exchange, turns, lambda request: how(exchange, request))
        retry = await Exchange(http_scope(path)).through(app)
        assert (turns, retry.status in {201, 409}) == (turns, True), retry.content
        # Whatever was struck: done once, by the first or by the retry, and known to be done.
        assert (turns, effects, house.states) == (turns, [1], ["done"])
        last = await Exchange(http_scope(path)).through(app)
        assert (turns, last.replayed or last.status == 409, len(effects)) == (turns, True, 1)
        house.guard.close()
        return struck

    async def cases() -> int:
        for turns in range(LONGEST):
            if not await case(turns):
                return turns
        raise AssertionError("the request never ends")

    return run(cases())


@PATHS
@pytest.mark.parametrize("streams", [False, True])
def test_a_request_may_be_cancelled_at_every_await(path: str, streams: bool) -> None:
    """S1, C7: as ``asyncio.timeout`` around the application does."""
    cases = every_turn(path, lambda effects: application(effects, streams=streams), lambda _, request: request.cancel())
    assert cases > 12


@PATHS
@pytest.mark.parametrize("streams", [False, True])
def test_a_request_may_be_cancelled_at_every_await_of_a_store_that_answers_at_once(path: str, streams: bool) -> None:
    """S1, C7: nothing lies between its claim and the operation's own task."""

    def make(effects: list[int]) -> App:
        return application(effects, streams=streams)

    assert every_turn(path, make, lambda _, request: request.cancel(), AtOnce) > 5


@PATHS
@pytest.mark.parametrize("disguise", [Slow, AtOnce])
def test_a_request_leaves_nothing_for_the_garbage_collector(path: str, disguise: Callable[[Any], Any]) -> None:
    """What is kept in a cycle stays in memory until a collector comes by, which then has more to look at."""

    async def collected() -> int:
        house, app = guarded(application([], streams=False), disguise)
        for key in ("warm", "a"):
            gc.collect()
            gc.disable()
            for _fresh_then_replayed in range(2):
                await Exchange(http_scope(path, key=key)).through(app)
                await settle()
        found = gc.collect()
        house.guard.close()
        return found

    try:
        assert run(collected()) == 0
    finally:
        gc.enable()


@PATHS
@pytest.mark.parametrize("streams", [False, True])
@pytest.mark.parametrize("error", [OSError, RuntimeError])
def test_a_cancelled_request_may_have_a_server_that_refuses_to_send(
    path: str, streams: bool, error: type[Exception]
) -> None:
    """S1: whatever the server raises once it has given the request up."""

    def give_up(exchange: Exchange, request: asyncio.Task[Any]) -> None:
        exchange.gone_after, exchange.error = 0, error
        request.cancel()

    assert every_turn(path, lambda effects: application(effects, streams=streams), give_up) > 12


@PATHS
@pytest.mark.parametrize("streams", [False, True])
def test_a_client_may_go_at_every_await(path: str, streams: bool) -> None:
    """S1: a server that says so by raising ``OSError``."""

    def go(exchange: Exchange, _: object) -> None:
        exchange.gone_after = 0
        exchange.hang_up()

    assert every_turn(path, lambda effects: application(effects, streams=streams), go) > 12


class Nosy(BaseHTTPMiddleware):
    """A middleware that passes a response on through a stream of its own."""

    async def dispatch(self, request: Request, call_next: Callable[[Request], Awaitable[Any]]) -> Any:
        return await call_next(request)


def starlette(effects: list[int], house: House, *, outside: bool) -> App:
    """A streaming response under a ``BaseHTTPMiddleware`` on either side of the guard."""

    async def stream(_: Request) -> StreamingResponse:
        async def parts() -> AsyncIterator[bytes]:
            effects.append(1)
            for _turn in range(20):
                await asyncio.sleep(0)
                yield b"x"

        return StreamingResponse(parts(), 201)

    ours, nosy = Middleware(RetrySafeMiddleware, guard=house.guard), Middleware(Nosy)
    middleware = [nosy, ours] if outside else [ours, nosy]
    routes = [Route(path, stream, methods=["POST"]) for path in ("/once/1", "/again/1")]
    return Starlette(routes=routes, middleware=middleware)


@PATHS
@pytest.mark.parametrize("outside", [False, True])
@pytest.mark.parametrize("gone_after", range(8))
def test_a_client_may_go_from_a_stream_under_another_middleware(path: str, outside: bool, gone_after: int) -> None:
    """S1, S5: the operation does not hang in a stream that nobody reads."""

    async def case() -> tuple[list[int], list[str], int]:
        effects: list[int] = []
        house = House()
        app = starlette(effects, house, outside=outside)
        # What a framework makes of a client that has gone is its own affair.
        with suppress(Exception):
            await Exchange(http_scope(path), gone_after=gone_after).through(app)
        await settle()
        retry = await Exchange(http_scope(path)).through(app)
        house.guard.close()
        return effects, house.states, retry.status

    assert run(case()) == ([1], ["done"], 409)


@PATHS
@pytest.mark.parametrize("outside", [False, True])
def test_a_stream_under_another_middleware_may_be_cancelled_at_every_await(path: str, outside: bool) -> None:
    """S1, S5, C7."""

    async def case(turns: int) -> bool:
        effects: list[int] = []
        house = House()
        app = starlette(effects, house, outside=outside)
        struck = await strike(app, Exchange(http_scope(path)), turns, lambda request: request.cancel())
        retry = await Exchange(http_scope(path)).through(app)
        await settle()
        assert (turns, effects, house.states) == (turns, [1], ["done"])
        assert retry.status in {201, 409}
        house.guard.close()
        return struck

    async def cases() -> int:
        for turns in range(LONGEST):
            if not await case(turns):
                return turns
        raise AssertionError("the request never ends")

    assert run(cases()) > 20


def test_a_scope_of_anyio_that_gives_up_stops_nothing(house: House) -> None:
    """S1, C7: it cancels again and again, at every await."""
    effects: list[int] = []
    let_go = asyncio.Event()

    async def app(_: Scope, __: Receive, send: Send) -> None:
        await let_go.wait()
        effects.append(1)
        await send(start())
        await send(part())

    async def case() -> Exchange:
        guarded_app = RetrySafeMiddleware(app, guard=house.guard)
        with anyio.move_on_after(0.01) as scope:
            await Exchange().through(guarded_app)
        assert scope.cancelled_caught
        let_go.set()
        await settle()
        return await Exchange().through(guarded_app)

    retry = run(case())
    assert (retry.status, retry.replayed, effects) == (201, True, [1])


def test_an_operation_that_cancels_itself_is_a_crash(house: House) -> None:
    """C7: nothing more is written; its client is told, and nobody runs it again by mistake."""
    sent: list[Message] = []

    async def app(_: Scope, __: Receive, ___: Send) -> None:
        raise asyncio.CancelledError

    async def case() -> Exchange:
        exchange = Exchange()
        await exchange.through(RetrySafeMiddleware(app, guard=house.guard))
        sent.extend(exchange.sent)
        return await Exchange().through(RetrySafeMiddleware(app, guard=house.guard))

    retry = run(case())
    assert sent[0]["status"] == 503
    assert (retry.status, house.states) == (409, ["running"])
