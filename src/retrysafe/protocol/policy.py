"""How one operation is guarded: one frozen ``Policy``, each default with its reason and its precedent beside it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Literal, get_args

from retrysafe.errors import ConfigurationError
from retrysafe.protocol.encoding import Compression, has_zstd
from retrysafe.protocol.fingerprint import FingerprintRules
from retrysafe.protocol.model import Limits, Mode, Response

if TYPE_CHECKING:
    from collections.abc import Iterator

NOTHING_DONE = frozenset({401, 403, 407, 408, 409, 412, 421, 423, 425, 428, 429})
"""Statuses that say "nothing was done" (S3)."""

_SERVER_ERRORS = 500
_LOWEST_STATUS, _HIGHEST_STATUS = 100, 599
_SHORTEST_LEASE, _LONGEST_LEASE = timedelta(seconds=1), timedelta(hours=1)


@dataclass(frozen=True, kw_only=True)
class Policy:
    """How one operation is guarded.

    Raises:
        ConfigurationError: the values cannot work together; every problem is listed with its fix.
    """

    mode: Mode | Literal["once", "again", "steps", "transaction"] = Mode.ONCE
    """What a crash means. ``once`` is the only mode that is safe without knowing the operation."""

    lease: timedelta = timedelta(seconds=15)
    """How long a claim is honoured without renewal: one second to one hour.

    Renewed every third, so 15 s means that operations under 5 s never renew, and that a dead attempt is noticed after
    16 s (lease and scan).
    """

    max_duration: timedelta = timedelta(minutes=5)
    """After this renewals stop, so that a hung operation never holds a key for ever (C8).

    Five minutes is above the usual proxy time-outs (30 to 120 s), beyond which no client is left to hear the answer.
    """

    retention: timedelta = timedelta(hours=24)
    """How long an outcome is replayable. 24 h is what Stripe promises and what clients of payment APIs expect."""

    tombstone: timedelta = timedelta(days=30)
    """How long the key still refuses a second run once the outcome is dropped (410, S10).

    30 days outlive the retries of a dead-letter queue that somebody drains after a holiday.
    """

    require_key: bool = False
    """Answer 400 to a request without a key (K7).

    Off, such a request passes untouched and is counted as unprotected.
    """

    request_limit: int = 8 * 1024 * 1024
    """Largest request body in bytes; a larger one is answered 413, never run unprotected (S8).

    It is held in memory while it is digested.
    """

    response_limit: int = 1024 * 1024
    """Largest response body in bytes that is kept for replay; a larger one is sent unchanged and its replay is 409
    ``completed-not-replayable`` (S5)."""

    compression: Compression = "zlib"
    """How what is kept of a response or a request above 1 KiB is made smaller (S11).

    ``zstd`` takes half the time of ``zlib``, and must be there in every process that may read it: so it is chosen, and
    not taken because it happens to be installed. ``none`` is for bodies that are compressed already.
    """

    release_on: frozenset[int] = frozenset()
    """More statuses that mean "nothing was done, the key is free again".

    In mode ``once`` nothing is released by status unless it is listed here: a charge may have come before a 429.
    """

    fail_open: bool = False
    """Run the operation unprotected when the store is down (D1). Off, it is answered 503 and not run."""

    on_conflict: Literal["reject", "wait"] = "reject"
    """What a second request does while the first is in flight: 409 at once, or wait for the outcome (S9).

    A client can ask for the second with ``Prefer: wait=N`` either way.
    """

    wait_limit: timedelta = timedelta(seconds=10)
    """Longest wait (S9); below the 30 s after which most proxies give up."""

    attempts: int = 12
    """How many attempts may end without an outcome before the operation is parked, or undone (R8).

    With back-off, 12 is about 20 minutes.
    """

    spent: Literal["park", "undo"] = "park"
    """What follows when the attempts are spent: a person decides, or the steps are undone in reverse (``steps`` only).

    Parked by default: undoing what might have succeeded is a decision about money that we don't take by ourselves.
    """

    undo_attempts: int = 30
    """How many attempts to undo may end without success before the operation is parked.

    With back-off of at most 5 minutes, 30 is about two hours, which outlasts the outage of most services.
    """

    undone: Response | None = None
    """What an undone operation answers; None is a 409 ``operation-undone``, which says that a new key is safe."""

    orphans: Literal["park", "undo", "keep"] = "park"
    """What happens when the code ends in success without coming by a step that an earlier attempt began (R4).

    It means that the code changed, or took another branch. Parked by default, because money may have moved; or only
    that step is undone; or it is kept, where such a step does no harm.
    """

    step_timeout: timedelta = timedelta(seconds=10)
    """How long one step may take (R6). Undoing waits for it when the attempt that began the step died."""

    version: int = 1
    """Of the operation's code; the first claim's version stays with the operation, and its code can ask for it."""

    fingerprint: FingerprintRules = field(default_factory=FingerprintRules)
    """What belongs to the client's intent (F4)."""

    rerun_headers: frozenset[str] = frozenset(
        {"accept", "accept-language", "content-encoding", "content-language", "content-type", "host", "prefer"}
    )
    """Lower-case names of request headers that are stored for a re-run, in every mode but ``once`` (R13).

    Credentials can't be listed (R9).
    """

    def __post_init__(self) -> None:
        """Check everything at once."""
        if problems := list(self._problems()):
            raise ConfigurationError(problems)
        object.__setattr__(self, "mode", Mode(self.mode))

    def _problems(self) -> Iterator[str]:
        if self.mode not in set(Mode):
            yield f"mode {self.mode!r} is unknown: use one of {', '.join(sorted(Mode))}"
        if not _SHORTEST_LEASE <= self.lease <= _LONGEST_LEASE:
            yield f"lease is {self.lease}: choose one second to one hour"
        if self.max_duration < self.lease:
            yield f"max_duration ({self.max_duration}) is shorter than lease ({self.lease}): make it at least as long"
        if self.retention <= timedelta(0):
            yield f"retention is {self.retention}: make it longer than the longest time a client retries"
        if self.tombstone < self.retention:
            yield f"tombstone ({self.tombstone}) is shorter than retention ({self.retention}): make it at least as long"
        if self.request_limit < 0 or self.response_limit < 0:
            yield "request_limit and response_limit are numbers of bytes: zero or more"
        yield from self._compression_problems()
        if wrong := sorted(status for status in self.release_on if not _LOWEST_STATUS <= status <= _HIGHEST_STATUS):
            yield f"release_on holds {wrong}: HTTP statuses are 100 to 599"
        if self.on_conflict not in {"reject", "wait"}:
            yield f"on_conflict {self.on_conflict!r} is unknown: use 'reject' or 'wait'"
        if self.wait_limit < timedelta(0):
            yield f"wait_limit is {self.wait_limit}: choose zero or more"
        if self.attempts < 1 or self.undo_attempts < 1:
            yield f"attempts is {self.attempts}, undo_attempts {self.undo_attempts}: allow at least one attempt of each"
        yield from self._step_problems()
        if secret := sorted(self.rerun_headers & {"authorization", "cookie", "proxy-authorization"}):
            yield f"rerun_headers lists {', '.join(secret)}: credentials are never stored; use restore_principal"
        if upper := sorted(name for name in self.rerun_headers if name != name.lower()):
            yield f"rerun_headers lists {', '.join(upper)}: write header names in lower case"

    def _compression_problems(self) -> Iterator[str]:
        if self.compression not in get_args(Compression):
            yield f"compression {self.compression!r} is unknown: use one of {', '.join(get_args(Compression))}"
        elif self.compression == "zstd" and not has_zstd():
            yield "compression is 'zstd', which is missing: pip install retrysafe[zstd] wherever it may be read"

    def _step_problems(self) -> Iterator[str]:
        if self.spent not in {"park", "undo"}:
            yield f"spent {self.spent!r} is unknown: use 'park' or 'undo'"
        if self.orphans not in {"park", "undo", "keep"}:
            yield f"orphans {self.orphans!r} is unknown: use 'park', 'undo' or 'keep'"
        if self.mode != Mode.STEPS and (self.spent == "undo" or self.undone is not None):
            yield f"mode {self.mode} has no steps to undo: use mode='steps', or leave out spent='undo' and undone="
        if self.step_timeout <= timedelta(0):
            yield f"step_timeout is {self.step_timeout}: make it longer than the slowest call that you would wait for"

    @cached_property
    def limits(self) -> Limits:
        """How long recovery goes on by itself."""
        return Limits(self.attempts, undo=self.spent == "undo", undo_attempts=self.undo_attempts)

    @cached_property
    def step_timeout_seconds(self) -> float:
        """The longest step in seconds."""
        return self.step_timeout.total_seconds()

    @cached_property
    def transaction_seconds(self) -> float:
        """The longest transaction in seconds: it ends before the lease does, even when its process is frozen (R11)."""
        return self.lease_seconds * 0.9

    @cached_property
    def lease_seconds(self) -> float:
        """The lease in seconds."""
        return self.lease.total_seconds()

    @cached_property
    def max_duration_seconds(self) -> float:
        """The longest execution in seconds."""
        return self.max_duration.total_seconds()

    @cached_property
    def retention_seconds(self) -> float:
        """The outcome's retention in seconds."""
        return self.retention.total_seconds()

    @cached_property
    def tombstone_seconds(self) -> float:
        """The tombstone's retention in seconds."""
        return self.tombstone.total_seconds()

    @cached_property
    def wait_limit_seconds(self) -> float:
        """The longest wait in seconds."""
        return self.wait_limit.total_seconds()

    def releases(self, mode: Mode, status: int) -> bool:
        """Tell whether a returned status means that nothing happened, so that the key is free again (S3)."""
        if status in self.release_on:
            return True
        match mode:
            case Mode.ONCE:
                return False
            case Mode.AGAIN | Mode.TRANSACTION:
                return status >= _SERVER_ERRORS or status in NOTHING_DONE
            case Mode.STEPS:
                # Only with no intent and no memo, which the flow knows; and a 5xx is tried again, not released.
                return status in NOTHING_DONE
