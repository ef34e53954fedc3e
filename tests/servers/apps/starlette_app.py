"""Starlette and FastAPI applications, with their own responses, background tasks and middleware."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import TYPE_CHECKING, Annotated, cast

from fastapi import BackgroundTasks, FastAPI, HTTPException
from fastapi import Response as FastResponse
from pydantic import BaseModel, Field
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from retrysafe.adapters.asgi import RetrySafeMiddleware
from tests.servers.apps.steps import a_file, mark

if TYPE_CHECKING:
    from retrysafe import RetrySafe
    from retrysafe.adapters.asgi.types import App


async def pass_gate(path: str | None) -> None:
    """Wait at a gate, if there is one."""
    if path is not None:
        reader, writer = await asyncio.open_unix_connection(path)
        try:
            await reader.readline()
        finally:
            writer.close()


def _label(request: Request) -> str:
    return request.headers.get("x-label", "unlabelled")


async def stream(request: Request) -> Response:
    """Stream from an async generator that awaits."""
    mark(_label(request))
    gate = request.headers.get("x-gate")

    async def parts() -> AsyncIterator[bytes]:
        yield b"first;"
        await pass_gate(gate)
        for number in range(4):
            await asyncio.sleep(0)
            yield b"part %d;" % number

    return StreamingResponse(parts(), 200, media_type="text/plain", headers={"Location": "/things/1"})


async def sync_stream(request: Request) -> Response:
    """Stream from a plain generator, which Starlette runs in threads."""
    mark(_label(request))

    def parts() -> Iterator[bytes]:
        for number in range(5):
            time.sleep(0)
            yield b"part %d;" % number

    return StreamingResponse(parts(), media_type="text/plain")


async def events(request: Request) -> Response:
    """Server-sent events."""
    mark(_label(request))

    async def parts() -> AsyncIterator[str]:
        for number in range(3):
            await asyncio.sleep(0)
            yield f"id: {number}\ndata: event {number}\n\n"

    return StreamingResponse(parts(), media_type="text/event-stream", headers={"Cache-Control": "no-cache"})


async def file(request: Request) -> Response:
    """Send a file."""
    mark(_label(request))
    return FileResponse(a_file(), filename="file.txt")


async def listening(request: Request) -> Response:
    """Tell whether the client is still there, before and after it has gone."""
    before = await request.is_disconnected()
    gate = request.headers.get("x-gate")
    if gate is None:
        return JSONResponse({"disconnected": before})
    await pass_gate(gate)
    while not await request.is_disconnected():  # noqa: ASYNC110 - polling is what it is for
        await asyncio.sleep(0.005)
    mark(_label(request))
    await pass_gate(gate)
    return Response(status_code=499)


async def later(request: Request) -> Response:
    """Answer, and do something afterwards."""
    mark(_label(request))
    gate = request.headers.get("x-gate")

    async def afterwards() -> None:
        await pass_gate(gate)
        mark(f"{_label(request)} afterwards")

    return JSONResponse({"later": True}, 202, background=BackgroundTask(afterwards))


async def cookies(request: Request) -> Response:
    """Set two cookies."""
    mark(_label(request))
    response = JSONResponse({"cookies": 2}, 201)
    response.set_cookie("session", "one")
    response.set_cookie("csrf", "two")
    return response


async def nothing(request: Request) -> Response:
    """Answer without a body."""
    mark(_label(request))
    return Response(status_code=204)


async def hello(_: Request) -> Response:
    """Answer a plain request."""
    return JSONResponse({"hello": "world"})


_METHODS = ["GET", "POST", "DELETE"]


def starlette(prefix: str, middleware: list[Middleware]) -> Starlette:
    """Make a Starlette application with everything in it."""
    endpoints = (stream, sync_stream, events, file, listening, later, cookies, nothing, hello)
    routes = [Route(f"/{prefix}/{each.__name__}", each, methods=_METHODS) for each in endpoints]
    return Starlette(routes=routes, middleware=middleware)


class Nosy(BaseHTTPMiddleware):
    """A middleware of the kind that has broken the most streams."""

    async def dispatch(self, request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        response = await call_next(request)
        response.headers["X-Nosy"] = "yes"
        return response


class Charge(BaseModel):
    """What the FastAPI application takes."""

    amount: Annotated[int, Field(gt=0)]


def fastapi() -> FastAPI:
    """Make a FastAPI application as its documentation teaches."""
    app = FastAPI()

    @app.post("/fastapi/charges", status_code=201)
    async def make_charge(charge: Charge, request: Request, background: BackgroundTasks) -> dict[str, int]:
        mark(_label(request))
        background.add_task(mark, f"{_label(request)} afterwards")
        return {"charged": charge.amount}

    @app.post("/fastapi/refused")
    def refuse(charge: Charge, request: Request) -> None:
        mark(_label(request))
        raise HTTPException(402, {"reason": "no money", "amount": charge.amount})

    @app.delete("/fastapi/charges/{number}", status_code=204, response_class=FastResponse)
    def delete_charge(number: int, request: Request) -> None:
        mark(_label(request))

    @app.post("/fastapi/broken")
    def break_down(request: Request) -> None:
        mark(_label(request))
        raise RuntimeError("secret-detail")

    return app


def rooms(guard: RetrySafe) -> dict[str, tuple[App, App]]:
    """Return each application with a guard and without one."""
    ours = Middleware(RetrySafeMiddleware, guard=guard)
    nosy = Middleware(Nosy)
    fast = fastapi()
    fast.add_middleware(RetrySafeMiddleware, guard=guard)
    return {
        "starlette": (_app(starlette("starlette", [ours])), _app(starlette("starlette", []))),
        "inside": (_app(starlette("inside", [ours, nosy])), _app(starlette("inside", [nosy]))),
        "outside": (_app(starlette("outside", [nosy, ours])), _app(starlette("outside", [nosy]))),
        "fastapi": (_app(fast), _app(fastapi())),
    }


def _app(app: Starlette) -> App:
    """Starlette types its own ASGI messages, a little differently from ours."""
    return cast("App", app)
