"""The few lines of ASGI that the bank and the shop share; a framework would only make their start slower."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from retrysafe.adapters.asgi.body import RequestBody

if TYPE_CHECKING:
    from retrysafe.adapters.asgi.types import Receive, Scope, Send

_BODY_LIMIT_BYTES = 65_536

encode = msgspec.json.encode


async def body_of(receive: Receive) -> bytes:
    """Read a request's body; empty when the client has gone.

    Raises:
        RequestTooLarge: more than 64 KiB.
    """
    return await RequestBody(receive).read(_BODY_LIMIT_BYTES, None) or b""


def header_of(scope: Scope, name: bytes) -> str | None:
    """Return the first header with a lower-case name."""
    return next((value.decode("latin-1") for key, value in scope["headers"] if key == name), None)


async def answer_json(send: Send, status: int, body: bytes, *, replayed: bool = False) -> None:
    """Send a whole JSON answer."""
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    if replayed:
        headers.append((b"idempotent-replayed", b"true"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
