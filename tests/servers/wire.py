"""HTTP/1.1 by hand over a real socket: what a client library would hide or mend is what is tested here."""

from __future__ import annotations

import json
import socket
import struct
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

PATIENCE_SECONDS = 20.0
"""How long anything here may take before it counts as hung."""

HeaderPairs = tuple[tuple[str, str], ...]


class Truncated(Exception):
    """The connection ended in the middle of a response."""


@dataclass(frozen=True, slots=True)
class Head:
    """Status line and header fields of a response, in the server's own spelling."""

    status: int
    headers: HeaderPairs

    def values(self, name: str) -> list[str]:
        return [value for field_name, value in self.headers if field_name.lower() == name.lower()]

    def header(self, name: str) -> str | None:
        return next(iter(self.values(name)), None)


@dataclass(frozen=True, slots=True)
class Reply(Head):
    """A complete response."""

    body: bytes
    trailers: HeaderPairs = ()
    informational: tuple[int, ...] = ()

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def replayed(self) -> bool:
        return self.values("Idempotent-Replayed") == ["true"]

    @property
    def headers_but_date(self) -> HeaderPairs:
        """All header fields, but for the one that differs from second to second."""
        return tuple((name, value) for name, value in self.headers if name.lower() != "date")

    @property
    def code(self) -> str:
        """The ``code`` of a problem, or nothing."""
        return str(self.json()["code"]) if self.header("content-type") == "application/problem+json" else ""


def request(
    method: str,
    target: str,
    headers: Iterable[tuple[str, str | bytes]] = (),
    body: bytes | None = None,
    *,
    length: int | None = None,
) -> bytes:
    """Write a request.

    Args:
        method: the method.
        target: path and query.
        headers: more header fields, as they are.
        body: with ``Content-Length``, or None for no body and no length.
        length: what ``Content-Length`` claims, if not the truth.
    """
    pairs: list[tuple[str, str | bytes]] = [("Host", "shop.test"), *headers]
    if body is not None:
        pairs.append(("Content-Length", str(len(body) if length is None else length)))
    return _head(method, target, pairs) + (body or b"")


def chunked_request(
    method: str,
    target: str,
    headers: Iterable[tuple[str, str | bytes]] = (),
    chunks: Iterable[bytes] = (),
    *,
    complete: bool = True,
) -> bytes:
    """Write a request whose body has no declared length."""
    pairs = [("Host", "shop.test"), *headers, ("Transfer-Encoding", "chunked")]
    body = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks)
    return _head(method, target, pairs) + body + (b"0\r\n\r\n" if complete else b"")


def _head(method: str, target: str, pairs: Iterable[tuple[str, str | bytes]]) -> bytes:
    lines = [f"{method} {target} HTTP/1.1".encode()]
    lines.extend(
        name.encode() + b": " + (value if isinstance(value, bytes) else value.encode("latin-1"))
        for name, value in pairs
    )
    return b"\r\n".join(lines) + b"\r\n\r\n"


@dataclass
class Connection:
    """One TCP connection to a server."""

    port: int
    receive_buffer: int | None = None
    socket: socket.socket = field(init=False, repr=False)
    _buffer: bytes = field(default=b"", init=False, repr=False)
    _informational: list[int] = field(default_factory=list[int], init=False)

    def __post_init__(self) -> None:
        self.socket = socket.socket()
        self.socket.settimeout(PATIENCE_SECONDS)
        if self.receive_buffer is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self.receive_buffer)
        try:
            self.socket.connect(("127.0.0.1", self.port))
        except BaseException:
            self.socket.close()
            raise
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.socket.close()

    def abort(self) -> None:
        """Close so that the server is told at once that nobody reads any more (RST)."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def send_as_far_as_possible(self, data: bytes) -> None:
        """Send what the server still takes; it may answer early and close."""
        with suppress(BrokenPipeError, ConnectionResetError):
            self.socket.sendall(data)

    def is_closed_by_server(self) -> bool:
        """Wait until the server closes the connection, and tell that it sent nothing before."""
        try:
            return not self._buffer and self.socket.recv(65_536) == b""
        except ConnectionResetError:
            return True

    def head(self) -> Head:
        """Read the head of the next final response."""
        while True:
            lines = self._until(b"\r\n\r\n").decode("latin-1").split("\r\n")
            status = int(lines[0].split(" ", 2)[1])
            if status >= 200 or status == 101:
                return Head(status, _pairs(lines[1:]))
            self._informational.append(status)

    def pieces(self, head: Head, method: str = "POST") -> Iterator[bytes]:
        """Give the body as it comes; each chunk on its own if it is chunked."""
        if method == "HEAD" or head.status in {204, 304}:
            return
        if (head.header("transfer-encoding") or "").lower() == "chunked":
            while size := int(self._until(b"\r\n").partition(b";")[0], 16):
                piece = self._exactly(size + 2)
                yield piece[:-2]
            self.trailers = self._trailers()
        elif (length := head.header("content-length")) is not None:
            left = int(length)
            while left:
                piece = self._some(left)
                left -= len(piece)
                yield piece
        else:
            while piece := self._some_or_end():
                yield piece

    trailers: HeaderPairs = ()

    def reply(self, method: str = "POST") -> Reply:
        """Read one complete response.

        Raises:
            Truncated: the connection ended before.
        """
        head = self.head()
        self.trailers = ()
        body = b"".join(self.pieces(head, method))
        informational, self._informational = tuple(self._informational), []
        return Reply(head.status, head.headers, body, self.trailers, informational)

    def _trailers(self) -> HeaderPairs:
        lines: list[str] = []
        while line := self._until(b"\r\n"):
            lines.append(line.decode("latin-1"))
        return _pairs(lines)

    def _more(self) -> None:
        data = self.socket.recv(65_536)
        if not data:
            raise Truncated(f"the connection ended after {self._buffer[-200:]!r}")
        self._buffer += data

    def _until(self, end: bytes) -> bytes:
        while end not in self._buffer:
            self._more()
        found, _, self._buffer = self._buffer.partition(end)
        return found

    def _exactly(self, size: int) -> bytes:
        while len(self._buffer) < size:
            self._more()
        return self._take(size)

    def _some(self, most: int) -> bytes:
        if not self._buffer:
            self._more()
        return self._take(most)

    def _some_or_end(self) -> bytes:
        try:
            return self._some(65_536)
        except (Truncated, ConnectionResetError):
            return b""

    def _take(self, most: int) -> bytes:
        taken, self._buffer = self._buffer[:most], self._buffer[most:]
        return taken


def _pairs(lines: Iterable[str]) -> HeaderPairs:
    pairs = (line.partition(":") for line in lines)
    return tuple((name, value.strip()) for name, _, value in pairs)
