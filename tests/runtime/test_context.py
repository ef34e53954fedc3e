"""What the code of an operation can ask about the attempt it runs in; nested guards."""

import asyncio
import gc
import threading
from collections.abc import Iterable
from contextvars import copy_context
from typing import Any, cast

import pytest
from msgspec.structs import replace

from retrysafe import Operation, Policy, RetrySafe, current_operation
from retrysafe.adapters.asgi import RetrySafeMiddleware
from retrysafe.adapters.asgi.types import Receive, Scope, Send
from retrysafe.adapters.wsgi import RetrySafeMiddleware as WsgiMiddleware
from retrysafe.adapters.wsgi.types import Environ, StartResponse
from retrysafe.runtime import events
from retrysafe.runtime.context import conclude, enter, joined, leave
from retrysafe.runtime.operations import Attempt, SyncOperation
from tests.protocol.samples import claim
from tests.runtime.surfaces import Guarded, acall, call, guarded, responding

OPERATION = SyncOperation(
    Attempt(cast(Any, None), replace(claim(), operation_id="operation-1"), Policy(), recovering=True)
)
DIGEST = b"d" * 16


def test_outside_of_an_operation_there_is_none() -> None:
    assert current_operation() is None
    assert not joined(DIGEST)


def test_inside_it_is_known_and_afterwards_it_is_not() -> None:
    """K9."""
    token, presence = enter(lambda: OPERATION, DIGEST)
    assert current_operation() is OPERATION
    assert (joined(DIGEST), joined(b"e" * 16)) == (True, False)
    leave(token)
    assert current_operation() is None
    gc.collect()
    assert presence() is None


def test_a_thread_with_a_copy_of_the_context_is_inside_and_keeps_it_present() -> None:
    """A claim is handed over only after everything inside has stopped (C7)."""
    token, presence = enter(lambda: OPERATION, DIGEST)
    context = copy_context()
    leave(token)
    seen: list[Operation | None] = []
    thread = threading.Thread(target=context.run, args=(lambda: seen.append(current_operation()),))
    assert presence() is not None
    thread.start()
    thread.join()
    assert seen == [OPERATION]
    del context, thread
    gc.collect()
    assert presence() is None


def nested_asgi(guards: Iterable[RetrySafe], effects: list[Operation | None]) -> RetrySafeMiddleware:
    async def work() -> None:
        effects.append(await asyncio.to_thread(current_operation))

    inner, outer = guards
    return RetrySafeMiddleware(RetrySafeMiddleware(responding(work), inner), outer)


def nested_wsgi(guards: Iterable[RetrySafe], effects: list[Operation | None]) -> WsgiMiddleware:
    def app(environ: Environ, start_response: StartResponse) -> list[bytes]:
        effects.append(current_operation())
        assert environ["wsgi.input"].read() == b"{}"
        start_response("201 Created", [("content-length", "2")])
        return [b"{}"]

    inner, outer = guards
    return WsgiMiddleware(WsgiMiddleware(app, inner), outer)


@pytest.mark.parametrize("surface", ["asgi", "wsgi"])
def test_a_guard_inside_a_guarded_request_joins_the_outer_claim(surface: str) -> None:
    """It never answers itself 409 (K9)."""
    effects: list[Operation | None] = []
    with guarded() as service:
        guards = (service.guard, service.guard)
        if surface == "asgi":
            app = nested_asgi(guards, effects)
            replies = [asyncio.run(acall(app)) for _ in range(2)]
        else:
            wsgi_app = nested_wsgi(guards, effects)
            replies = [call(wsgi_app) for _ in range(2)]
        assert [(reply.status, reply.replayed) for reply in replies] == [(201, False), (201, True)]
        assert [operation.attempt for operation in effects if operation] == [1]
        assert service.events.kinds == ["Claimed", "Recorded", "Replayed"]


@pytest.mark.parametrize("surface", ["asgi", "wsgi"])
def test_a_guard_with_another_scope_makes_a_claim_of_its_own(surface: str) -> None:
    """K4: another namespace is another operation."""
    effects: list[Operation | None] = []
    with guarded(namespace="inner") as inner, guarded(namespace="outer") as outer:
        guards = (inner.guard, outer.guard)
        reply = (
            asyncio.run(acall(nested_asgi(guards, effects)))
            if surface == "asgi"
            else call(nested_wsgi(guards, effects))
        )
        assert reply.status == 201
        (inside,) = _claimed(inner)
        (outside,) = _claimed(outer)
        assert inside != outside
        assert [operation.id for operation in effects if operation] == [inside]


def _claimed(service: Guarded) -> list[str]:
    return [event.operation_id for event in service.events.of(events.Claimed)]


def test_an_unprotected_operation_has_no_id(rig: object) -> None:
    """D1."""
    seen: list[Operation | None] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(current_operation())
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    with guarded() as service:
        assert asyncio.run(acall(RetrySafeMiddleware(app, service.guard), key=None)).status == 204
    assert seen == [None]


def test_what_runs_on_after_the_outcome_joins_no_claim_any_more() -> None:
    """K9: the same request, made by background work, is answered like any other and not run again."""
    token, _ = enter(lambda: None, b"digest")
    try:
        assert joined(b"digest")
        conclude()
        assert not joined(b"digest")
    finally:
        leave(token)
