"""An ASGI server in this process: strict about the protocol, and able to lose its client at any message."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from retrysafe.adapters.asgi.types import App, Message, Scope

T = TypeVar("T")

PATIENCE_SECONDS = 20.0


def run(test: Coroutine[Any, Any, T]) -> T:
    """Run a test on a loop of its own, and not for ever."""

    async def bounded() -> T:
        async with asyncio.timeout(PATIENCE_SECONDS):
            return await test

    return asyncio.run(bounded())


def http_scope(path: str = "/once/1", *, key: str | None = "k", method: str = "POST", **more: Any) -> Scope:
    """Make the scope of a request."""
    headers = [(b"content-type", b"application/json")]
    if key is not None:
        headers.append((b"idempotency-key", key.encode()))
    headers.extend(more.pop("headers", ()))
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": headers,
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
        "extensions": {},
        **more,
    }


@dataclass
class Exchange:
    """One request and what came of it.

    Attributes:
        scope: what the application is called with.
        body: the parts of the request's body.
        complete: False when the client goes away before it has sent all of it.
        gone_after: the client is gone after so many messages of the response; ``send`` raises from then on.
        sent: what the application sent.
    """

    scope: Scope = field(default_factory=http_scope)
    body: Iterable[bytes] = (b"{}",)
    complete: bool = True
    gone_after: int | None = None
    error: type[Exception] = OSError
    sent: list[Message] = field(default_factory=list["Message"])
    received: int = 0

    def __post_init__(self) -> None:
        parts = list(self.body)
        self._messages: list[Message] = [{"type": "http.request", "body": part, "more_body": True} for part in parts]
        if self.complete:
            self._messages[-1]["more_body"] = False
        self._gone = asyncio.Event()
        if not self.complete:
            self._gone.set()

    async def receive(self) -> Message:
        self.received += 1
        if self._messages:
            return self._messages.pop(0)
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        # As in a server, other tasks run before the message has left.
        await asyncio.sleep(0)
        if self.gone_after is not None and len(self.sent) >= self.gone_after:
            self._gone.set()
            raise self.error("the client has gone")
        if message["type"] == "http.response.start":
            assert not self.started, "a response begins once"
        elif message["type"] == "http.response.body":
            assert self.started, "a body follows its start"
            assert not self.finished, "nothing follows the end"
        self.sent.append(message)

    async def through(self, app: App) -> Exchange:
        """Send the request through an application."""
        await app(self.scope, self.receive, self.send)
        return self

    def hang_up(self) -> None:
        self._gone.set()

    @property
    def started(self) -> bool:
        return any(message["type"] == "http.response.start" for message in self.sent)

    @property
    def finished(self) -> bool:
        last = self.sent[-1] if self.sent else {"type": ""}
        return last["type"] == "http.response.body" and not last.get("more_body", False)

    @property
    def status(self) -> int:
        return next(int(message["status"]) for message in self.sent if message["type"] == "http.response.start")

    @property
    def content(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.sent if message["type"] == "http.response.body")

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        return [
            (bytes(name), bytes(value))
            for message in self.sent
            if message["type"] == "http.response.start"
            for name, value in message["headers"]
        ]

    @property
    def replayed(self) -> bool:
        return (b"idempotent-replayed", b"true") in self.headers


def start(status: int = 201, headers: Iterable[tuple[bytes, bytes]] = (), **more: Any) -> Message:
    return {"type": "http.response.start", "status": status, "headers": list(headers), **more}


def part(body: bytes = b"made", *, more: bool = False) -> Message:
    return {"type": "http.response.body", "body": body, "more_body": more}
