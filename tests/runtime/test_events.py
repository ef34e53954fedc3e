"""What happened, as a stream of events."""

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from functools import partial

import msgspec
import pytest

from retrysafe import Event, HttpRequest, LoggingSink, NoEffect
from retrysafe.adapters.asgi import RetrySafeMiddleware
from retrysafe.adapters.wsgi import RetrySafeMiddleware as WsgiMiddleware
from retrysafe.adapters.wsgi.types import Environ, StartResponse
from retrysafe.runtime import events
from retrysafe.testing.faults import fail
from tests.runtime.surfaces import Guarded, Reply, acall, call, guarded, responding

KEY = "8e03978e-40d5-43e8-bc93-6894a57f9324"
PRINCIPAL = "alice-whom-nobody-names"
BODY = b'{"card": "4242424242424242"}'
TOKEN = "Bearer s3cr3t"
COOKIE = "session=c00k1e"
SECRETS = (KEY, PRINCIPAL, "4242424242424242", "s3cr3t", "c00k1e", "message of the exception")
HEADERS = (("Authorization", TOKEN), ("Cookie", COOKIE), ("Content-Type", "application/json"))


def principal(request: HttpRequest) -> str:
    assert request.header("authorization") == TOKEN
    return PRINCIPAL


def asgi(service: Guarded, errors: list[Exception]) -> Callable[..., Reply]:
    async def work() -> None:
        if errors:
            raise errors.pop(0)

    app = RetrySafeMiddleware(responding(work), service.guard)
    return lambda **how: asyncio.run(acall(app, **how))


def wsgi(service: Guarded, errors: list[Exception]) -> Callable[..., Reply]:
    def app(environ: Environ, start_response: StartResponse) -> list[bytes]:
        if errors:
            raise errors.pop(0)
        start_response("201 Created", [("content-length", "2")])
        return [b"{}"]

    middleware = WsgiMiddleware(app, service.guard)
    return lambda **how: call(middleware, **how)


def everything(service: Guarded, ask: Callable[..., Reply], errors: list[Exception]) -> None:
    """Make as many kinds of events happen as requests can."""
    keyed = partial(ask, key=KEY, headers=HEADERS, body=BODY)
    errors.append(NoEffect())
    with pytest.raises(NoEffect):
        keyed()
    keyed()
    keyed()
    keyed(body=BODY + b" ,")
    service.store.plan(fail("claim", call=1), fail("record", call=1))
    keyed(key=KEY + "-2")
    keyed(key=KEY + "-3")
    service.guard.local_engine().deferred.drain(20)
    errors.append(ValueError("message of the exception"))
    with suppress(ValueError):
        # An ASGI server is told of it after the answer has left.
        keyed(key=KEY + "-4")
    keyed(key=KEY * 9)
    keyed(key=None)


@pytest.mark.parametrize("surface", [asgi, wsgi])
def test_no_event_and_no_log_line_holds_a_key_a_principal_a_credential_or_a_body(
    surface: Callable[..., Callable[..., Reply]], caplog: pytest.LogCaptureFixture
) -> None:
    """K8."""
    errors: list[Exception] = []
    logger = logging.getLogger("retrysafe")
    caplog.set_level(logging.DEBUG)
    sink = LoggingSink(logger)
    with guarded(principal=principal) as service:
        service.guard._sinks = (*service.guard._sinks, sink)
        everything(service, surface(service, errors), errors)
        told = "\n".join([*map(repr, service.events), *(str(record.__dict__) for record in caplog.records)])
    kinds = set(service.events.kinds)
    assert kinds == {
        "Claimed",
        "HandlerFailed",
        "Mismatched",
        "RecordDeferred",
        "Recorded",
        "Refused",
        "Released",
        "Replayed",
        "StoreFailed",
        "Unprotected",
    }
    assert [secret for secret in SECRETS if secret in told] == []


def every_kind() -> list[type[Event]]:
    found: list[type[Event]] = []
    waiting: list[type[Event]] = [Event]
    while waiting:
        kind = waiting.pop()
        waiting.extend(kind.__subclasses__())
        if kind not in {Event, events.OperationEvent}:
            found.append(kind)
    return sorted(found, key=lambda kind: kind.__name__)


@pytest.mark.parametrize("kind", every_kind())
def test_no_event_has_a_field_that_could_hold_one(kind: type[Event]) -> None:
    """K8."""
    names = {field.name for field in msgspec.structs.fields(kind)}
    assert names & {"key", "key_hint", "principal", "body", "headers", "request", "response", "outcome"} == set()
    assert kind.__doc__


def test_the_log_has_each_event_at_its_own_level_with_its_facts(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="retrysafe")
    sink = LoggingSink()
    sink(events.Claimed("POST /charges", "operation-1", 1, 7))
    sink(events.Parked("POST /charges", "operation-1", "a reason"))
    assert [record.levelno for record in caplog.records] == [logging.DEBUG, logging.WARNING]
    assert caplog.messages[0] == "Claimed name=POST /charges operation_id=operation-1 attempt=1 fence=7"
    assert caplog.records[1].retrysafe == {  # type: ignore[attr-defined]
        "event": "Parked",
        "name": "POST /charges",
        "operation_id": "operation-1",
        "reason": "a reason",
    }


def test_an_event_below_the_loggers_level_costs_no_text(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, logger="retrysafe")
    LoggingSink()(events.Claimed("POST /charges", "operation-1", 1, 7))
    assert caplog.messages == []
