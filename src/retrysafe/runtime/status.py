"""What a client may ask about its own operation without sending it again: ``GET`` with the same key (opt-in).

It is scoped like everything else: a key names an operation of the caller who asks, and nobody else's. It answers from
the checkpoint alone, runs nothing, and shows no outcome.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from retrysafe.http.key import read_key
from retrysafe.protocol.encoding import decode_outcome
from retrysafe.protocol.fingerprint import identity_digest
from retrysafe.protocol.flows import phase_of
from retrysafe.protocol.model import Response
from retrysafe.protocol.states import LEASED, State

if TYPE_CHECKING:
    from retrysafe.http.request import HttpRequest
    from retrysafe.protocol.model import Checkpoint
    from retrysafe.runtime.engine import Engine
    from retrysafe.runtime.guard import RetrySafe
    from retrysafe.stores.program import Factory

_HEADERS = {"Cache-Control": "no-store"}


def asks_for_status(guard: RetrySafe, method: str, path: str) -> bool:
    """Tell whether a request is for the status endpoint."""
    return guard.status_path is not None and method == "GET" and path == guard.status_path


def status_program(
    engine: Engine, guard: RetrySafe, request: HttpRequest, principal: str
) -> Factory[Checkpoint | None] | None:
    """Return the program that reads the operation which the request's key names; None without a key.

    Raises:
        KeyMalformed: the key breaks K1, K2 or K3.
    """
    key = read_key(request.headers, guard.keys, request.firsts)
    if key is None:
        return None
    return partial(engine.sync.verbs.read, identity_digest(engine.pepper, guard.namespace, principal, key))


def status_response(engine: Engine, met: Checkpoint | None) -> Response:
    """Say how an operation is: its state in the client's words, its phase, and when it is worth asking again (E)."""
    if met is None:
        return Response(404, {"status": "unknown", "detail": "there is no operation with this key"}, _HEADERS)
    facts: dict[str, Any] = {"operation": met.operation_id, "name": met.name, "attempt": met.attempt}
    if met.state in LEASED:
        seconds = engine.retry_after_seconds(met)
        facts |= {"status": "in-progress", "phase": phase_of(met), "retry_after": seconds}
        return Response(200, facts, {**_HEADERS, "Retry-After": str(seconds)})
    match met.state:
        case State.PARKED:
            facts |= {"status": "outcome-unknown", "new_key_safe": False}
        case State.RELEASED:
            facts |= {"status": "released"}
        case State.UNDONE:
            facts |= {"status": "undone", "new_key_safe": True}
        case State.EXPIRED:
            facts |= {"status": "expired", "new_key_safe": False}
        case _:
            facts |= {"status": "done"}
    if met.outcome is not None and met.state in {State.DONE, State.UNDONE}:
        facts["http_status"] = decode_outcome(met.outcome).status
    return Response(200, facts, _HEADERS)
