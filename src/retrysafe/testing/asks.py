"""Asks, memos, terms and interventions for tests, with everything filled in that the test does not care about."""

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
from retrysafe.protocol.model import Ask, Identity, Limits, Mode
from retrysafe.protocol.operator import Intervention, Verb
from retrysafe.protocol.steps import Memo, StepKind, StepStatus
from retrysafe.stores.base import Terms

DAY_SECONDS = 86_400.0

PRINCIPAL = "alice"
NAMESPACES = ("tests", "another")
"""Of every operation that the contract makes; an application that shares its store is known by another."""

_PEPPER = b"pepper of tests."
_SECRET = Secret.of(b"secret of tests.")
_attempts = count(1)


def new_attempt_id() -> str:
    """Return an id in the form of a UUIDv7, greater than every one before in this process."""
    return f"01900000-0000-7000-8000-{next(_attempts):012x}"


def identity_of(key: str, namespace: str = "tests") -> Identity:
    """Return the identity of a key of the one principal that tests use."""
    return Identity(
        digest=identity_digest(_PEPPER, namespace, PRINCIPAL, key),
        namespace=namespace,
        principal=PRINCIPAL,
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
    limits: Limits | None = None,
    version: int = 1,
    namespace: str = "tests",
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
        limits: how long recovery goes on by itself; instead of ``attempts``.
        version: of the operation's code.
        namespace: of the application.
    """
    return Ask(
        identity=identity_of(key, namespace),
        fingerprint=intent(body),
        attempt_id=attempt_id or new_attempt_id(),
        name=name,
        mode=mode,
        lease_seconds=lease_seconds,
        tombstone_seconds=tombstone_seconds,
        limits=limits or Limits(attempts),
        backoff_seconds=backoff_seconds,
        request=request,
        version=version,
    )


def a_memo(  # noqa: PLR0913 - what a memo has, each with a default
    name: str = "pay",
    *,
    index: int = 0,
    seq: int = 1,
    kind: StepKind = StepKind.EXTERNAL,
    status: StepStatus = StepStatus.INTENT,
    fence: int = 1,
    value: bytes | None = None,
    undo: str | None = None,
    arguments: bytes | None = None,
    timeout_seconds: float = 30.0,
) -> Memo:
    """Make a memo, by default the intent of a step's first attempt.

    Args:
        name: of the step.
        index: which lap of a loop.
        seq: the order in which steps began.
        kind: what the step is.
        status: how far it is.
        fence: of the attempt that writes it.
        value: what the step gave.
        undo: name of the function that takes it back.
        arguments: what the step was called with.
        timeout_seconds: how long a call may be under way.
    """
    return Memo(
        name=name,
        index=index,
        seq=seq,
        kind=kind,
        status=status,
        fence=fence,
        value=value,
        undo=undo,
        arguments=arguments,
        timeout_seconds=timeout_seconds,
    )


def some_terms(
    *,
    attempt_id: str | None = None,
    limits: Limits | None = None,
    attempts: int = 3,
    lease_seconds: float = 15.0,
    backoff_seconds: float = 0.0,
) -> Terms:
    """Make the terms of a take-over.

    Args:
        attempt_id: the new attempt's id; a new one when it is None.
        limits: how long recovery goes on by itself.
        attempts: how many attempts may die; instead of ``limits``.
        lease_seconds: how long the claim is honoured.
        backoff_seconds: how long the scan leaves the operation alone should this attempt die.
    """
    return Terms(attempt_id or new_attempt_id(), limits or Limits(attempts), lease_seconds, backoff_seconds)


def an_intervention(
    verb: Verb,
    *,
    by: str = "ada",
    note: str = "the provider says so",
    outcome: bytes | None = None,
    undone: bool = False,
) -> Intervention:
    """Make what a person does.

    Args:
        verb: what.
        by: who.
        note: why.
        outcome: encoded; for ``settle``, which gets one when it is None.
        undone: for ``settle``: every effect was taken back by hand.
    """
    if verb is Verb.SETTLE and outcome is None:
        outcome = b"settled"
    return Intervention(
        verb, by, note, outcome, undone=undone, retention_seconds=DAY_SECONDS, tombstone_seconds=30 * DAY_SECONDS
    )
