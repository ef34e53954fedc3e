"""Documents that do not fit into a message: their parts lie under keys of their own, and the document names them.

Parts are written and acknowledged before the document that names them, under a token that nobody else has, and never
change. They are purged behind the document that does not need them any more; what a process left that died in between
is found by a look at all parts, once in a while.
"""

from __future__ import annotations

import secrets
from contextlib import aclosing
from typing import Final, NamedTuple

import msgspec

from retrysafe.errors import StoreCorrupt
from retrysafe.stores.nats.bucket import API, Bucket, Stored, refused
from retrysafe.stores.nats.walk import walk
from retrysafe.stores.nats.wire import Wire, ack_of

PARTS: Final = "Retrysafe-Parts"

_LARGEST_BYTES = 512 * 1024
_SURELY_NAMED_SECONDS = 600.0


class Parts(NamedTuple):
    """Where the parts of a document are.

    Attributes:
        token: what they are called by.
        number: how many.
    """

    token: str
    number: int

    @property
    def header(self) -> str:
        """What the document says about them."""
        return f"{self.token} {self.number}"


def parts_of(stored: Stored) -> Parts | None:
    """Return the parts that a document names."""
    line = stored.header(PARTS)
    if line is None:
        return None
    token, number = line.split(" ")
    return Parts(token, int(number))


async def put(wire: Wire, bucket: Bucket, digest: bytes, body: bytes) -> Parts | None:
    """Write a body in parts and return them when they are durable; None when it fits into its document.

    Raises:
        StoreUnavailable: nothing is known about some of them.
    """
    most = min(_LARGEST_BYTES, wire.client.max_payload // 2)
    if len(body) <= most:
        return None
    pieces = [body[start : start + most] for start in range(0, len(body), most)]
    parts = Parts(secrets.token_hex(8), len(pieces))
    sent = [await wire.send(_subject(bucket, digest, parts, place), piece) for place, piece in enumerate(pieces)]
    for answer in sent:
        ack = ack_of(await wire.answered(answer))
        if ack.error is not None:
            raise refused(ack.error)
    return parts


async def get(wire: Wire, bucket: Bucket, digest: bytes, parts: Parts) -> bytes | None:
    """Read a body from its parts; None when some are gone, because the document has others by now."""
    questions = [bucket.getting(_subject(bucket, digest, parts, place)) for place in range(parts.number)]
    answers = [await wire.send(*question) for question in questions]
    pieces = [bucket.got(await wire.answered(answer)) for answer in answers]
    there = [piece.body for piece in pieces if piece is not None]
    return b"".join(there) if len(there) == parts.number else None


async def drop(wire: Wire, bucket: Bucket, digest: bytes, parts: Parts) -> None:
    """Delete the parts of a document that does not name them any more."""
    await wire.tell(*_dropping(bucket, bucket.subject("part", digest.hex(), parts.token, "*")))


async def drop_left_over(wire: Wire, bucket: Bucket, now: float) -> None:
    """Delete the parts that no document names, and that none can be about to name.

    Args:
        wire: the connection.
        bucket: which bucket.
        now: by the server's clock.
    """
    old: set[tuple[str, str]] = set()
    steps = walk(wire, bucket.stream, bucket.subject("part", ">"), headers_only=True)
    async with aclosing(steps):
        async for passed in steps:
            if now - passed.stored_at > _SURELY_NAMED_SECONDS:
                digest, token, _ = passed.subject.split(".")[-3:]
                old.add((digest, token))
    for digest, token in sorted(old):
        stored = await bucket.get(wire, bucket.subject("op", digest))
        named = None if stored is None else parts_of(stored)
        if named is None or named.token != token:
            await wire.tell(*_dropping(bucket, bucket.subject("part", digest, token, "*")))


def lost(digest: bytes) -> StoreCorrupt:
    """Say that a document names parts that are not there."""
    return StoreCorrupt(f"NATS: parts of the document {digest.hex()} are missing: the bucket was changed by hand")


def _subject(bucket: Bucket, digest: bytes, parts: Parts, place: int) -> str:
    return bucket.subject("part", digest.hex(), parts.token, str(place))


def _dropping(bucket: Bucket, subject: str) -> tuple[str, bytes]:
    return f"{API}.STREAM.PURGE.{bucket.stream}", msgspec.json.encode({"filter": subject})
