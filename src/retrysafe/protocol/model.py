"""The nouns of the protocol: one word, one meaning, the same in code, SQL, events, command line and documentation.

Instants (``*_at``, ``*_until``, ``now``) are seconds since the epoch by the **store's** clock and are only ever
compared with each other. Durations are ``*_seconds: float``.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import TYPE_CHECKING, cast

import msgspec

from retrysafe.protocol.states import State

if TYPE_CHECKING:
    from collections.abc import Iterable

    from retrysafe.protocol.fingerprint import Fingerprint

Headers = tuple[tuple[bytes, bytes], ...]
"""Header pairs in wire order; names as they came, duplicates kept."""


class Mode(StrEnum):
    """What the operation's author declares about its effects; it decides what a crash means."""

    ONCE = "once"
    """At most once. After a crash the outcome is unknown and the checkpoint is parked.

    Nothing runs it again by itself.
    """
    AGAIN = "again"
    """Naturally repeatable. After a crash the retrying client or the recovery scan runs it again."""
    STEPS = "steps"
    """Each named step effectively once. After a crash it goes on from the last memo, or is undone in reverse."""
    TRANSACTION = "transaction"
    """Exactly once in the application's own database: effects, outcome and outbox in one commit."""


class Response:
    """An HTTP response as a value: what an operation answers, what a checkpoint keeps, what a replay sends.

    Attributes:
        status: the HTTP status code.
        headers: header pairs as bytes, in order, duplicates kept.
        body: the whole body.
    """

    __slots__ = ("body", "headers", "status")

    def __init__(
        self,
        status: int,
        content: object = None,
        headers: Mapping[str, str] | Iterable[tuple[str, str]] = (),
    ) -> None:
        """Build a response from Python values.

        Args:
            status: the HTTP status code.
            content: bytes are the body; text becomes UTF-8 ``text/plain``; None is an empty body; anything else
                becomes JSON (by msgspec: dicts, lists, dataclasses, msgspec structs, datetimes, UUIDs, decimals).
            headers: more headers; a ``Content-Type`` here wins over the default of ``content``.
        """
        pairs: list[tuple[str, str]] = []
        pairs.extend(cast("Mapping[str, str]", headers).items() if isinstance(headers, Mapping) else headers)
        match content:
            case None:
                default, body = None, b""
            case bytes():
                default, body = "application/octet-stream", content
            case str():
                default, body = "text/plain; charset=utf-8", content.encode()
            case _:
                default, body = "application/json", msgspec.json.encode(content)
        if default is not None and not any(name.lower() == "content-type" for name, _ in pairs):
            pairs.insert(0, ("Content-Type", default))
        self.status = status
        self.headers: Headers = tuple((name.encode("latin-1"), value.encode("latin-1")) for name, value in pairs)
        self.body = body

    @classmethod
    def raw(cls, status: int, headers: Headers, body: bytes) -> Response:
        """Build a response from what a server protocol already has; nothing is added or converted."""
        self = object.__new__(cls)
        set_slot = object.__setattr__
        set_slot(self, "status", status)
        set_slot(self, "headers", headers)
        set_slot(self, "body", body)
        return self

    def header(self, name: str) -> str | None:
        """Return the first header called ``name``, whatever its case, or None."""
        wanted = name.lower().encode("latin-1")
        for key, value in self.headers:
            if key.lower() == wanted:
                return value.decode("latin-1")
        return None

    def __eq__(self, other: object) -> bool:
        """Compare status, header pairs and body bytes."""
        if not isinstance(other, Response):
            return NotImplemented
        return (self.status, self.headers, self.body) == (other.status, other.headers, other.body)

    def __hash__(self) -> int:
        """Hash what equality compares."""
        return hash((self.status, self.headers, self.body))

    def __repr__(self) -> str:
        """Show the status and the size, never the content (K8)."""
        return f"<Response {self.status}, {len(self.body)} bytes>"


class NoEffect(Exception):
    """Raised by an operation's author: nothing happened, so the key may be used again (any mode).

    Attributes:
        response: what to answer now; it is not recorded. None re-raises into the framework.
    """

    def __init__(self, response: Response | None = None) -> None:
        """Keep the answer."""
        super().__init__("the operation had no effect")
        self.response = response


class Final(Exception):
    """Raised by an operation's author: this is the outcome, record it whatever its status (any mode).

    Attributes:
        response: the outcome.
    """

    def __init__(self, response: Response) -> None:
        """Keep the outcome."""
        super().__init__("the operation has its outcome")
        self.response = response


class Discreet(msgspec.Struct, frozen=True):
    """A value whose representation shows no bytes: they are digests, fingerprints and stored payloads (K8)."""

    def __repr__(self) -> str:
        """Show every field that is not bytes."""
        fields = ((name, getattr(self, name)) for name in self.__struct_fields__)
        shown = ", ".join(f"{name}={value!r}" for name, value in fields if not isinstance(value, bytes))
        return f"{type(self).__name__}({shown})"


class Outcome(Discreet, frozen=True, array_like=True, gc=False):
    """What a checkpoint keeps of an execution.

    Attributes:
        status: the HTTP status code of the first answer.
        headers: the header pairs that survive recording (S4).
        body: the body, or None when it was too large or streamed and is not kept (S5).
    """

    status: int
    headers: Headers
    body: bytes | None


