"""FastAPI, Starlette and Flask as their documentation teaches them (S2, S5, S7, C22 of the matrix)."""

from __future__ import annotations

import json

import pytest

from tests.servers.case import Case, only
from tests.servers.gates import Gates
from tests.servers.harness import ASGI, WSGI

PREFIXES = pytest.mark.parametrize("prefix", ["starlette", "inside", "outside"])


@only(ASGI)
def test_a_fastapi_route_runs_once_and_its_background_task_too(case: Case) -> None:
    """S2, S7."""
    first, retry = case.send("/fastapi/charges"), case.send("/fastapi/charges")
    assert (first.status, first.json(), first.replayed) == (201, {"charged": 100}, False)
    assert (retry.status, retry.body, retry.replayed) == (201, first.body, True)
    assert (case.effects, case.server.effects(f"{case.label} afterwards")) == (1, 1)


@only(ASGI)
def test_what_fastapi_refuses_is_an_outcome(case: Case) -> None:
    """S2: in mode ``once`` a 422 of the validation is an answer like another, and so is an ``HTTPException``."""
    invalid = [case.send("/fastapi/charges", body=b'{"amount": -1}') for _ in range(2)]
    assert [(reply.status, reply.replayed) for reply in invalid] == [(422, False), (422, True)]
    key = f"{case.key}-2"
    refused = [case.send("/fastapi/refused", key=key) for _ in range(2)]
    assert [(reply.status, reply.replayed) for reply in refused] == [(402, False), (402, True)]
    assert (refused[1].json()["detail"]["reason"], case.effects) == ("no money", 1)


@only(ASGI)
def test_a_fastapi_route_that_answers_nothing_is_replayed(case: Case) -> None:
    """S2: 204."""
    replies = [case.send("/fastapi/charges/7", method="DELETE", body=None) for _ in range(2)]
    assert [(reply.status, reply.replayed, reply.body) for reply in replies] == [(204, False, b""), (204, True, b"")]
    assert case.effects == 1


@only(ASGI)
def test_a_fastapi_route_that_breaks_is_recorded(case: Case) -> None:
    """Mode ``once``."""
    replies = [case.send("/fastapi/broken") for _ in range(2)]
    assert [(reply.status, reply.code, reply.replayed) for reply in replies] == [
        (500, "operation-failed", False),
        (500, "operation-failed", True),
    ]
    assert (case.effects, b"secret-detail" in replies[0].body) == (1, False)


@only(ASGI)
@PREFIXES
@pytest.mark.parametrize("what", ["stream", "sync_stream", "events"])
def test_a_starlette_stream_arrives_whole_and_is_made_once(case: Case, prefix: str, what: str) -> None:
    """S5: with a ``BaseHTTPMiddleware`` on either side of the guard, or none."""
    path = f"/{prefix}/{what}"
    plain = case.send(path, more=[("X-Plain", "yes")])
    first = case.send(path)
    assert len(first.body) > 30
    assert (first.status, first.body, first.headers_but_date) == (plain.status, plain.body, plain.headers_but_date)
    for _ in range(2):
        retry = case.retry(path)
        assert (retry.status, retry.code, retry.json()["original_status"]) == (409, "completed-not-replayable", 200)
    # One without the guard, one with it.
    assert case.effects == 2


@only(ASGI)
@PREFIXES
def test_a_starlette_stream_leaves_as_it_comes(case: Case, gates: Gates, prefix: str) -> None:
    """S5."""
    gate = gates()
    with case.begin(f"/{prefix}/stream", more=[("X-Gate", gate.path)]) as connection:
        pieces = connection.pieces(connection.head())
        assert next(pieces) == b"first;"
        gate.let_through()
        assert b"".join(pieces) == b"part 0;part 1;part 2;part 3;"
    assert case.effects == 1


@only(ASGI)
@PREFIXES
def test_a_starlette_background_task_runs_once_and_after_the_answer(case: Case, gates: Gates, prefix: str) -> None:
    """S7."""
    gate, path = gates(), f"/{prefix}/later"
    with case.begin(path, more=[("X-Gate", gate.path)]) as connection:
        assert connection.reply().status == 202
        gate.await_arrival()
        assert case.send(path).replayed
        gate.open()
    assert case.retry(path).replayed
    assert (case.effects, gate.has_visitor) == (1, False)


@only(ASGI)
@PREFIXES
def test_starlette_cookies_are_set_once(case: Case, prefix: str) -> None:
    """S4."""
    first, retry = case.send(f"/{prefix}/cookies"), case.send(f"/{prefix}/cookies")
    assert [len(reply.values("set-cookie")) for reply in (first, retry)] == [2, 0]
    assert (retry.body, retry.replayed, case.effects) == (first.body, True, 1)


@only(ASGI)
@PREFIXES
def test_a_starlette_handler_is_not_told_that_its_client_has_gone(case: Case, prefix: str) -> None:
    """S1: ``request.is_disconnected()`` in a guarded request."""
    assert case.send(f"/{prefix}/listening").json() == {"disconnected": False}


@only(WSGI)
def test_a_flask_view_runs_once(case: Case) -> None:
    """S2."""
    first, retry = case.send("/flask/charges"), case.send("/flask/charges")
    assert (first.status, json.loads(first.body), retry.replayed) == (201, {"charged": 100}, True)
    assert (retry.body, case.effects) == (first.body, 1)


@only(WSGI)
def test_a_flask_view_that_answers_nothing_is_replayed(case: Case) -> None:
    """S2: 204."""
    replies = [case.send("/flask/charges/7", method="DELETE") for _ in range(2)]
    assert [(reply.status, reply.replayed, reply.body) for reply in replies] == [(204, False, b""), (204, True, b"")]
    assert case.effects == 1


@only(WSGI)
@pytest.mark.parametrize("path", ["/flask/refused", "/flask/broken"])
def test_what_flask_answers_to_an_exception_is_an_outcome(case: Case, path: str) -> None:
    """S2: Flask makes a response of it before the guard sees it."""
    first, retry = case.send(path), case.send(path)
    assert first.status in {402, 500}
    assert (retry.status, retry.body, retry.replayed, case.effects) == (first.status, first.body, True, 1)


@only(WSGI)
def test_a_flask_stream_leaves_as_it_comes_and_is_made_once(case: Case, gates: Gates) -> None:
    """S5: in its request's context."""
    gate = gates()
    with case.begin("/flask/stream", more=[("X-Gate", gate.path)]) as connection:
        pieces = connection.pieces(connection.head())
        assert next(pieces) == b"first;"
        gate.let_through()
        assert b"".join(pieces) == b"after /flask/stream;"
    retry = case.retry("/flask/stream")
    assert (retry.code, retry.header("location"), case.effects) == ("completed-not-replayable", "/things/1", 1)


@only(WSGI)
def test_a_flask_file_is_the_same_with_and_without_a_guard(case: Case) -> None:
    """S2: it has a length."""
    plain = case.send("/flask/file", more=[("X-Plain", "yes")])
    first, retry = case.send("/flask/file"), case.send("/flask/file")
    assert (first.body, first.headers_but_date) == (plain.body, plain.headers_but_date)
    assert (retry.body, retry.replayed, case.effects) == (first.body, True, 2)


@only(WSGI)
def test_flask_cookies_are_set_once(case: Case) -> None:
    """S4."""
    first, retry = case.send("/flask/cookies"), case.send("/flask/cookies")
    assert [len(reply.values("set-cookie")) for reply in (first, retry)] == [2, 0]
    assert (retry.body, retry.replayed, case.effects) == (first.body, True, 1)
