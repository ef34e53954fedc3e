"""What the store asks of Redis: scripts by name, on keys that all lie in one slot."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from hashlib import sha1
from importlib.resources import files
from typing import Any, NamedTuple

from retrysafe.stores.program import Answer, Program, Statement

BUCKETS = 64
"""Into how many slots of a Cluster the checkpoints are spread."""

_NEEDS = "-- needs: "

Reply = Sequence[Any]

Words = tuple[bytes | str | int | float, ...]
"""A command with its arguments."""


class Script(NamedTuple):
    """A script, as text and as the digest that a server knows it by once it has seen the text."""

    text: str
    digest: str


@cache
def script(name: str) -> Script:
    """Read a script, behind the parts that its first line names: what it does not need would only take time."""
    folder = files("retrysafe.stores.redis") / "scripts"
    own = (folder / f"{name}.lua").read_text()
    begin = own.partition("\n")[0]
    parts = begin.removeprefix(_NEEDS).split() if begin.startswith(_NEEDS) else []
    text = "\n".join([*((folder / "parts" / f"{part}.lua").read_text() for part in parts), own])
    return Script(text, sha1(text.encode(), usedforsecurity=False).hexdigest())


class Call(NamedTuple):
    """One script to run.

    Attributes:
        script: its name.
        keys: what it reads and writes; the first decides where in a Cluster it runs.
        arguments: the rest.
    """

    script: str
    keys: tuple[bytes, ...]
    arguments: Words


class Introduction(NamedTuple):
    """With what a new connection begins once the store is open.

    Attributes:
        call: makes the meta row if there is none any more, or answers with the one that is there.
        row: what it must answer.
    """

    call: Call
    row: bytes


def ask(call: Call) -> Program[Reply]:
    """Run one script, and return what it answers."""
    answer = yield Statement("", (call,))
    return answer.rows[0]


def ask_all(calls: Sequence[Call]) -> Program[Sequence[Reply]]:
    """Run scripts on their way together; each is atomic, all of them are not."""
    if not calls:
        return ()
    answer: Answer = yield Statement("", calls)
    return answer.rows


class Bucket(NamedTuple):
    """The keys of one slot; each begins with the slot's hash tag."""

    checkpoint: bytes
    """Before a digest."""
    memos: bytes
    """Before a digest."""
    indexes: tuple[bytes, bytes, bytes]
    """Of open, of parked and of closed checkpoints."""
    outbox: tuple[bytes, bytes, bytes]
    """Fresh messages, those that were taken before, and what they say."""
    audit: bytes

    def of(self, digest: bytes) -> tuple[bytes, bytes, bytes, bytes]:
        """Return the keys of a checkpoint and its indexes, as scripts take them."""
        return (self.checkpoint + digest, *self.indexes)


class Keys:
    """Where everything of a store lies.

    Args:
        prefix: before the number of each bucket, in braces: what is in braces decides the slot in a Cluster.
    """

    def __init__(self, prefix: str) -> None:
        self.buckets = tuple(_bucket(f"{{{prefix}:{number:02}}}".encode()) for number in range(BUCKETS))
        self.meta = f"{{{prefix}:00}}meta".encode()

    def bucket(self, digest: bytes) -> Bucket:
        """Return the bucket of a checkpoint."""
        return self.buckets[digest[0] % BUCKETS]


def _bucket(tag: bytes) -> Bucket:
    return Bucket(
        checkpoint=tag + b"c",
        memos=tag + b"m",
        indexes=(tag + b"open", tag + b"parked", tag + b"closed"),
        outbox=(tag + b"fresh", tag + b"taken", tag + b"messages"),
        audit=tag + b"audit",
    )


Stamp = Callable[[], str]
"""Returns what scripts take for the time: nothing for the server's own (C2), or an instant that a test made up."""


def servers_time() -> str:
    """Leave the time to the server (C2)."""
    return ""
