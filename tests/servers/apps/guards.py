"""The guards under which the applications run: one for nearly everything, and those whose store can be taken away."""

from __future__ import annotations

import threading
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING

from retrysafe import SHARED, Event, HttpRequest, Response, RetrySafe
from tests.servers.apps.steps import DIRECTORY, mark

if TYPE_CHECKING:
    from retrysafe import Checkpoint

SMALL = 1024
"""Limit in bytes of the requests and responses under ``/small``."""
TOKENS = {"Bearer alice-1": "alice", "Bearer alice-2": "alice", "Bearer bob-1": "bob"}
_MOMENT = timedelta(microseconds=1)
_HOUR = timedelta(hours=1)
_lock = threading.Lock()


def _principal(request: HttpRequest) -> str | None:
    """Tell who calls; tokens may rotate, the principal stays (K5)."""
    token = request.header("authorization") or ""
    asked = request.header("x-asked")
    if asked is not None:
        mark(asked)
    if token == "Bearer broken":
        message = "the session store is down, secret-detail"
        raise RuntimeError(message)
    return TOKENS.get(token)


def _authorize_replay(request: HttpRequest, _: Checkpoint) -> bool:
    return request.header("x-revoked") is None


def _rebuild(request: HttpRequest, checkpoint: Checkpoint) -> Response | None:
    if not request.path.startswith(b"/rebuilt"):
        return None
    return Response(200, {"rebuilt": checkpoint.operation_id}, {"Set-Cookie": "session=rebuilt"})


def _note(event: Event) -> None:
    """Write an event where the tests can read it."""
    with _lock, (DIRECTORY / "events").open("a") as log:
        log.write(f"{event!r}\n")


_guard = partial(RetrySafe, principal=_principal, sinks=[_note], drain=timedelta(seconds=1))


def make_guard() -> RetrySafe:
    """Guard nearly everything."""
    guard = _guard(f"sqlite:///{DIRECTORY}/store.db", authorize_replay=_authorize_replay, rebuild=_rebuild)
    guard.exempt("* /exempt/*")
    guard.protect("POST,PUT,DELETE /again/*", name="again", mode="again", lease=_HOUR, max_duration=_HOUR)
    guard.protect("POST,PUT,PATCH,DELETE /once/*", name="once", lease=_HOUR, max_duration=_HOUR)
    guard.protect("POST /released/*", name="released", release_on=frozenset({402, 429}))
    guard.protect("POST /required/{thing}", name="required", require_key=True)
    guard.protect("POST /small/*", name="small", request_limit=SMALL, response_limit=SMALL)
    guard.protect("POST /rebuilt/*", name="rebuilt", response_limit=SMALL)
    guard.protect("POST /waits/*", name="waits", on_conflict="wait")
    guard.protect("POST /expires/*", name="expires", retention=_MOMENT)
    guard.protect("POST /forgets/*", name="forgets", retention=_MOMENT, tombstone=_MOMENT)
    return guard


def make_brief_guard() -> RetrySafe:
    """Guard with a store of its own that gives up soon when it is locked, or gone."""
    (DIRECTORY / "brief").mkdir(exist_ok=True)
    guard = _guard(f"sqlite:///{DIRECTORY}/brief/store.db?busy_timeout=50ms")
    guard.protect("POST /brief/open/*", name="brief-open", fail_open=True)
    guard.protect("POST /brief/again/*", name="brief-again", mode="again")
    return guard


def make_storeless_guard() -> RetrySafe:
    """Guard with a store that was never there."""
    guard = _guard(f"sqlite:///{DIRECTORY}/nowhere/store.db")
    guard.protect("POST /storeless/open/*", name="storeless-open", fail_open=True)
    return guard


def make_shared_guard() -> RetrySafe:
    """Guard for a single caller."""
    return _guard(f"sqlite:///{DIRECTORY}/store.db", principal=SHARED, namespace="shared")
