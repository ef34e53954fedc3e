"""Reading a request's body whole, within a limit."""

from __future__ import annotations

from typing import TYPE_CHECKING

from retrysafe.errors import RequestTooLarge

if TYPE_CHECKING:
    from collections.abc import Iterable

    from retrysafe.adapters.asgi.types import Receive

# An early answer reads this much of what the client still sends, so that it can hear the answer before the connection
# ends.
_DRAIN_BYTES = 1024 * 1024


def declared_length(headers: Iterable[tuple[bytes, bytes]]) -> int | None:
    """Return the value of ``Content-Length``, or None when there is none that is a number."""
    for name, value in headers:
        if name.lower() == b"content-length":
            return int(value) if value.isdigit() else None
    return None


async def read_body(receive: Receive, limit: int, declared: int | None) -> bytes | None:
    """Read the whole body; None when the client went away before it was complete, and nothing may be claimed.

    Raises:
        RequestTooLarge: the body is larger than ``limit`` bytes (S8).
    """
    if declared is not None and declared > limit:
        raise RequestTooLarge(limit)
    first = await receive()
    if first["type"] != "http.request":
        return None
    body: bytes = first.get("body", b"")
    if not first.get("more_body", False):
        if len(body) > limit:
            raise RequestTooLarge(limit)
        return body
    chunks, size, more = [body], len(body), True
    while more:
        if size > limit:
            raise RequestTooLarge(limit)
        message = await receive()
        if message["type"] != "http.request":
            return None
        chunks.append(message.get("body", b""))
        size += len(chunks[-1])
        more = message.get("more_body", False)
    if size > limit:
        raise RequestTooLarge(limit)
    return b"".join(chunks)


async def drain_body(receive: Receive) -> None:
    """Read and forget what the client still sends, up to 1 MiB."""
    size, more = 0, True
    while more and size < _DRAIN_BYTES:
        message = await receive()
        more = message["type"] == "http.request" and message.get("more_body", False)
        size += len(message.get("body", b""))
