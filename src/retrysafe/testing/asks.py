"""Asks for tests: what a request would ask of a store, with everything filled in that the test does not care about."""

from __future__ import annotations

from itertools import count

from retrysafe.protocol.fingerprint import (
    Fingerprint,
    FingerprintRules,
    Secret,
    fingerprint,
    identity_digest,
    key_hint,
)
from retrysafe.protocol.model import Ask, Identity, Mode

DAY_SECONDS = 86_400.0

_PEPPER = b"pepper of tests."
_SECRET = Secret.of(b"secret of tests.")
_attempts = count(1)


def new_attempt_id() -> str:
    """Return an id in the form of a UUIDv7, greater than every one before in this process."""
    return f"01900000-0000-7000-8000-{next(_attempts):012x}"


def identity_of(key: str) -> Identity:
    """Return the identity of a key in the one scope that tests use."""
    return Identity(
        digest=identity_digest(_PEPPER, "tests", "alice", key),
        namespace="tests",
        principal="alice",
        key_hint=key_hint(key),
    )


def intent(text: str) -> Fingerprint:
    """Return the fingerprint of a request whose body is ``text``."""
    return fingerprint(
        method="POST",
        path=b"/charges",
        query=b"",
        media_type="text/plain",
        headers=(),
        body=text.encode(),
        rules=FingerprintRules(),
        secrets=[_SECRET],
    )


def an_ask(  # noqa: PLR0913 - what an ask has, each with a default
    key: str = "key-of-a-test",
    *,
    body: str = "charge 10",
    attempt_id: str | None = None,
    name: str = "POST /charges",
    mode: Mode = Mode.ONCE,
    lease_seconds: float = 15.0,
    tombstone_seconds: float = 30 * DAY_SECONDS,
    attempts: int = 3,
    backoff_seconds: float = 0.0,
    request: bytes | None = None,
) -> Ask:
    """Make an ask.

    Args:
        key: the client's key.
        body: what it asks for; another body is another fingerprint.
        attempt_id: the attempt's id; a new one when it is None.
        name: operation name.
        mode: what a crash means.
        lease_seconds: how long the claim is honoured.
        tombstone_seconds: how long the key is remembered.
        attempts: how many attempts may die.
        backoff_seconds: how long the scan leaves the operation alone should this attempt die.
        request: what a re-run needs, encoded.
    """
    return Ask(
        identity=identity_of(key),
        fingerprint=intent(body),
        attempt_id=attempt_id or new_attempt_id(),
        name=name,
        mode=mode,
        lease_seconds=lease_seconds,
        tombstone_seconds=tombstone_seconds,
        attempts=attempts,
        backoff_seconds=backoff_seconds,
        request=request,
    )
