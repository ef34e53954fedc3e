"""Calling guarded applications in process, on a loop and on a thread."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import Awaitable, Callable, Iterable
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from retrysafe import SHARED, RetrySafe
from retrysafe.stores.memory import MemoryStore
from retrysafe.testing.faults import FaultyStore
from tests.runtime.rig import Events

if TYPE_CHECKING:
    from collections.abc import Iterator

    from retrysafe.adapters.asgi.types import App, Message, Receive, Scope, Send
    from retrysafe.adapters.wsgi.types import App as WsgiApp
    from retrysafe.adapters.wsgi.types import Environ

Headers = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Reply:
    """A whole response."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def code(self) -> str | None:
        """The code of a problem."""
        problem = self.headers.get("content-type") == "application/problem+json"
        return json.loads(self.body)["code"] if problem else None

    @property
    def replayed(self) -> bool:
        return self.headers.get("idempotent-replayed") == "true"


@dataclass
class Guarded:
    """A guard on a faulty memory store, with its events."""

    guard: RetrySafe
    store: FaultyStore
    events: Events


@contextmanager
def guarded(**how: Any) -> Iterator[Guarded]:
    """A guard for ``POST /charges``: settings of the guard are given, and those of its policy in ``policy``."""
    store, events = FaultyStore(MemoryStore()), Events()
    policy = how.pop("policy", {})
    how = {"principal": SHARED, "scan": None} | how
    guard = RetrySafe(cast("Any", store), sinks=[events], **how)
    guard.protect("POST /charges", **policy)
    yield Guarded(guard, store, events)
    guard.close()


async def acall(app: App, *, key: str | None = "k", headers: Headers = (), body: bytes = b"{}") -> Reply:
    """POST to an ASGI application."""
    sent: list[Message] = []
    messages = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Message:
        if messages:
            return messages.pop()
        await asyncio.Event().wait()
        raise AssertionError

    async def send(message: Message) -> None:
        sent.append(message)

    pairs = (*headers, *((("idempotency-key", key),) if key is not None else ()))
    scope: Scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "path": "/charges",
        "raw_path": b"/charges",
        "query_string": b"",
        "headers": [(name.lower().encode(), value.encode()) for name, value in pairs],
    }
    await app(scope, receive, send)
    start = sent[0]
    head = {name.decode().lower(): value.decode() for name, value in start["headers"]}
    return Reply(start["status"], head, b"".join(message.get("body", b"") for message in sent[1:]))


def call(app: WsgiApp, *, key: str | None = "k", headers: Headers = (), body: bytes = b"{}") -> Reply:
    """POST to a WSGI application."""
    environ: Environ = {
        "REQUEST_METHOD": "POST",
        "SCRIPT_NAME": "",
        "PATH_INFO": "/charges",
        "QUERY_STRING": "",
        "SERVER_NAME": "localhost",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "CONTENT_LENGTH": str(len(body)),
        "wsgi.input": io.BytesIO(body),
        "wsgi.errors": io.StringIO(),
        "wsgi.url_scheme": "http",
    }
    pairs = (*headers, *((("idempotency-key", key),) if key is not None else ()))
    environ |= {f"HTTP_{name.upper().replace('-', '_')}": value for name, value in pairs}
    heads: list[tuple[str, list[tuple[str, str]]]] = []

    def start_response(
        status: str, headers: list[tuple[str, str]], exc_info: object = None
    ) -> Callable[[bytes], object]:
        heads.append((status, headers))
        return lambda _: None

    chunks: Iterable[bytes] = app(environ, start_response)
    content = b"".join(chunks)
    close = getattr(chunks, "close", None)
    if close is not None:
        close()
    status, pairs_sent = heads[-1]
    return Reply(int(status.split()[0]), {name.lower(): value for name, value in pairs_sent}, content)


Handler = Callable[[], Awaitable[None]]


def responding(handler: Handler, status: int = 201) -> App:
    """An ASGI application that answers once its handler is done."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise NotImplementedError
        await receive()
        await handler()
        await send({"type": "http.response.start", "status": status, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"{}"})

    return app
