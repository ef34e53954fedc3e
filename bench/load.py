"""A child: the load generator. A closed loop of raw HTTP/1.1 over a fixed number of connections.

A connection sends its next request as soon as it has read the whole answer to its last. Each POST has a key of its own,
or, in a replay, one that was used before. Every answer is checked: status, mark of a replay, and that a replay's body
is the one that the key got first. Unanswered requests and closed connections are errors too.
"""

from __future__ import annotations

import asyncio
import sys
import time
from array import array
from collections.abc import Iterator
from itertools import count, cycle
from typing import Any, Final, cast

import msgspec
import uvloop

from bench.children import say

_REPLAYED = b"\r\nidempotent-replayed: true"
_LENGTH = b"\r\ncontent-length: "
_STATUS = b"http/1.1 201 "


class Command(msgspec.Struct):
    """What the parent asks for.

    Attributes:
        port: where, on loopback.
        connections: how many at once.
        seconds: how long new requests are sent.
        most: how many at most.
        label: part of every key; a replay uses the label of what it repeats.
        replay: repeat the keys that were answered under this label, around and around.
    """

    port: int
    connections: int
    seconds: float
    most: int
    label: str
    replay: bool = False


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
        numbers: Iterator[int] = cycle(range(len(first_bodies))) if command.replay else count()
        self._next = numbers.__next__
        if not command.replay:
            first_bodies.clear()
            first_bodies.extend([0] * command.most)

    def request(self) -> tuple[int, bytes] | None:
        """Return the next key's number and request; None when the slice is over."""
        if self.sent >= self.command.most or time.perf_counter() >= self.stop_at:
            return None
        self.sent += 1
        number = self._next()
        body = b'{"amount": %d, "currency": "EUR", "customer": "cus_%016d", "note": "an ordinary order"}' % (
            100 + number % 9_900,
            number,
        )
        return number, (
            b"POST /charges HTTP/1.1\r\nHost: 127.0.0.1\r\nUser-Agent: bench\r\nAccept: */*\r\n"
            b"Content-Type: application/json\r\nContent-Length: %d\r\nIdempotency-Key: %b-%012d\r\n\r\n%b"
        ) % (len(body), self.command.label.encode(), number, body)

    def answered(self, number: int, head: bytes, body: bytes) -> None:
        """Check an answer, whose head is in lower case."""
        replay = self.command.replay
        if not head.startswith(_STATUS):
            self.fail(f"status {head[9:12].decode('latin-1')}")
        elif (_REPLAYED in head) is not replay:
            self.fail("replay mark")
        elif not replay:
            self._bodies[number] = hash(body)
        elif self._bodies[number] != hash(body):
            self.fail("replayed body")

    def fail(self, why: str) -> None:
        """Count an error."""
        self.errors[why] = self.errors.get(why, 0) + 1

    def closed(self) -> None:
        """One connection has nothing left to send, or was lost."""
        self._open -= 1
        if not self._open and not self.done.done():
            self.ended_at = time.perf_counter()
            self.done.set_result(None)


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
        if self._read:
            data = self._read + data
        end = data.find(b"\r\n\r\n") + 2
        head = data[:end].lower() if end > 1 else b""
        at = head.find(_LENGTH)
        # Every answer here has a length; one without waits for the parent's patience to end.
        whole = end + 2 + int(head[at + len(_LENGTH) : head.index(b"\r\n", at + 2)]) if at > 0 else len(data) + 1
        if len(data) < whole:
            self._read = data
            return
        self._read = data[whole:]
        self._slice.latencies.append(time.perf_counter() - self._sent_at)
        self._slice.answered(self._number, head, data[end + 2 : whole])
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


async def measure(command: Command, bodies: dict[str, list[int]]) -> dict[str, Any]:
    """Carry out one command."""
    if not command.replay:
        bodies.clear()
    piece = Slice(command, bodies.setdefault(command.label, []))
    loop = asyncio.get_running_loop()
    opened = [
        await loop.create_connection(lambda: Connection(piece), "127.0.0.1", command.port)
        for _ in range(command.connections)
    ]
    cpu, started_at = time.process_time(), time.perf_counter()
    piece.stop_at = started_at + command.seconds
    for _, connection in opened:
        connection.begin()
    await piece.done
    cpu = time.process_time() - cpu
    if not command.replay:
        del bodies[command.label][piece.sent :]
    for _, connection in opened:
        connection.close()
    waits = sorted(piece.latencies)
    return {
        "requests": len(waits),
        "keys": len(bodies[command.label]),
        "seconds": piece.ended_at - started_at,
        "p50_ms": 1e3 * waits[len(waits) // 2] if waits else None,
        "p99_ms": 1e3 * waits[len(waits) * 99 // 100] if waits else None,
        "load_cpu_seconds": cpu,
        "errors": piece.errors,
    }


def main() -> None:
    """Carry out commands until standard input ends."""
    say({"ready": True})
    # First bodies by label; those of the latest label only, which is what a replay repeats.
    bodies: dict[str, list[int]] = {}
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        for line in sys.stdin:
            say(runner.run(measure(msgspec.json.decode(line, type=Command), bodies)))


if __name__ == "__main__":
    main()
