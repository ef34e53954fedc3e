"""A child: the load generator. A closed loop of raw HTTP/1.1 over a fixed number of connections.

A connection sends its next request as soon as it has read the whole answer to its last. Each POST has a key of its own,
or, in a replay, one that was used before, or, in a conflict, the one whose operation is in flight. Every answer is
checked: status, mark of a replay, and that a replay's body is the one that the key got first. Unanswered requests and
closed connections are errors too.
"""

from __future__ import annotations

import asyncio
import socket
import sys
import time
from array import array
from collections.abc import Iterator
from itertools import count, cycle, repeat
from typing import Any, Final, Literal, cast

import msgspec
import uvloop

from bench.children import say

_REPLAYED = b"\r\nidempotent-replayed: true"
_LENGTH = b"\r\ncontent-length: "
_CHUNKED = b"\r\ntransfer-encoding: chunked"
_STATUS = {"fresh": b"http/1.1 201 ", "replay": b"http/1.1 201 ", "conflict": b"http/1.1 409 "}
_HELD = 10**9
_PATIENCE_SECONDS = 20.0


class Command(msgspec.Struct):
    """What the parent asks for.

    Attributes:
        port: where, on loopback.
        label: part of every key; a replay uses the label of what it repeats.
        kind: new keys; or again the keys that were answered under this label, around and around; or only the key that
            is held; or that key once, to hold it; or the answer to that.
        connections: how many at once.
        seconds: how long new requests are sent.
        most: how many at most.
        marked: whether replays must say that they are replays.
    """

    port: int
    label: str
    kind: Literal["fresh", "replay", "conflict", "hold", "settle"]
    connections: int = 1
    seconds: float = 0.0
    most: int = 1
    marked: bool = True


class Slice:
    """One measurement: hands out requests, checks answers, counts."""

    def __init__(self, command: Command, first_bodies: list[int]) -> None:
        self.command: Final = command
        self.errors: dict[str, int] = {}
        self.latencies = array("d")
        self.sent = 0
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.stop_at = 0.0
        self.ended_at = 0.0
        self._bodies = first_bodies
        self._open = command.connections
        self._status = _STATUS[command.kind]
        numbers: Iterator[int]
        match command.kind:
            case "replay":
                numbers = cycle(range(len(first_bodies)))
            case "conflict":
                numbers = repeat(_HELD)
            case _:
                numbers = count()
                first_bodies.clear()
                first_bodies.extend([0] * command.most)
        self._next = numbers.__next__

    def request(self) -> tuple[int, bytes] | None:
        """Return the next key's number and request; None when the slice is over."""
        if self.sent >= self.command.most or time.perf_counter() >= self.stop_at:
            return None
        self.sent += 1
        number = self._next()
        return number, request_bytes(self.command.label, number)

    def answered(self, number: int, head: bytes, body: bytes) -> None:
        """Check an answer, whose head is in lower case."""
        replay = self.command.kind == "replay"
        if not head.startswith(self._status):
            self.fail(f"status {head[9:12].decode('latin-1')}")
        elif (_REPLAYED in head) is not replay and self.command.marked:
            self.fail("replay mark")
        elif self.command.kind == "fresh":
            self._bodies[number] = hash(body)
        elif replay and self._bodies[number] != hash(body):
            self.fail("other bytes")

    def fail(self, why: str) -> None:
        """Count an error."""
        self.errors[why] = self.errors.get(why, 0) + 1

    def closed(self) -> None:
        """One connection has nothing left to send, or was lost."""
        self._open -= 1
        if not self._open and not self.done.done():
            self.ended_at = time.perf_counter()
            self.done.set_result(None)


def request_bytes(label: str, number: int) -> bytes:
    """Return a request; the one that is held asks for it by its amount."""
    amount = 0 if number == _HELD else 100 + number % 9_900
    body = b'{"amount": %d, "currency": "EUR", "customer": "cus_%016d", "note": "an ordinary order"}' % (amount, number)
    return (
        b"POST /charges HTTP/1.1\r\nHost: 127.0.0.1\r\nUser-Agent: bench\r\nAccept: */*\r\n"
        b"Content-Type: application/json\r\nContent-Length: %d\r\nIdempotency-Key: %b-%012d\r\n\r\n%b"
    ) % (len(body), label.encode(), number, body)


