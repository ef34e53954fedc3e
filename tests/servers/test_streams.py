"""Responses that are not kept: streamed, large, files. As they are for the first client, and never twice (S5)."""

from __future__ import annotations

from functools import partial

import pytest

from retrysafe import State
from retrysafe.stores.base import Query
from tests.servers.apps import steps as to
from tests.servers.apps.guards import SMALL
from tests.servers.case import Case, only, own_headers
from tests.servers.gates import Gates
from tests.servers.harness import ASGI, WSGI, Kind
from tests.servers.wire import Connection, Truncated

FILE = b"content of a file\n" * 10_000
LOCATED = [("Content-Type", "text/plain"), ("Location", "/things/1"), ("X-Twice", "one"), ("X-Twice", "two")]


def _newest(case: Case) -> State:
    (checkpoint,) = case.server.store.query(partial(case.server.store.verbs.listing, Query(limit=1)))
    return checkpoint.state


def _assert_done_and_not_kept(case: Case, path: str, status: int = 201) -> None:
    for _ in range(2):
        retry = case.retry(path)
        assert (retry.status, retry.code) == (409, "completed-not-replayable")
        assert (retry.json()["original_status"], retry.header("location")) == (status, "/things/1")
    assert case.effects == 1


def test_a_stream_leaves_as_it_comes_and_is_never_made_twice(case: Case, gates: Gates) -> None:
    """S5: the first part arrives while the second is not yet made."""
    gate = gates()
    steps = [case.effect, to.start(201, LOCATED), to.chunk("first;"), gate.step, to.chunk("second;"), to.end()]
    with case.begin(steps=steps) as connection:
        head = connection.head()
        pieces = connection.pieces(head)
        assert (head.status, head.values("x-twice")) == (201, ["one", "two"])
        assert next(pieces) == b"first;"
        gate.await_arrival()
        # It is durable that bytes have left, and a retry neither runs nor waits for ever.
        assert (_newest(case), case.send().code) == (State.STREAMING, "in-progress")
        gate.open()
        assert b"".join(pieces) == b"second;"
        assert _newest(case) is State.DONE
    _assert_done_and_not_kept(case, "/once/charges")


def test_a_stream_is_the_same_with_and_without_a_guard(case: Case) -> None:
    """S5: nothing but the claim is added."""
    steps = [to.start(200, LOCATED), to.chunk("one"), to.fill(100_000), to.chunk("two"), to.fill(1), to.end()]
    plain = case.send(steps=steps, more=[("X-Plain", "yes")])
    guarded = case.send(steps=steps)
    assert (guarded.status, guarded.body, guarded.headers_but_date) == (
        plain.status,
        plain.body,
        plain.headers_but_date,
    )


def test_a_response_beyond_the_limit_is_sent_and_not_kept(case: Case) -> None:
    """S5: with a length, in one piece."""
    body = "x" * (SMALL + 1)
    steps = [case.effect, to.respond(201, body, LOCATED)]
    first = case.send("/small/1", steps)
    assert (first.status, first.body, first.replayed) == (201, body.encode(), False)
    _assert_done_and_not_kept(case, "/small/1")


def test_a_response_at_the_limit_is_kept(case: Case) -> None:
    """S5."""
    steps = [case.effect, to.respond(201, "x" * SMALL, LOCATED)]
    assert [case.send("/small/1", steps).replayed for _ in range(2)] == [False, True]
    assert case.effects == 1


def test_a_response_with_a_length_beyond_the_limit_leaves_as_it_comes(case: Case, gates: Gates) -> None:
    """S5."""
    gate = gates()
    length = str(2 * SMALL)
    start = to.start(201, [*LOCATED, ("Content-Length", length)])
    steps = [case.effect, start, to.fill(SMALL), gate.step, to.fill(SMALL), to.end()]
    with case.begin("/small/1", steps) as connection:
        head = connection.head()
        pieces = connection.pieces(head)
        received = next(pieces)
        gate.let_through()
        received += b"".join(pieces)
    assert (head.values("content-length"), received) == ([length], b"x" * 2 * SMALL)
    _assert_done_and_not_kept(case, "/small/1")


