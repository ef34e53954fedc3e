"""The one table of what is answered instead of an outcome, and of what keeps a service from starting (§E).

It is data for three readers: ``problem.py`` makes responses of it, ``retrysafe explain E021`` prints it, and the
reference page is generated from it. Numbers and codes are stable, because clients branch on them.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType

from retrysafe import errors


@dataclass(frozen=True, slots=True, kw_only=True)
class Code:
    """What one kind of error means.

    Attributes:
        number: how people look it up, such as ``E021``.
        code: what programs branch on, such as ``key-reused``.
        status: the HTTP status.
        title: a few words, the same each time (RFC 9457).
        detail: one sentence for the client; None when the error's own message is safe to show and says more.
        retryable: the same request with the same key may be answered differently later.
        new_key_safe: whether the client may send the same intent under a new key; None when nobody can know.
        retry_after_seconds: when to ask again if the error itself does not say; None is no ``Retry-After``.
        what: what happened, for a person.
        why: what usually leads to it.
        fix: what to do.
    """

    number: str
    code: str
    status: int
    title: str
    detail: str | None
    retryable: bool = False
    new_key_safe: bool | None = None
    retry_after_seconds: int | None = None
    what: str
    why: str
    fix: str

    @property
    def type(self) -> str:
        """The problem's ``type`` (RFC 9457): a name that stays, not an address that may move."""
        return type_uri(self.code)


def type_uri(code: str) -> str:
    """Return the ``type`` of a problem for a code."""
    return f"urn:retrysafe:problem:{code}"