class StoredRequest(Discreet, frozen=True, array_like=True, gc=False):
    """What a re-run needs; stored inside the claim, but for ``once``, and erased when the operation is final (R13).

    ``Authorization``, ``Cookie`` and client certificates are never in it (R9).
    """

    method: str
    target: bytes
    headers: Headers
    body: bytes
    operation: str
    surface: int = 0
    """Which of the application's guarded surfaces it came in by, in the order in which they were built."""


class Message(Discreet, frozen=True, array_like=True, gc=False):
    """What an operation tells others, through the outbox: it leaves if and only if the operation's commit is durable.

    At least once, with the id ``operation:n``, by which a consumer drops repeats (R12).
    """

    topic: str
    payload: bytes
    headers: Headers = ()


class Identity(Discreet, frozen=True, gc=False):
    """In which scope a key is unique, and its digest (K4). The key itself is not kept (K8)."""

    digest: bytes
    """16 bytes; the primary key of the checkpoint."""
    namespace: str
    principal: str
    """Stable id of the authenticated party; empty when the operator spelled out that all callers share one scope."""
    key_hint: str
    """A short prefix of the key, at most a quarter of it."""


class Limits(msgspec.Struct, frozen=True, gc=False):
    """How long recovery goes on by itself (R8).

    Attributes:
        attempts: how many attempts may end without an outcome before ``undo`` decides.
        undo: whether the operation is then undone; otherwise it is parked. Only mode ``steps`` can undo.
        undo_attempts: how many attempts to undo may end without success before the operation is parked.
    """

    attempts: int
    undo: bool = False
    undo_attempts: int = 30


class Ask(Discreet, frozen=True, gc=False):
    """What a request asks of the store when it wants the claim.

    Attributes:
        identity: which checkpoint.
        fingerprint: what the client asked for, to be compared with what was asked first (F1).
        attempt_id: UUIDv7, new for every ask. It becomes the operation id when the checkpoint is new, and makes a
            claim whose commit was not acknowledged recognisable as our own (D4).
        name: low-cardinality operation name such as ``POST /charges``.
        mode: what a crash means.
        lease_seconds: how long the claim is honoured without renewal.
        tombstone_seconds: how long the key is remembered if the operation is never finished.
        limits: how long recovery goes on by itself (R8).
        backoff_seconds: how long the recovery scan leaves the operation alone should this attempt die.
        request: what a re-run needs; None in mode ``once``.
        version: of the operation's code; the first claim's version stays with the checkpoint.
    """

    identity: Identity
    fingerprint: Fingerprint
    attempt_id: str
    name: str
    mode: Mode
    lease_seconds: float
    tombstone_seconds: float
    limits: Limits
    backoff_seconds: float = 0.0
    request: bytes | None = None
    version: int = 1


class Claim(Discreet, frozen=True, gc=False):
    """The right to execute. Every write carries it, and the store compares ``fence`` in the same statement (C4).

    Attributes:
        deaths: attempts before this one that ended without record or release (R8).
        undoing: the right is to undo the operation, not to run it (R7).
        version: of the code that the operation was first claimed with.
    """

    digest: bytes
    operation_id: str
    fence: int
    attempt: int
    mode: Mode
    name: str
    lease_seconds: float
    deaths: int = 0
    undoing: bool = False
    version: int = 1


class Checkpoint(Discreet, frozen=True, gc=False):
    """The stored entity of one operation, as read at the instant ``now`` of the store's clock."""

    digest: bytes
    operation_id: str
    name: str
    mode: Mode
    state: State
    namespace: str
    principal: str
    key_hint: str
    fingerprint: bytes
    fence: int
    attempt: int
    deaths: int
    """Attempts that ended without record or release (R8)."""
    attempt_id: str
    created_at: float
    lease_until: float
    due_at: float
    """The recovery scan leaves the operation alone until then."""
    finished_at: float | None
    outcome_until: float | None
    tombstone_until: float
    outcome: bytes | None
    """Encoded ``Outcome``; see ``encoding.py``."""
    request: bytes | None
    """Encoded ``StoredRequest``; see ``encoding.py``."""
    reason: str | None
    """Why the checkpoint is parked, is being undone, or waits for its next attempt."""
    version: int
    """Of the operation's code, as the first claim told it."""
    undoing: bool
    """It began to be undone, so it never goes forward again (I9)."""
    now: float

    @property
    def lease_remaining_seconds(self) -> float:
        """How long the claim is still honoured; zero or less means the lease is over."""
        return self.lease_until - self.now

    @property
    def age_seconds(self) -> float:
        """How long ago the checkpoint was made."""
        return self.now - self.created_at

    def claim(self, lease_seconds: float) -> Claim:
        """Return the claim that the checkpoint's current fence stands for."""
        return Claim(
            digest=self.digest,
            operation_id=self.operation_id,
            fence=self.fence,
            attempt=self.attempt,
            mode=self.mode,
            name=self.name,
            lease_seconds=lease_seconds,
            deaths=self.deaths,
            undoing=self.state is State.UNDOING,
            version=self.version,
        )
