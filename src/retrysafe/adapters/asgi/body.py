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
            return length_of(value)
    return None


def length_of(value: bytes | None) -> int | None:
    """Read the value of a ``Content-Length``; None when there is none, or it is no number."""
    return int(value) if value is not None and value.isdigit() else None


class RequestBody:
    """A request's body, read from the server once.

    It knows its end: a server asked for more would answer only when the client goes away.
    """

    def __init__(self, receive: Receive) -> None:
        """Read from ``receive``; nothing is read yet."""
        self._receive = receive
        self._more = True

    async def read(self, limit: int, declared: int | None) -> bytes | None:
        """Read the whole body; None when the client went away before it was complete, and nothing may be claimed.

        Raises:
            RequestTooLarge: the body is larger than ``limit`` bytes (S8).
        """
        if declared is not None and declared > limit:
            raise RequestTooLarge(limit)
        chunk = await self._next()
        if self._more:
            return await self._read_on(chunk or b"", limit)
        if chunk is not None and len(chunk) > limit:
            raise RequestTooLarge(limit)
        return chunk

    async def _read_on(self, chunk: bytes, limit: int) -> bytes | None:
        chunks: list[bytes] = [chunk]
        size = len(chunk)
        while self._more:
            if size > limit:
                raise RequestTooLarge(limit)
            following = await self._next()
            if following is None:
                return None
            chunks.append(following)
            size += len(following)
        if size > limit:
            raise RequestTooLarge(limit)
        return b"".join(chunks)

    async def drain(self) -> None:
        """Read and forget what the client still sends, up to 1 MiB."""
        size = 0
        while self._more and size < _DRAIN_BYTES:
            size += len(await self._next() or b"")

    async def _next(self) -> bytes | None:
        message = await self._receive()
        if message["type"] != "http.request":
            self._more = False
            return None
        self._more = message.get("more_body", False)
        chunk: bytes = message.get("body", b"")
        return chunk