CONFIGURATION = Code(
    number="E001",
    code="configuration",
    status=500,
    title="Configuration problem",
    detail="This service is not set up correctly.",
    what="The configuration cannot work, so nothing was started.",
    why="Settings contradict each other, one is out of range, or one that only you can choose is missing.",
    fix="The message lists every problem with its fix. Change them all and start again.",
)
KEY_MISSING = Code(
    number="E010",
    code="key-missing",
    status=400,
    title="Idempotency key missing",
    detail="This operation needs an Idempotency-Key header.",
    what="The operation requires a key and the request has none. It was not run.",
    why="The client does not send `Idempotency-Key`, or a proxy on the way removes it.",
    fix="Make a random key (UUIDv4) for each intent, keep it, and send it with every attempt.",
)
KEY_MALFORMED = Code(
    number="E011",
    code="key-malformed",
    status=400,
    title="Idempotency key malformed",
    detail=None,
    what="The key cannot be read. Nothing was looked up and nothing was run.",
    why="It is empty, longer than 255 characters, not all visible ASCII, or it was sent twice.",
    fix="Send one header with 1 to 255 visible ASCII characters, bare or in double quotes; a UUID is best.",
)
PRINCIPAL_MISSING = Code(
    number="E012",
    code="principal-missing",
    status=401,
    title="Not authenticated",
    detail="Keys belong to a caller, and this request has none.",
    what="The `principal` callable answered None: nobody is authenticated. The operation was not run.",
    why="The request has no valid credentials, or authentication comes after the guard.",
    fix="Authenticate before the guard. For a service without callers, say `principal=SHARED`.",
)
REPLAY_REFUSED = Code(
    number="E013",
    code="replay-refused",
    status=403,
    title="Replay refused",
    detail="The recorded response may not be shown to this caller.",
    new_key_safe=False,
    what="The operation was done before, and `authorize_replay` does not let this caller see its response.",
    why="The caller lost a right since then.",
    fix="If the caller should see it, give the right back and send the same request again.",
)
IN_PROGRESS = Code(
    number="E020",
    code="in-progress",
    status=409,
    title="Operation in progress",
    detail="The first request with this key is still being worked on. Ask again later with the same key.",
    retryable=True,
    new_key_safe=False,
    what="Another attempt of the same operation is in flight. This request did not run it a second time.",
    why="The client retried before the first attempt ended, or that attempt's process died a moment ago.",
    fix="Send the same request with the same key after `Retry-After`, or hold on with `Prefer: wait=10`.",
)
KEY_REUSED = Code(
    number="E021",
    code="key-reused",
    status=422,
    title="Idempotency key reused",
    detail="This key was used before for another request.",
    what="The key belongs to a request that asked for something else. This one was not run.",
    why="One key for two intents; or a retry with another method, path, query or body, such as a new time stamp.",
    fix="Use a new key for a new intent. A retry repeats the first request; exclude fields that must differ.",
)
OUTCOME_UNKNOWN = Code(
    number="E022",
    code="outcome-unknown",
    status=409,
    title="Outcome unknown",
    detail="This operation may or may not have happened. It is held until that is known.",
    new_key_safe=False,
    what="The operation is parked: an attempt ended without an outcome, and nothing runs it again by itself.",
    why="The process died in the middle of a `once` operation or of a step that may not be repeated; or every allowed "
    "attempt failed.",
    fix="Find out whether it happened before anybody uses a new key: that could make it happen twice.",
)
NOT_REPLAYABLE = Code(
    number="E023",
    code="completed-not-replayable",
    status=409,
    title="Completed, response not kept",
    detail="The operation was done. Its response was too large or streamed, and is not kept.",
    new_key_safe=False,
    what="The operation was done and was not run again. Its response cannot be sent a second time.",
    why="The response was larger than `response_limit`, or it was streamed.",
    fix="Fetch what was made by its own address; or raise `response_limit`, or give a `rebuild` hook.",
)
KEY_EXPIRED = Code(
    number="E024",
    code="key-expired",
    status=410,
    title="Idempotency key expired",
    detail="The operation was done under this key, and its response is no longer kept.",
    new_key_safe=False,
    what="The key is still known and its outcome is not: retention is over. The operation was not run again.",
    why="The retry came later than `retention`.",
    fix="Fetch what was made by its own address. A new key would make it a second time.",
)
REQUEST_TOO_LARGE = Code(
    number="E025",
    code="request-too-large",
    status=413,
    title="Request too large",
    detail=None,
    what="The body is larger than `request_limit`. The operation was not run, because it cannot be guarded.",
    why="The body of a guarded request is held in memory while it is digested, so it has a limit.",
    fix="Send less, or raise `request_limit` for this operation.",
)
OPERATION_UNDONE = Code(
    number="E026",
    code="operation-undone",
    status=409,
    title="Operation undone",
    detail="The operation did not succeed. What it had done was undone; the same intent may be sent under a new key.",
    new_key_safe=True,
    what="The operation ran out of attempts, or was undone by hand, and each of its steps was taken back in reverse.",
    why="A service that it calls failed for longer than its attempts last, or somebody chose `undo`.",
    fix="If the intent still stands, send it again with a new key. `retrysafe ops show` tells what was undone.",
)
ATTEMPT_SUPERSEDED = Code(
    number="E030",
    code="attempt-superseded",
    status=503,
    title="Attempt superseded",
    detail="Another attempt took this operation over. Ask again with the same key for its outcome.",
    retryable=True,
    new_key_safe=False,
    what="This attempt lost its claim to a later one: its own outcome does not count and is not shown.",
    why="It was frozen, or cut off from the store, for longer than its lease.",
    fix="Send the same request with the same key. If it happens often, look for long pauses or raise `lease`.",
)
STORE_UNAVAILABLE = Code(
    number="E031",
    code="store-unavailable",
    status=503,
    title="Temporarily unavailable",
    detail="A retry of this request could not be recognised right now. Ask again with the same key.",
    retryable=True,
    new_key_safe=False,
    retry_after_seconds=1,
    what="The store could not be reached, or was locked, full or read-only. Nothing was run unguarded.",
    why="The database is down, its disk is full, or the network to it is cut.",
    fix="Bring the store back; clients retry with the same key. `fail_open` runs an operation all the same.",
)
RECORD_UNREADABLE = Code(
    number="E032",
    code="record-unreadable",
    status=503,
    title="Record unreadable",
    detail="This version of the service cannot read the recorded response. Ask again with the same key.",
    retryable=True,
    new_key_safe=False,
    retry_after_seconds=30,
    what="A record has an unknown format or is damaged. The operation was not run again instead.",
    why="A newer version of retrysafe wrote it, and an older one runs beside it or was rolled back to.",
    fix="Run the newer version. Bring in a new format in two releases: first reading, then writing.",
)
SCHEMA_MISMATCH = Code(
    number="E040",
    code="store-unavailable",
    status=503,
    title=STORE_UNAVAILABLE.title,
    detail=STORE_UNAVAILABLE.detail,
    retryable=True,
    new_key_safe=False,
    retry_after_seconds=30,
    what="The store's schema is older or newer than this code.",
    why="The code was deployed before `retrysafe migrate` ran, or it was rolled back afterwards.",
    fix="If the store is older, run `retrysafe migrate`; if it is newer, deploy the newer code.",
)
STORE_CORRUPT = Code(
    number="E041",
    code="store-unavailable",
    status=503,
    title=STORE_UNAVAILABLE.title,
    detail=STORE_UNAVAILABLE.detail,
    retryable=True,
    new_key_safe=False,
    retry_after_seconds=30,
    what="The store's file is damaged, or is not a store of retrysafe.",
    why="A disk failed, the file was copied while it was written, or the path names another database.",
    fix="Check the path. Then stop the service, keep a copy of the file, and restore a backup.",
)
OPERATION_FAILED = Code(
    number="E050",
    code="operation-failed",
    status=500,
    title="Operation failed",
    detail="The operation failed in an unexpected way, and part of it may have happened.",
    new_key_safe=False,
    what="The operation raised an exception. In mode `once` that is its outcome: recorded, and replayed.",
    why="A bug, or a failure of another service that the operation does not catch.",
    fix="Raise `NoEffect` where nothing has happened yet, and `Final(response)` where the outcome is known.",
)

