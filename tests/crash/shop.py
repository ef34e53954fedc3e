"""The application that is killed: a shop whose effects are lines of a ledger, as ASGI and as WSGI.

It runs in child processes only. What it is to do comes as JSON in the environment; see ``tests/crash/processes.py``.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from retrysafe import Call, Event, HttpRequest, LoggingSink, Operation, Probe, RetrySafe, current_operation, retry
from retrysafe.adapters.asgi import RetrySafeMiddleware
from retrysafe.adapters.wsgi import RetrySafeMiddleware as WsgiMiddleware
from retrysafe.runtime.operations import PARK
from retrysafe.stores.urls import open_store
from retrysafe.testing.faults import FaultyStore, kill
from tests.crash.effects import INSERT_EFFECT, bindings
from tests.crash.settings import ENVIRONMENT, Settings

if TYPE_CHECKING:
    from retrysafe.adapters.asgi.types import Receive, Scope, Send
    from retrysafe.adapters.wsgi.types import Environ, StartResponse

SETTINGS = Settings.read(os.environ[ENVIRONMENT])
DIRECTORY = Path(SETTINGS.directory)
USERS = {"Bearer alice-s3cr3t": "alice", "Bearer bob-s3cr3t": "bob"}
LOOK_EVERY_SECONDS = 0.01


def _append(name: str, line: str) -> None:
    """Add a line to a file so that nothing but the loss of the disk undoes it."""
    file = os.open(DIRECTORY / name, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(file, f"{line}\n".encode())
    os.fsync(file)
    os.close(file)


def _operation() -> Operation:
    operation = current_operation()
    assert operation is not None
    return operation


def _effect(user: str, key: str = "") -> Operation:
    """Do what must not be done twice; a service that honours keys does nothing for one that it knows."""
    operation = _operation()
    entry = {
        "operation": operation.id,
        "attempt": operation.attempt,
        "recovering": operation.recovering,
        "pid": os.getpid(),
        "user": user,
        "key": key,
    }
    if not key or not _find(key):
        _append("ledger", json.dumps(entry))
    return operation


def _find(key: str) -> bool:
    ledger = DIRECTORY / "ledger"
    return ledger.exists() and f'"key": "{key}"' in ledger.read_text()


# What the effect of a step is, and how it is found out whether it happened.


async def _charge(call: Call, user: str, path: str) -> str:
    operation = _effect(user, call.key if SETTINGS.step == "retry" else "")
    if operation.attempt == 1:
        if path == "/dies":
            _die()
        if path == "/held":
            await _await()
    return "charged"


async def _found(call: Call, user: str, path: str) -> object:
    ledger = DIRECTORY / "ledger"
    return "charged" if ledger.exists() and ledger.read_text() else Probe.NOT_HAPPENED


def _insert(connection: Any, user: str, path: str) -> str:
    """Have the effect in the application's own database."""
    with closing(connection.cursor()) as cursor:
        cursor.execute(INSERT_EFFECT)
    if _operation().attempt == 1:
        if path == "/dies":
            _die()
        if path == "/held":
            _append("waiting", user)
            _wait()
    return "inserted"


_UNKNOWN: dict[str, Any] = {"retry": retry(key_retention=timedelta(days=1)), "probe": Probe(_found), "park": PARK}


async def _do(user: str, path: str) -> Operation:
    """Have the effect in the way of the mode."""
    operation = _operation()
    match SETTINGS.mode, SETTINGS.step:
        case "steps", "local":
            await operation.local(_insert, user, path)
        case "steps", kind:
            await operation.step(_charge, user, path, unknown=_UNKNOWN[kind])
        case "transaction", _:
            await asyncio.to_thread(_insert, operation.session, user, path)
        case _:
            _effect(user)
            if operation.attempt == 1 and path == "/dies":
                _die()
    return operation


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _wait() -> None:
    """Block until the gate, a file, is there."""
    while not (DIRECTORY / "gate").exists():
        time.sleep(LOOK_EVERY_SECONDS)


async def _await() -> None:
    """Suspend until the gate is there."""
    while not (DIRECTORY / "gate").exists():  # noqa: ASYNC110 - the gate is a file
        await asyncio.sleep(LOOK_EVERY_SECONDS)


def _note(event: Event) -> None:
    _append(f"events-{os.getpid()}", f"{type(event).__name__} {event!r}")
    if type(event).__name__ == SETTINGS.dies_at_event:
        _die()


def _who(user: Callable[[Any], str | None], request: HttpRequest) -> str | None:
    return user(request.native)


