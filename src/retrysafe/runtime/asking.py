"""From a request to an ``Ask``: who calls, which key, what was asked for. Shared by every HTTP surface."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from retrysafe.errors import PrincipalMissing
from retrysafe.http.request import request_fingerprint, stored_request, wait_seconds
from retrysafe.protocol.encoding import encode_request
from retrysafe.protocol.fingerprint import identity_digest, key_hint
from retrysafe.protocol.model import Ask, Identity, Mode, Operation
from retrysafe.runtime.clock import uuid7
from retrysafe.runtime.guard import Shared

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from retrysafe.http.request import HttpRequest
    from retrysafe.protocol.model import Claim
    from retrysafe.protocol.policy import Policy
    from retrysafe.runtime.engine import Engine
    from retrysafe.runtime.guard import RetrySafe
    from retrysafe.runtime.routes import Guarded


def call_principal(guard: RetrySafe, request: HttpRequest) -> str | Awaitable[str | None] | None:
    """Ask the application who calls; called after authentication and before anything is looked up (K5)."""
    return "" if isinstance(guard.principal, Shared) else guard.principal(request)


def known_principal(guard: RetrySafe, principal: str | None) -> str:
    """Return the principal.

    Raises:
        PrincipalMissing: nobody is authenticated; an empty name is nobody's either (K5).
    """
    if not principal and not isinstance(guard.principal, Shared):
        message = "nobody is authenticated"
        raise PrincipalMissing(message)
    return principal or ""


def ask_for(
    engine: Engine,
    guard: RetrySafe,
    request: HttpRequest,
    *,
    key: str,
    principal: str,
    route: Guarded,
    surface: int,
) -> Ask:
    """Make the ask of a guarded request; the key goes no further than this (K8)."""
    name, policy = route.name, route.policy
    mode = Mode(policy.mode)
    rerun: bytes | None = None
    if mode is Mode.AGAIN:
        stored = stored_request(request, policy.rerun_headers, name)
        rerun = encode_request(msgspec.structs.replace(stored, surface=surface))
    fingerprint = request_fingerprint(request, policy.fingerprint, engine.secrets)
    # Digested here, by the request's own thread or loop, and not inside the store's transaction.
    _ = fingerprint.stored
    return Ask(
        identity=Identity(
            digest=identity_digest(engine.pepper, guard.namespace, principal, key),
            namespace=guard.namespace,
            principal=principal,
            key_hint=key_hint(key),
        ),
        fingerprint=fingerprint,
        attempt_id=uuid7(),
        name=name,
        mode=mode,
        lease_seconds=policy.lease_seconds,
        tombstone_seconds=policy.tombstone_seconds,
        attempts=policy.attempts,
        request=rerun,
    )


def wait_for(request: HttpRequest, policy: Policy) -> float:
    """Return how many seconds this request waits for an attempt in flight.

    What it asks for, at most the policy's limit (S9).
    """
    asked = wait_seconds(request.headers)
    if asked is None:
        asked = policy.wait_limit_seconds if policy.on_conflict == "wait" else 0.0
    return min(asked, policy.wait_limit_seconds)


def operation_of(claim: Claim | None, *, recovering: bool = False) -> Operation | None:
    """Return what the operation's code may know of its claim; None when it runs unprotected."""
    return None if claim is None else Operation(claim.operation_id, claim.attempt, claim.fence, recovering)
