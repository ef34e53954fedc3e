"""What a hint is, and what whoever carries it promises (R1, R2, R3).

A hint says "look there"; it grants nothing. Whoever gets one must win the claim, so a broker may lose hints, delay,
repeat and reorder them, or be down, and no outcome changes: only how soon somebody looks.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence
from hashlib import sha256
from typing import Annotated, Protocol, TypedDict

import msgspec

from retrysafe.errors import RetrySafeError

_PLAIN = re.compile(r"[A-Za-z0-9_-]{1,64}")


class Hint(msgspec.Struct, frozen=True):
    """Where somebody should look: it grants nothing (R1).

    Attributes:
        operation_id: the operation, for people who read a queue.
        digest: which checkpoint, 16 bytes.
        fence: the fence that the sender saw; a higher one means that somebody else has been there.
        reason: ``abandoned``, ``due`` or ``undoing``.
    """

    operation_id: str
    digest: Annotated[bytes, msgspec.Meta(min_length=16, max_length=16)]
    fence: int
    reason: str


Take = Callable[[Hint], Awaitable[None]]
"""Takes a hint: tries to win the claim, starts the work elsewhere, and returns; it does not wait for the work.

The hint is acknowledged when it returns, and also when it raises: the scan finds the operation again, and a hint that
came back at once would loop (R2).
"""


class Health(TypedDict):
    """How a queue is, for a health endpoint; JSON as it stands."""

    connected: bool
    taking: int
    """How many hints are being taken now."""
    seconds_since_delivery: float | None
    """None when nothing came yet. Much of it beside open operations says that hints do not arrive."""
    last_error: str | None
    """Why it is not connected, or why it was not the last time."""


class QueueUnavailable(RetrySafeError):
    """The broker took none of the hints in time; whoever has them recovers what they are about itself (R2)."""


class HintQueue(Protocol):
    """Carries hints from any process to any worker. The request path never talks to it (R3)."""

    async def start(self) -> None:
        """Begin to connect, and return at once: a broker that is down keeps nobody from starting."""
        ...

    async def put(self, hints: Sequence[Hint]) -> int:
        """Publish hints, within two seconds.

        Returns:
            How many the broker confirmed; what it did not confirm may arrive all the same.

        Raises:
            QueueUnavailable: it confirmed none.
        """
        ...

    async def run(self, take: Take) -> None:
        """Hand each hint to ``take``, at least once as long as the broker keeps it, until :meth:`stop` or cancelled.

        Connects again by itself for as long as it takes, and never raises because a broker is down. ``parallel``
        hints are taken at once, and one that takes long holds up none of the others.

        Raises:
            RuntimeError: it runs already.
        """
        ...

    async def stop(self) -> None:
        """Take nothing more, let what is being taken end (10 s at most), and close."""
        ...

    @property
    def healthy(self) -> Health:
        """How it is now; looks at nothing outside of this process."""
        ...


def encode(hint: Hint) -> bytes:
    """Write a hint as JSON, so that a person who reads a queue can."""
    return msgspec.json.encode(hint)


def decode(body: bytes) -> Hint:
    """Read a hint; fields of later versions are ignored.

    Raises:
        ValueError: it is none.
    """
    return msgspec.json.decode(body, type=Hint)


def queue_name(namespace: str) -> str:
    """Name the queue of a namespace in letters that every broker allows: letters, digits, ``_``, ``-``, two dots."""
    if _PLAIN.fullmatch(namespace):
        return f"retrysafe.hints.{namespace}"
    readable = re.sub(r"[^A-Za-z0-9_-]+", "-", namespace)[:48]
    return f"retrysafe.hints.{readable}-{sha256(namespace.encode()).hexdigest()[:12]}"