def _guard(user: Callable[[Any], str | None], restore: Callable[[Any, str], None]) -> RetrySafe:
    logging.basicConfig(level=logging.DEBUG)
    faults = [kill(verb, when=cast("Any", when), call=call) for verb, when, call in SETTINGS.faults]
    store = FaultyStore(open_store(SETTINGS.store_url), *faults)
    lease = timedelta(seconds=SETTINGS.lease_seconds)
    guard = RetrySafe(
        store,
        principal=partial(_who, user),
        restore_principal=restore if SETTINGS.restores else None,
        sinks=[_note, LoggingSink()],
        transactions=bindings(SETTINGS.store_url),
        scan=None if SETTINGS.scan_seconds is None else timedelta(seconds=SETTINGS.scan_seconds),
        drain=timedelta(seconds=SETTINGS.drain_seconds),
    )
    guard.protect(
        "POST /*",
        name="shop",
        mode=SETTINGS.mode,
        lease=lease,
        max_duration=10 * lease,
        attempts=SETTINGS.attempts,
        step_timeout=timedelta(seconds=1),
        retention=timedelta(seconds=SETTINGS.kept_seconds),
        tombstone=timedelta(seconds=SETTINGS.kept_seconds),
    )
    if SETTINGS.opens_early:
        guard.engine()
    return guard


# As ASGI.


async def _shop(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "lifespan":
        await _lifespan(receive, send)
        return
    while (await receive()).get("more_body"):
        pass
    user = scope.get("user")
    if user is None:
        await _respond(send, 401, {"error": "who are you?"})
        return
    operation = await _do(user, scope["path"])
    match scope["path"]:
        case "/held" if operation.attempt == 1 and SETTINGS.mode in {"once", "again"}:
            await _await()
        case "/held-twice" if operation.attempt <= 2:
            await _await()
        case "/blocking" if operation.attempt == 1:
            _wait()
        case "/threaded" if operation.attempt == 1:
            await asyncio.to_thread(_wait)
        case "/flaky" if operation.attempt == 1:
            await _await()
            await _respond(send, 503, {"error": "try again"})
            return
        case "/deadly":
            _die()
        case "/stream":
            await _stream(send, operation)
            return
        case _:
            pass
    await _respond(send, 201, {"by": operation.attempt})


async def _lifespan(receive: Receive, send: Send) -> None:
    for moment in ("startup", "shutdown"):
        assert (await receive())["type"] == f"lifespan.{moment}"
        await send({"type": f"lifespan.{moment}.complete"})


async def _respond(send: Send, status: int, content: object) -> None:
    body = json.dumps(content).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _stream(send: Send, operation: Operation) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    for number in range(3):
        await send({"type": "http.response.body", "body": b"part %d\n" % number, "more_body": True})
        if operation.attempt == 1:
            _die()
    await send({"type": "http.response.body", "body": b""})


def asgi() -> Any:
    """The shop with authentication outside of the guard."""
    guarded = RetrySafeMiddleware(_shop, _guard(lambda scope: scope.get("user"), _restore_scope))

    async def authenticating(scope: Scope, receive: Receive, send: Send) -> None:
        for name, value in scope.get("headers", ()):
            if name == b"authorization":
                scope["user"] = USERS.get(value.decode())
        await guarded(scope, receive, send)

    return authenticating


def _restore_scope(scope: Scope, principal: str) -> None:
    if SETTINGS.restores == "rightly":
        scope["user"] = principal


# As WSGI.


def _wsgi_shop(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    user = environ.get("shop.user")
    if user is None:
        return _wsgi_respond(start_response, "401 Unauthorized", {"error": "who are you?"})
    operation = _effect(user)
    match environ["PATH_INFO"]:
        case "/held" | "/blocking" if operation.attempt == 1:
            _wait()
        case "/deadly":
            _die()
        case "/stream":
            start_response("200 OK", [("Content-Type", "text/plain")])
            return _wsgi_stream(operation)
        case _:
            pass
    return _wsgi_respond(start_response, "201 Created", {"by": operation.attempt})


def _wsgi_respond(start_response: StartResponse, status: str, content: object) -> Iterable[bytes]:
    body = json.dumps(content).encode()
    start_response(status, [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]


def _wsgi_stream(operation: Operation) -> Iterator[bytes]:
    for number in range(3):
        yield b"part %d\n" % number
        if operation.attempt == 1:
            _die()


def wsgi() -> Any:
    """The same shop for threads."""
    guarded = WsgiMiddleware(_wsgi_shop, _guard(lambda environ: environ.get("shop.user"), _restore_environ))

    def authenticating(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        environ["shop.user"] = USERS.get(environ.get("HTTP_AUTHORIZATION", ""))
        return guarded(environ, start_response)

    return authenticating


def _restore_environ(environ: Environ, principal: str) -> None:
    if SETTINGS.restores == "rightly":
        environ["shop.user"] = principal
