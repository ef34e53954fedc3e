"""An ASGI application that does what its requests say, guarded and, with ``X-Plain``, the same without a guard."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

from retrysafe.adapters.asgi import RetrySafeMiddleware
from tests.servers.apps import guards, starlette_app
from tests.servers.apps.steps import HEADER, decode, mark, raised

if TYPE_CHECKING:
    from retrysafe.adapters.asgi.types import App, Message, Receive, Scope, Send
    from tests.servers.apps.steps import Step


def header(scope: Scope, name: str) -> str | None:
    """Return a request header."""
    wanted = name.lower().encode()
    return next((bytes(value).decode("latin-1") for key, value in scope["headers"] if bytes(key) == wanted), None)


async def scripted(scope: Scope, receive: Receive, send: Send) -> None:
    """Do the request's steps."""
    if scope["type"] == "lifespan":
        await _live(scope, receive, send)
        return
    if scope["type"] == "websocket":
        await _echo_websocket(receive, send)
        return
    body = await _whole_body(receive)
    for step in decode(header(scope, HEADER)):
        if not await _work(step, receive) and not await _respond(step, send):
            await _tell(step, scope, body, send)


async def _whole_body(receive: Receive) -> bytes:
    body, more = b"", True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ConnectionError("the client went away")
        body += message.get("body", b"")
        more = message.get("more_body", False)
    return body


async def _work(step: Step, receive: Receive) -> bool:
    """Do a step that sends nothing."""
    match step:
        case ["effect", label]:
            mark(label)
        case ["gate", path]:
            await pass_gate(path)
        case ["await-disconnect", path]:
            while (await receive())["type"] != "http.disconnect":
                pass
            await pass_gate(path)
        case ["raise", kind]:
            raise raised(kind)
        case _:
            return False
    return True


async def _respond(step: Step, send: Send) -> bool:
    """Do a step that is a part of a response."""
    match step:
        case ["respond", status, headers, text]:
            content = text.encode("latin-1")
            await send(_start(status, [*headers, ["content-length", str(len(content))]]))
            await send({"type": "http.response.body", "body": content})
        case ["bodyless", status]:
            await send(_start(status, []))
            await send({"type": "http.response.body", "body": b""})
        case ["start", status, headers]:
            await send(_start(status, headers))
        case ["start-with-trailers", status, headers]:
            await send({**_start(status, headers), "trailers": True})
        case ["chunk", text]:
            await send({"type": "http.response.body", "body": text.encode("latin-1"), "more_body": True})
        case ["fill", size]:
            await send({"type": "http.response.body", "body": b"x" * size, "more_body": True})
        case ["end"]:
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        case ["path", file]:
            await send({"type": "http.response.pathsend", "path": file})
        case ["trailers", headers]:
            await send({"type": "http.response.trailers", "headers": _bytes(headers)})
        case _:
            return False
    return True


async def _tell(step: Step, scope: Scope, body: bytes, send: Send) -> None:
    """Answer with what the application sees."""
    match step:
        case ["echo"]:
            await _answer(send, {"body": body.decode("latin-1"), "path": scope["path"], "method": scope["method"]})
        case ["state"]:
            await _answer(send, {"state": scope.get("state", {}).get("opened"), "extensions": _extensions(scope)})
        case _:
            raise ValueError(f"unknown step {step}")


def _start(status: int, headers: list[list[str]]) -> Message:
    return {"type": "http.response.start", "status": status, "headers": _bytes(headers)}


def _bytes(headers: list[list[str]]) -> list[tuple[bytes, bytes]]:
    return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]


def _extensions(scope: Scope) -> list[str]:
    return sorted(scope.get("extensions") or {})


async def _answer(send: Send, content: Any) -> None:
    body = json.dumps(content).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def pass_gate(path: str) -> None:
    """Wait at a gate."""
    reader, writer = await asyncio.open_unix_connection(path)
    try:
        await reader.readline()
    finally:
        writer.close()


async def _live(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    scope.setdefault("state", {})["opened"] = "yes"
    await send({"type": "lifespan.startup.complete"})
    await receive()
    mark("stopped in good order")
    await send({"type": "lifespan.shutdown.complete"})


async def _echo_websocket(receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        text: str | None = message.get("text")
        await send({"type": "websocket.send", "text": text} if text is not None else _binary(message))


def _binary(message: Message) -> Message:
    return {"type": "websocket.send", "bytes": message["bytes"]}


def impatient(app: App) -> App:
    """Give up as a timeout middleware does, when the request says after how many seconds."""

    async def gives_up(scope: Scope, receive: Receive, send: Send) -> None:
        patience = header(scope, "x-patience") if scope["type"] == "http" else None
        if patience is None:
            await app(scope, receive, send)
            return
        try:
            async with asyncio.timeout(float(patience)):
                await app(scope, receive, send)
        except TimeoutError:
            await send({"type": "http.response.start", "status": 504, "headers": [(b"content-length", b"0")]})
            await send({"type": "http.response.body", "body": b""})

    return gives_up


guard = guards.make_guard()
brief = guards.make_brief_guard()
guarded = RetrySafeMiddleware(scripted, guard=guard)
ROOMS: dict[str, tuple[App, App]] = {
    "brief": (RetrySafeMiddleware(scripted, guard=brief), scripted),
    "storeless": (RetrySafeMiddleware(scripted, guard=guards.make_storeless_guard()), scripted),
    "shared": (RetrySafeMiddleware(scripted, guard=guards.make_shared_guard()), scripted),
    "nested": (RetrySafeMiddleware(guarded, guard=guard), scripted),
    **starlette_app.rooms(guard),
}


async def dispatch(scope: Scope, receive: Receive, send: Send) -> None:
    """Choose the application by the first segment of the path."""
    if scope["type"] == "lifespan":
        await guarded(scope, receive, send)
        return
    room = scope["path"].split("/")[1]
    with_guard, without = ROOMS.get(room, (guarded, scripted))
    await (with_guard if header(scope, "x-plain") is None else without)(scope, receive, send)


app = impatient(dispatch)
