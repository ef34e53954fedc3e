"""A small HTTP client: one connection for each call, and the possibility to hang up once the answer begins."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

try:
    import httptools
except ImportError as error:
    message = "the demo needs what its extra brings: pip install 'retrysafe[demo]'"
    raise ImportError(message) from error

_READ_BYTES = 65_536


class Address(NamedTuple):
    """Where a server listens."""

    host: str
    port: int


class AnswerLost(Exception):
    """The connection ended before the answer was complete; nothing is known about the request."""


class HungUp(AnswerLost):
    """The answer had begun, so the server had done its work, and this client hung up on it."""


@dataclass(slots=True)
class Answer:
    """An HTTP response.

    Attributes:
        status: the HTTP status code.
        headers: values by lower-case name; of duplicates the last.
        body: the whole body.
    """

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict[str, str])
    body: bytes = b""


class _Incoming:
    """What httptools tells about a response while it comes in."""

    def __init__(self) -> None:
        self.answer = Answer()
        self.began = False
        self.complete = False
        self.parser = httptools.HttpResponseParser(self)

    def on_header(self, name: bytes, value: bytes) -> None:
        self.answer.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        self.answer.status = self.parser.get_status_code()
        self.began = True

    def on_body(self, body: bytes) -> None:
        self.answer.body += body

    def on_message_complete(self) -> None:
        self.complete = True


def _never(_: Answer) -> bool:
    return False


async def call(
    address: Address,
    method: str,
    path: str,
    body: bytes = b"",
    *,
    headers: Mapping[str, str] | None = None,
    hang_up: Callable[[Answer], bool] = _never,
) -> Answer:
    """Send a request on a connection of its own and read the answer.

    Args:
        address: where to.
        method: the HTTP method.
        path: the path.
        body: the whole body; JSON if there is any.
        headers: more headers.
        hang_up: asked once status and headers are there; True ends the connection at once.

    Raises:
        AnswerLost: there was no complete answer.
        HungUp: ``hang_up`` said so.
    """
    incoming = _Incoming()
    try:
        reader, writer = await asyncio.open_connection(*address)
    except OSError as error:
        raise AnswerLost(str(error)) from error
    try:
        writer.write(_request(address, method, path, body, headers or {}))
        while not incoming.complete:
            received = await reader.read(_READ_BYTES)
            if not received:
                message = "the connection ended without a complete answer"
                raise AnswerLost(message)
            incoming.parser.feed_data(received)
            if incoming.began and hang_up(incoming.answer):
                raise HungUp
    except OSError as error:
        raise AnswerLost(str(error)) from error
    finally:
        # No polite good-bye: a client that loses an answer has none to give, and the others have their answer.
        writer.transport.abort()
    return incoming.answer


def _request(address: Address, method: str, path: str, body: bytes, headers: Mapping[str, str]) -> bytes:
    lines = {
        "Host": f"{address.host}:{address.port}",
        "Content-Type": "application/json",
        "Content-Length": str(len(body)),
        "Connection": "close",
        **headers,
    }
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode("latin-1") + body
