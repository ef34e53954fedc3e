"""Clients that go away, and middlewares that give up, at every await point: the operation goes on (S1, C7)."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial

import pytest

from retrysafe import State
from retrysafe.stores.base import Query
from tests.servers.apps import steps as to
from tests.servers.case import Case, only
from tests.servers.gates import Gates
from tests.servers.harness import ASGI, WSGI
from tests.servers.locks import locked
from tests.servers.wire import PATIENCE_SECONDS

PATHS = pytest.mark.parametrize("path", ["/once/charges", "/again/1"])


def stalled_writes(case: Case) -> AbstractContextManager[None]:
    """Let every write of the store wait, for less than it waits at most."""
    return locked(case.server.directory / "store.db")


def assert_done_once(case: Case, path: str, body: bytes = b"made") -> None:
    """A retry gets the outcome of the attempt whose client has gone."""
    retry = case.retry(path)
    assert (retry.status, retry.body, retry.replayed, case.effects) == (201, body, True, 1)


def newest(case: Case) -> tuple[str, State] | None:
    """Return the newest operation and its state."""
    listed = case.server.store.query(partial(case.server.store.verbs.listing, Query(limit=1)))
    return (listed[0].operation_id, listed[0].state) if listed else None


def wait_until(holds: Callable[[], bool]) -> None:
    """Look again and again, for what nobody tells us."""
    give_up_at = time.monotonic() + PATIENCE_SECONDS
    while not holds():
        assert time.monotonic() < give_up_at
        time.sleep(0.002)


@PATHS
def test_a_client_that_goes_while_its_key_is_claimed(case: Case, gates: Gates, path: str) -> None:
    """S1: what was asked completely is done."""
    gate = gates()
    asked = [("X-Asked", f"{case.label} asked")]
    with stalled_writes(case), case.begin(path, [gate.step, case.effect, to.respond()], more=asked) as connection:
        wait_until(lambda: case.server.effects(f"{case.label} asked") == 1)
        connection.abort()
    gate.let_through()
    assert_done_once(case, path)


@PATHS
def test_a_client_that_goes_in_the_middle_of_its_operation(case: Case, gates: Gates, path: str) -> None:
    """S1."""
    gate = gates()
    with case.begin(path, [gate.step, case.effect, to.respond()]) as connection:
        gate.await_arrival()
        connection.abort()
    gate.open()
    assert_done_once(case, path)


@PATHS
def test_a_retry_meets_the_operation_of_a_client_that_has_gone(case: Case, gates: Gates, path: str) -> None:
    """S1, C1: it is neither free nor stuck."""
    gate = gates()
    with case.begin(path, [gate.step, case.effect, to.respond()]) as connection:
        gate.await_arrival()
        connection.abort()
    assert case.send(path).code == "in-progress"
    gate.open()
    assert_done_once(case, path)


@PATHS
def test_a_client_that_goes_while_its_outcome_is_recorded(case: Case, gates: Gates, path: str) -> None:
    """S1: the write survives."""
    gate = gates()
    with case.begin(path, [case.effect, gate.step, to.respond()]) as connection:
        gate.await_arrival()
        with stalled_writes(case):
            gate.open()
            connection.abort()
    assert_done_once(case, path)


@PATHS
def test_a_client_that_goes_before_it_hears_the_answer(case: Case, path: str) -> None:
    """S1: larger than what the network holds, so that the server is stopped in the middle of sending."""
    body = "x" * 1_000_000
    start = to.start(201, [("Content-Length", str(len(body)))])
    steps = [case.effect, start, to.fill(len(body)), to.end()]
    before = newest(case)
    with case.begin(path, steps, receive_buffer=4096) as connection:
        wait_until(lambda: (now := newest(case)) not in {None, before} and now[1] is State.DONE)
        connection.abort()
    assert_done_once(case, path, body.encode())


@PATHS
def test_a_client_that_goes_in_the_middle_of_a_stream(case: Case, gates: Gates, path: str) -> None:
    """S1, S5: the stream is made to its end, and never a second time."""
    gate = gates()
    steps = [to.start(201), to.chunk("first;"), gate.step, *[to.fill(100_000)] * 5, case.effect, to.end()]
    with case.begin(path, steps) as connection:
        assert next(connection.pieces(connection.head())) == b"first;"
        gate.await_arrival()
        connection.abort()
    gate.open()
    retry = case.retry(path)
    assert (retry.status, retry.code, case.effects) == (409, "completed-not-replayable", 1)


@only(ASGI)
@pytest.mark.parametrize("prefix", ["starlette", "inside", "outside"])
def test_a_client_that_goes_in_the_middle_of_a_streaming_response(case: Case, gates: Gates, prefix: str) -> None:
    """S1, S5: Starlette's own, with a ``BaseHTTPMiddleware`` on either side of the guard."""
    gate, path = gates(), f"/{prefix}/stream"
    with case.begin(path, more=[("X-Gate", gate.path)]) as connection:
        assert next(connection.pieces(connection.head())) == b"first;"
        gate.await_arrival()
        connection.abort()
    gate.open()
    retry = case.retry(path)
    assert (retry.status, retry.code, retry.header("location")) == (409, "completed-not-replayable", "/things/1")
    assert case.effects == 1