CODES: MappingProxyType[type[errors.RetrySafeError], Code] = MappingProxyType(
    {
        errors.ConfigurationError: CONFIGURATION,
        errors.KeyMissing: KEY_MISSING,
        errors.KeyMalformed: KEY_MALFORMED,
        errors.PrincipalMissing: PRINCIPAL_MISSING,
        errors.ReplayRefused: REPLAY_REFUSED,
        errors.InProgress: IN_PROGRESS,
        errors.KeyReused: KEY_REUSED,
        errors.OutcomeUnknown: OUTCOME_UNKNOWN,
        errors.OperationUndone: OPERATION_UNDONE,
        errors.NotReplayable: NOT_REPLAYABLE,
        errors.KeyExpired: KEY_EXPIRED,
        errors.RequestTooLarge: REQUEST_TOO_LARGE,
        errors.AttemptSuperseded: ATTEMPT_SUPERSEDED,
        errors.StoreError: STORE_UNAVAILABLE,
        errors.StoreUnavailable: STORE_UNAVAILABLE,
        errors.RecordUnreadable: RECORD_UNREADABLE,
        errors.SchemaMismatch: SCHEMA_MISMATCH,
        errors.StoreCorrupt: STORE_CORRUPT,
        # The root is for what somebody else's package derives from it.
        errors.RetrySafeError: OPERATION_FAILED,
    }
)
"""What each error means. One that is not listed means what its nearest listed base does."""

ALL: tuple[Code, ...] = tuple(
    sorted({code.number: code for code in CODES.values()}.values(), key=lambda code: code.number)
)
"""Every row once, by number."""


def code_of(error: errors.RetrySafeError) -> Code:
    """Return what an error means."""
    return next(CODES[kind] for kind in type(error).__mro__ if kind in CODES)


def find(text: str) -> tuple[Code, ...]:
    """Find rows for a person: by number (``E021``, ``e21``, ``21``) or by code (``key-reused``).

    Returns:
        Every row that fits, by number; none when nothing does.
    """
    wanted = text.strip().lower()
    digits = wanted.removeprefix("e")
    number = f"E{digits:0>3}" if digits.isdecimal() else None
    return tuple(code for code in ALL if number == code.number or wanted == code.code)