def answer_in(data: bytes) -> tuple[bytes, bytes, bytes] | None:
    """Take the first answer out of what was read: its head in lower case, its body, and the rest; None if not whole."""
    end = data.find(b"\r\n\r\n") + 4
    head = data[: end - 2].lower()
    at = head.find(_LENGTH)
    if at > 0:
        whole = end + int(head[at + len(_LENGTH) : head.index(b"\r\n", at + 2)])
        return (head, data[end:whole], data[whole:]) if len(data) >= whole else None
    # An answer with neither is never whole, and is missed when the slice's patience ends.
    body = b""
    while _CHUNKED in head and (line := data.find(b"\r\n", end)) > 0:
        begin, size = line + 2, int(data[end:line], 16)
        end = begin + size + 2
        if len(data) < end:
            return None
        if not size:
            return head, body, data[end:]
        body += data[begin : begin + size]
    return None


class Connection(asyncio.Protocol):
    """One connection, with at most one request under way."""

    def __init__(self, piece: Slice) -> None:
        self._slice = piece
        self._transport: asyncio.WriteTransport | None = None
        self._read = b""
        self._number = -1
        self._sent_at = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports have the methods and not the base class.
        self._transport = cast(asyncio.WriteTransport, transport)

    def begin(self) -> None:
        """Send the next request, or say that there is none."""
        request = self._slice.request()
        if request is None or self._transport is None:
            self._number = -1
            self._slice.closed()
            return
        self._number, message = request
        self._sent_at = time.perf_counter()
        self._transport.write(message)

    def data_received(self, data: bytes) -> None:
        found = answer_in(self._read + data if self._read else data)
        if found is None:
            self._read += data
            return
        head, body, self._read = found
        self._slice.latencies.append(time.perf_counter() - self._sent_at)
        self._slice.answered(self._number, head, body)
        self.begin()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio names it
        self._transport = None
        if self._number >= 0:
            self._slice.fail("connection lost")
            self._slice.closed()

    def close(self) -> None:
        """Close the connection, which has nothing under way."""
        self._number = -1
        if self._transport is not None:
            self._transport.close()


class Load:
    """Carries out commands, and remembers between them what they are about."""

    def __init__(self) -> None:
        # First bodies by label; those of the latest label only, which is what a replay repeats.
        self._bodies: dict[str, list[int]] = {}
        self._held: socket.socket | None = None

    async def carry_out(self, command: Command) -> dict[str, Any]:
        """Carry out one command."""
        match command.kind:
            case "hold":
                self._held = socket.create_connection(("127.0.0.1", command.port), _PATIENCE_SECONDS)
                self._held.sendall(request_bytes(command.label, _HELD))
                return {}
            case "settle":
                return self._settle()
            case _:
                return await self._measure(command)

    def _settle(self) -> dict[str, Any]:
        """Read the answer to the request that was held."""
        assert self._held is not None
        with self._held as connection:
            head = connection.recv(100)
        return {"errors": {} if b" 201 " in head else {f"the held one: {head[:40].decode('latin-1')}": 1}}

    async def _measure(self, command: Command) -> dict[str, Any]:
        if command.kind == "fresh":
            self._bodies.clear()
        bodies = self._bodies.setdefault(command.label, [])
        piece = Slice(command, bodies)
        loop = asyncio.get_running_loop()
        opened = [
            await loop.create_connection(lambda: Connection(piece), "127.0.0.1", command.port)
            for _ in range(command.connections)
        ]
        cpu, started_at = time.process_time(), time.perf_counter()
        piece.stop_at = started_at + command.seconds
        for _, connection in opened:
            connection.begin()
        try:
            async with asyncio.timeout(command.seconds + _PATIENCE_SECONDS):
                await piece.done
        except TimeoutError:
            piece.fail(f"no answer for {_PATIENCE_SECONDS:g} s")
            piece.ended_at = time.perf_counter()
        cpu = time.process_time() - cpu
        if command.kind == "fresh":
            del bodies[piece.sent :]
        for _, connection in opened:
            connection.close()
        waits = sorted(piece.latencies)
        return {
            "requests": len(waits),
            "keys": len(bodies),
            "seconds": piece.ended_at - started_at,
            "p50_ms": 1e3 * waits[len(waits) // 2] if waits else None,
            "p99_ms": 1e3 * waits[len(waits) * 99 // 100] if waits else None,
            "load_cpu_seconds": cpu,
            "errors": piece.errors,
        }


def main() -> None:
    """Carry out commands until standard input ends."""
    say({"ready": True})
    load = Load()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        for line in sys.stdin:
            say(runner.run(load.carry_out(msgspec.json.decode(line, type=Command))))


if __name__ == "__main__":
    main()