@only(ASGI)
@pytest.mark.parametrize("prefix", ["starlette", "inside", "outside"])
def test_a_client_that_goes_before_background_work(case: Case, gates: Gates, prefix: str) -> None:
    """S1, S7: it is done all the same, once."""
    gate, path = gates(), f"/{prefix}/later"
    with case.begin(path, more=[("X-Gate", gate.path)]) as connection:
        assert connection.reply().status == 202
        gate.await_arrival()
        connection.abort()
    gate.open()
    assert (case.retry(path).replayed, case.effects) == (True, 1)
    wait_until(lambda: case.server.effects(f"{case.label} afterwards") == 1)


def test_a_client_that_waits_and_goes_does_no_harm(case: Case, gates: Gates) -> None:
    """S9, S1."""
    gate = gates()
    with case.begin(steps=[gate.step, case.effect, to.respond()]) as first:
        gate.await_arrival()
        with case.begin(more=[("Prefer", "wait=10")]) as waiting:
            waiting.abort()
        gate.open()
        assert first.reply().body == b"made"
    assert_done_once(case, "/once/charges")


@only(ASGI)
@PATHS
def test_a_middleware_outside_that_gives_up_stops_nothing(case: Case, gates: Gates, path: str) -> None:
    """S1, C7: it cancels the request, and not the operation."""
    gate = gates()
    with case.begin(path, [gate.step, case.effect, to.respond()], more=[("X-Patience", "0.05")]) as connection:
        gate.await_arrival()
        assert connection.reply().status == 504
    gate.open()
    assert_done_once(case, path)


@only(ASGI)
@PATHS
def test_a_middleware_outside_that_gives_up_at_once_does_no_harm(case: Case, path: str) -> None:
    """S1, C7: before the claim or after it, wherever the server suspends first."""
    steps = [case.effect, to.respond()]
    assert case.send(path, steps, more=[("X-Patience", "0")]).status == 504
    assert (case.retry(path, steps).status, case.retry(path).replayed, case.effects) == (201, True, 1)


@only(ASGI)
def test_a_middleware_outside_that_gives_up_while_the_outcome_is_recorded(case: Case, gates: Gates) -> None:
    """S1."""
    gate = gates()
    request = case.begin(steps=[case.effect, gate.step, to.respond()], more=[("X-Patience", "0.2")])
    with request as connection:
        gate.await_arrival()
        with stalled_writes(case):
            gate.open()
            assert connection.reply().status == 504
    assert_done_once(case, "/once/charges")


@only(WSGI)
def test_a_streaming_view_ends_though_its_client_has_gone(case: Case, gates: Gates) -> None:
    """S1, S5: Flask's own stream, in its request's context."""
    gate = gates()
    with case.begin("/flask/stream", more=[("X-Gate", gate.path)]) as connection:
        assert next(connection.pieces(connection.head())) == b"first;"
        gate.await_arrival()
        connection.abort()
    gate.open()
    retry = case.retry("/flask/stream")
    assert (retry.code, retry.header("location"), case.effects) == ("completed-not-replayable", "/things/1", 1)
