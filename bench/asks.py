"""What a store is asked in both measurements without a server: claims with fingerprints that are digested already."""

from __future__ import annotations

import json
from collections.abc import Sequence
from hashlib import blake2b
from itertools import count

from msgspec.structs import replace

from bench.apps import guard_on
from bench.charge import PATH, Effects
from retrysafe.http.request import HttpRequest
from retrysafe.protocol.encoding import encode_outcome
from retrysafe.protocol.model import Ask, Outcome
from retrysafe.runtime.asking import ask_for
from retrysafe.runtime.clock import uuid7

DAY = 86_400.0
_numbers = count()


def body_of(number: int) -> bytes:
    """Return a request body of about 100 bytes, the same for the same number."""
    return b'{"amount": %d, "currency": "EUR", "customer": "cus_%016d", "note": "an ordinary order"}' % (
        100 + number % 9_900,
        number,
    )


def headers_of(number: int, body: bytes) -> list[tuple[bytes, bytes]]:
    """Return the headers that come with it."""
    return [
        (b"host", b"127.0.0.1"),
        (b"user-agent", b"bench"),
        (b"accept", b"*/*"),
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
        (b"idempotency-key", b"bench-%012d" % number),
    ]


async def make_asks(count: int) -> list[Ask]:
    """Make the asks of as many requests, in advance: digesting them is the protocol's work and not the store's."""
    guard = guard_on("memory://")
    try:
        engine = await guard.aengine()
        route = guard.route("POST", PATH)
        assert route is not None
        asks: list[Ask] = []
        for number in range(count):
            body = body_of(number)
            request = HttpRequest("POST", PATH.encode(), b"", tuple(headers_of(number, body)), body)
            key = f"bench-{number:012d}"
            ask = ask_for(engine, guard, request, key=key, principal="", route=route, surface=0)
            assert ask.fingerprint.stored
            asks.append(ask)
        return asks
    finally:
        guard.close()


def anew(asks: Sequence[Ask]) -> list[Ask]:
    """Return the same asks with other keys, which nobody has seen."""
    salt = b"%d" % next(_numbers)
    return [
        replace(
            ask,
            attempt_id=uuid7(),
            identity=replace(ask.identity, digest=blake2b(ask.identity.digest, digest_size=16, salt=salt).digest()),
        )
        for ask in asks
    ]


def record_bytes() -> bytes:
    """Return the record of a response of about 1 KB."""
    body = json.dumps(Effects().charge(100, "EUR")).encode()
    return encode_outcome(Outcome(201, ((b"content-type", b"application/json"),), body))