def test_ten_megabytes_pass(case: Case) -> None:
    """S5."""
    size = 10_000_000
    steps = [case.effect, to.start(201, LOCATED), *[to.fill(size // 10)] * 10, to.end()]
    assert len(case.send(steps=steps).body) == size
    _assert_done_and_not_kept(case, "/once/charges")


def test_a_stream_that_is_declared_short_is_kept(case: Case) -> None:
    """S2: parts with a length within the limit are one response."""
    start = to.start(201, [*LOCATED, ("Content-Length", "6")])
    steps = [case.effect, start, to.chunk("one"), to.chunk("two"), to.end()]
    first, retry = case.send(steps=steps), case.send(steps=steps)
    assert (first.body, retry.body, retry.replayed, case.effects) == (b"onetwo", b"onetwo", True, 1)
    assert own_headers(retry) == own_headers(first)


def test_an_empty_stream_is_never_made_twice(case: Case) -> None:
    """S5."""
    steps = [case.effect, to.start(201, LOCATED), to.end()]
    assert (case.send(steps=steps).body, case.retry(steps=steps).status in {201, 409}, case.effects) == (b"", True, 1)


def test_the_application_may_make_the_response_again(case: Case) -> None:
    """S5, S4: the rebuild hook; cookies are stripped from what it makes as well."""
    body = "x" * (SMALL + 1)
    first = case.send("/rebuilt/1", [case.effect, to.respond(201, body, LOCATED)])
    retry = case.send("/rebuilt/1")
    assert (first.body, retry.status, retry.replayed, case.effects) == (body.encode(), 200, True, 1)
    assert (list(retry.json()), retry.header("set-cookie")) == (["rebuilt"], None)


@pytest.mark.parametrize("status", [200, 404, 503])
def test_a_stream_is_recorded_whatever_its_status(case: Case, status: int) -> None:
    """S2, S5."""
    steps = [case.effect, to.start(status, LOCATED), to.chunk("one"), to.end()]
    assert case.send(steps=steps).status == status
    _assert_done_and_not_kept(case, "/once/charges", status)


def test_a_streamed_failure_frees_a_repeatable_operation(case: Case) -> None:
    """S3, S5."""
    steps = [case.effect, to.start(503), to.chunk("not "), to.chunk("now"), to.end()]
    assert case.send("/again/1", steps).body == b"not now"
    assert (case.send("/again/1").replayed, case.effects) == (False, 2)


def test_a_stream_that_breaks_is_never_made_twice(case: Case) -> None:
    """S5: mode ``once``; the client sees that it broke, and its retry that it was done."""
    steps = [case.effect, to.start(201, LOCATED), to.chunk("one"), to.fail()]
    with case.begin(steps=steps) as connection:
        assert _read_as_far_as_it_goes(connection) == b"one"
    _assert_done_and_not_kept(case, "/once/charges")


def test_a_stream_that_breaks_is_made_again_where_that_is_harmless(case: Case) -> None:
    """S5: mode ``again``; at once, not after a lease."""
    steps = [case.effect, to.start(201, LOCATED), to.chunk("one"), to.fail()]
    with case.begin("/again/1", steps) as connection:
        assert _read_as_far_as_it_goes(connection) == b"one"
    retry = case.retry("/again/1")
    assert (retry.status, retry.replayed, case.effects) == (201, False, 2)


def _read_as_far_as_it_goes(connection: Connection) -> bytes:
    """Read a response that breaks off."""
    received = b""
    try:
        for piece in connection.pieces(connection.head()):
            received += piece
    except (Truncated, ConnectionResetError):
        pass
    return received


@only(ASGI)
def test_background_work_follows_a_stream_once(case: Case, gates: Gates) -> None:
    """S7, S5."""
    gate = gates()
    steps = [to.start(201, LOCATED), to.chunk("one"), to.end(), gate.step, case.effect, gate.step]
    with case.begin(steps=steps) as connection:
        assert connection.reply().body == b"one"
        gate.await_arrival()
        assert (case.effects, case.send().code) == (0, "completed-not-replayable")
        gate.open()
        gate.let_through()
    assert case.effects == 1


@only([Kind.GRANIAN, *WSGI])
def test_a_file_that_the_server_sends_is_not_kept(case: Case) -> None:
    """S5: ``http.response.pathsend`` and ``wsgi.file_wrapper``."""
    file = case.server.directory / "a-file"
    file.write_bytes(FILE)
    steps = [case.effect, *([to.start(200)] if case.server.kind.asgi else []), ["path", str(file)]]
    plain = case.send(steps=steps, more=[("X-Plain", "yes")])
    first = case.send(steps=steps)
    assert (plain.body, first.status, first.body) == (FILE, plain.status, FILE)
    assert (case.retry(steps=steps).code, case.effects) == ("completed-not-replayable", 2)


@only(ASGI)
def test_a_file_response_is_the_same_with_and_without_a_guard(case: Case) -> None:
    """S5, S2: it has a length, so that it is kept where the application itself reads the file."""
    plain = case.send("/starlette/file", more=[("X-Plain", "yes")])
    first = case.send("/starlette/file")
    assert len(first.body) > 100_000
    assert (first.status, first.body, first.headers_but_date) == (plain.status, plain.body, plain.headers_but_date)
    retry = case.send("/starlette/file")
    if case.server.kind is Kind.GRANIAN:
        assert retry.code == "completed-not-replayable"
    else:
        assert (retry.replayed, retry.body) == (True, first.body)
    assert case.effects == 2
