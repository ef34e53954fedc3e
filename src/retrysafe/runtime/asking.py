"""From a request to an ``Ask``: who calls, which key, what was asked for. Shared by every HTTP surface."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from retrysafe.errors import KeyMissing, PrincipalMissing
from retrysafe.http.key import read_key
from retrysafe.http.request import request_fingerprint, stored_request, wait_seconds
from retrysafe.protocol.encoding import encode_request
from retrysafe.protocol.fingerprint import identity_digest, key_hint
from retrysafe.protocol.flows import handle_unprotected
from retrysafe.protocol.model import Ask, Identity, Mode
from retrysafe.protocol.ordinary import Ordinary
from retrysafe.runtime import events
from retrysafe.runtime.clock import uuid7
from retrysafe.runtime.guard import Shared

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from retrysafe.errors import StoreUnavailable
    from retrysafe.http.request import HttpRequest
    from retrysafe.protocol.effects import Answer, Flow
    from retrysafe.protocol.policy import Policy
    from retrysafe.runtime.engine import Engine
    from retrysafe.runtime.guard import RetrySafe
    from retrysafe.runtime.routes import Guarded


def key_of(guard: RetrySafe, route: Guarded, request: HttpRequest) -> str | None:
    """Read a request's key; None when it has none and needs none, which is counted (K7).

    Raises:
        KeyMalformed: it breaks K1, K2 or K3.
        KeyMissing: the operation requires one.
    """
    key = read_key(request.headers, guard.keys, request.firsts)
    if key is None:
        if route.policy.require_key:
            message = "this operation requires an idempotency key"
            raise KeyMissing(message)
        guard.emit(events.Unprotected(route.name, "no key"))
    return key


def without_store(guard: RetrySafe, route: Guarded, error: StoreUnavailable) -> None:
    """Tell that the store cannot be opened, and go on only where the operation is declared ``fail_open`` (D1).

    Raises:
        StoreUnavailable: it is not.
    """
    guard.emit(events.StoreFailed(route.name, "open", str(error)))
    if not route.policy.fail_open:
        raise error


def call_principal(guard: RetrySafe, request: HttpRequest) -> str | Awaitable[str | None] | None:
    """Ask the application who calls; called after authentication and before anything is looked up (K5)."""
    return "" if isinstance(guard.principal, Shared) else guard.principal(request)


def known_principal(guard: RetrySafe, principal: str | None) -> str:
    """Return the principal, who was asked for and has been awaited if need be.

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
    rerun: bytes | None = None
    if policy.mode is not Mode.ONCE:
        rerun = encode_request(stored_request(request, policy.rerun_headers, name, surface), policy.compression)
    fingerprint = request_fingerprint(request, policy.fingerprint, engine.secrets)
    if not engine.answers_at_once:
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
        mode=cast("Mode", policy.mode),
        lease_seconds=policy.lease_seconds,
        tombstone_seconds=policy.tombstone_seconds,
        limits=policy.limits,
        request=rerun,
        version=policy.version,
    )


def flow_for(
    engine: Engine | None,
    guard: RetrySafe,
    request: HttpRequest,
    *,
    key: str,
    principal: str,
    route: Guarded,
    surface: int,
) -> tuple[Flow[Answer] | Ordinary, bytes]:
    """Return what is to be done for a guarded request, on its ordinary course, and the digest of its identity.

    Args:
        engine: the process's engine, connected; None runs the operation unprotected, without an identity (D1).
        guard: whose request it is.
        request: the request, whole.
        key: its key.
        principal: who asks.
        route: the operation.
        surface: which of the application's guarded surfaces it came in by.
    """
    if engine is None:
        return handle_unprotected(), b""
    ask = ask_for(engine, guard, request, key=key, principal=principal, route=route, surface=surface)
    return Ordinary(ask, route.policy, wait_for(request, route.policy)), ask.identity.digest


def wait_for(request: HttpRequest, policy: Policy) -> float:
    """Return how many seconds this request waits for an attempt in flight.

    What it asks for, at most the policy's limit (S9).
    """
    asked = wait_seconds(request)
    if asked is None:
        return policy.wait_limit_seconds if policy.on_conflict == "wait" else 0.0
    return min(asked, policy.wait_limit_seconds)
