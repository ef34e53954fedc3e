"""Every error retrysafe raises, in one tree.

::

    RetrySafeError
    ├─ ConfigurationError            at construction or start-up, lists every problem with its fix
    ├─ RequestRefused                the request is answered without running the operation
    │  ├─ KeyMissing                 400 key-missing
    │  ├─ KeyMalformed               400 key-malformed
    │  ├─ PrincipalMissing           401 principal-missing
    │  ├─ ReplayRefused              403 replay-refused
    │  ├─ InProgress                 409 in-progress
    │  ├─ OutcomeUnknown             409 outcome-unknown
    │  ├─ OperationUndone            409 operation-undone
    │  ├─ NotReplayable              409 completed-not-replayable
    │  ├─ KeyExpired                 410 key-expired
    │  ├─ RequestTooLarge            413 request-too-large
    │  └─ KeyReused                  422 key-reused
    ├─ AttemptSuperseded             503 attempt-superseded: this attempt may not write any more
    └─ StoreError
       ├─ StoreUnavailable           503 store-unavailable: transient, nothing is known
       ├─ StoreCorrupt               503 store-unavailable: the file is damaged; a person must act
       ├─ SchemaMismatch             503 store-unavailable: the schema is older or newer than the code
       └─ RecordUnreadable           503 record-unreadable: written by an unknown format version

Errors carry facts as attributes; the message is for people. The HTTP status of each error lives in one table,
``http/problem.py``. No error carries a whole key (K8), a stored payload, or anything of another caller.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


class RetrySafeError(Exception):
    """Root of every error raised by retrysafe."""


class ConfigurationError(RetrySafeError):
    """The configuration cannot work; raised at construction or start-up, never at the first request.

    Attributes:
        problems: every problem found, each one sentence with its fix.
    """

    def __init__(self, problems: Sequence[str]) -> None:
        """Keep all problems, so that a person fixes them in one go."""
        self.problems = tuple(problems)
        lines = "\n".join(f"  {number}. {problem}" for number, problem in enumerate(self.problems, 1))
        super().__init__(f"{len(self.problems)} configuration problem(s):\n{lines}")


class RequestRefused(RetrySafeError):
    """The request is answered without running the operation.

    Attributes:
        operation_id: the operation the key names, where one exists and the caller may know of it; safe to log and show.
    """

    def __init__(self, message: str, *, operation_id: str | None = None) -> None:
        """Carry the operation's public id, if there is one."""
        super().__init__(message)
        self.operation_id = operation_id


class KeyMissing(RequestRefused):
    """The operation requires a key and the request has none (K7)."""


class KeyMalformed(RequestRefused):
    """The key breaks K1, K2 or K3; nothing was looked up."""


class PrincipalMissing(RequestRefused):
    """The principal callable answered None: nobody is authenticated (K5)."""


class ReplayRefused(RequestRefused):
    """``authorize_replay`` refused to show the recorded outcome to this caller (K6)."""


class InProgress(RequestRefused):
    """Another attempt of this operation runs right now.

    Attributes:
        retry_after_seconds: when it is worth asking again, at least 1.
        phase: ``running``; ``retrying`` when an attempt failed and another follows; ``undoing``.
    """

    def __init__(self, retry_after_seconds: int, *, operation_id: str | None = None, phase: str = "running") -> None:
        """Keep the number of seconds for ``Retry-After``."""
        super().__init__("an attempt of this operation is in flight", operation_id=operation_id)
        self.retry_after_seconds = retry_after_seconds
        self.phase = phase


class OutcomeUnknown(RequestRefused):
    """The operation is parked: it may have happened, and a person or a probe must settle it.

    A new key is not safe: it could make the effect happen twice.

    Attributes:
        reason: one sentence about why it was parked.
    """

    def __init__(self, reason: str, *, operation_id: str | None = None) -> None:
        """Keep the stored reason."""
        super().__init__(f"the outcome of this operation is unknown: {reason}", operation_id=operation_id)
        self.reason = reason


class OperationUndone(RequestRefused):
    """The operation did not succeed, and everything it had done was taken back: a new key is safe (R7)."""

    def __init__(self, operation_id: str) -> None:
        """Name the operation that was undone."""
        super().__init__("the operation did not succeed; what it had done was undone", operation_id=operation_id)


class NotReplayable(RequestRefused):
    """The operation is done, but its response was too large or streamed and was not kept (S5).

    Attributes:
        original_status: HTTP status of the first answer.
        location: ``Location`` header of the first answer, if it had one.
    """

    def __init__(self, original_status: int, location: str | None, *, operation_id: str | None = None) -> None:
        """Keep what is still known of the first answer."""
        super().__init__("the operation is done; its response was not kept", operation_id=operation_id)
        self.original_status = original_status
        self.location = location


class KeyExpired(RequestRefused):
    """The outcome's retention is over; the tombstone still refuses a second run (S10)."""


class RequestTooLarge(RequestRefused):
    """The request body is larger than the operation's limit; it was not run (S8).

    Attributes:
        limit_bytes: the limit.
    """

    def __init__(self, limit_bytes: int) -> None:
        """Keep the limit for the answer."""
        super().__init__(f"the request body is larger than {limit_bytes} bytes")
        self.limit_bytes = limit_bytes


class KeyReused(RequestRefused):
    """The key was used before for another request (F1)."""


class AttemptSuperseded(RetrySafeError):
    """A later claim exists, or the lease is lost: this attempt's outcome was not recorded and must not be shown (C4).

    Attributes:
        operation_id: the operation.
        retry_after_seconds: when it is worth asking again for the winner's outcome, at least 1.
    """

    def __init__(self, operation_id: str, retry_after_seconds: int = 1) -> None:
        """Name the operation whose claim was lost."""
        super().__init__(f"the attempt lost its claim on operation {operation_id}")
        self.operation_id = operation_id
        self.retry_after_seconds = retry_after_seconds


class StoreError(RetrySafeError):
    """The store could not do what it was asked."""


class StoreUnavailable(StoreError):
    """Transient: the store cannot be reached, is locked, full or read-only. Nothing is known about the write."""


class StoreCorrupt(StoreError):
    """The store's file is damaged or is not a store; a person must act."""


class SchemaMismatch(StoreError):
    """The stored schema is not the one this code was written for.

    Attributes:
        found: schema version in the store, 0 when it has none.
        needed: schema version this code needs.
    """

    def __init__(self, found: int, needed: int) -> None:
        """Say which side is older."""
        fix = "upgrade retrysafe" if found > needed else "run `retrysafe migrate`"
        super().__init__(f"the store has schema version {found}, this code needs {needed}: {fix}")
        self.found = found
        self.needed = needed


class RecordUnreadable(StoreError):
    """A stored outcome or request was written in a format this code does not know (S11).

    It is never run again instead.
    """
