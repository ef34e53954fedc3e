"""Connections that are used again: an early answer never leaves half a request behind (E, S8)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from tests.servers.apps import steps as to
from tests.servers.case import Case, only
from tests.servers.harness import KEEP_ALIVE, Kind
from tests.servers.wire import chunked_request

if TYPE_CHECKING:
    from tests.servers.wire import Reply


class Early(NamedTuple):
    """A request that is answered before its operation could run."""

    status: int
    request: dict[str, Any]


# Each with a body that looks like a request, should anybody take it for one.
BODY = b"GET /once/smuggled HTTP/1.1\r\nHost: shop.test\r\n\r\n" * 8
EARLY = {
    "malformed key": Early(400, {"key": "a b"}),
    "two keys": Early(400, {"more": [("Tracking-Id", "another")]}),
    "missing key": Early(400, {"path": "/required/1", "key": None}),
    "nobody": Early(401, {"token": None}),
    "too large": Early(413, {"path": "/small/1", "body": BODY * 4}),
    "no store": Early(503, {"path": "/storeless/1"}),
}


def _closes(reply: Reply) -> bool:
    return (reply.header("connection") or "").lower() == "close"


@only(KEEP_ALIVE)
@pytest.mark.parametrize("early", EARLY.values(), ids=EARLY)
def test_a_connection_serves_the_next_request_after_an_early_answer(case: Case, early: Early) -> None:
    """§E: what was not read is drained, so that it is not taken for the next request."""
    with case.begin(**{"body": BODY, **early.request}) as connection:
        assert connection.reply().status == early.status
        for replayed in (False, True):
            connection.send(case.request(body=b"{}"))
            reply = connection.reply()
            assert (reply.status, reply.replayed) == (201, replayed)
    assert case.effects == 1


@only(KEEP_ALIVE)
@pytest.mark.parametrize("early", EARLY.values(), ids=EARLY)
def test_requests_may_follow_without_waiting_for_an_early_answer(case: Case, early: Early) -> None:
    """§E: pipelining."""
    with case.begin(**{"body": BODY, **early.request}) as connection:
        connection.send(case.request(body=b"{}") + case.request(body=b"{}") + case.request(method="GET", body=None))
        replies = [connection.reply() for _ in range(4)]
    assert [(reply.status, reply.replayed) for reply in replies] == [
        (early.status, False),
        (201, False),
        (201, True),
        (201, False),
    ]
    # The guarded one, and the one that only reads.
    assert case.effects == 2


@only(KEEP_ALIVE)
@pytest.mark.parametrize("early", [EARLY["malformed key"], EARLY["too large"]], ids=["malformed key", "too large"])
def test_a_body_without_a_length_is_drained_as_well(case: Case, early: Early) -> None:
    """§E, S8."""
    asked = dict(early.request)
    path = asked.pop("path", "/once/charges")
    asked.pop("body", None)
    with case.server.connect() as connection:
        connection.send(chunked_request("POST", path, case.headers(**asked), [BODY] * 4))
        assert connection.reply().status == early.status
        connection.send(case.request(body=b"{}"))
        assert connection.reply().status == 201
    assert case.effects == 1


@only(KEEP_ALIVE)
def test_first_answers_replays_and_conflicts_leave_a_connection_usable(case: Case) -> None:
    """S2, F1."""
    with case.begin() as connection:
        assert connection.reply().status == 201
        for body, status in ((None, 422), (b"{}", 422), (b'{"x": 1}', 422)):
            connection.send(case.request(body=body))
            assert connection.reply().status == status
        connection.send(case.request())
        assert connection.reply().replayed
    assert case.effects == 1


@only(KEEP_ALIVE)
@pytest.mark.parametrize("status", [204, 304])
def test_an_answer_without_a_body_leaves_a_connection_usable(case: Case, status: int) -> None:
    """S2."""
    steps = [case.effect, ["bodyless", status]]
    with case.begin(method="DELETE", steps=steps) as connection:
        replies = [connection.reply("DELETE")]
        for _ in range(2):
            connection.send(case.request(method="DELETE", steps=steps))
            replies.append(connection.reply("DELETE"))
    assert [(reply.status, reply.replayed, reply.body) for reply in replies] == [
        (status, False, b""),
        (status, True, b""),
        (status, True, b""),
    ]
    assert case.effects == 1


@only(KEEP_ALIVE)
def test_a_head_request_gets_no_body_and_leaves_a_connection_usable(case: Case) -> None:
    """S8: nothing that reads is touched."""
    with case.begin(method="HEAD", body=None, steps=[to.respond(200, "a body")]) as connection:
        head = connection.reply("HEAD")
        assert (head.status, head.header("content-length"), head.body) == (200, "6", b"")
        connection.send(case.request())
        assert connection.reply().status == 201


@only(KEEP_ALIVE)
def test_a_retry_behind_its_first_attempt_on_one_connection_is_a_retry(case: Case) -> None:
    """K9: servers start the next request inside the ``send`` of the one before, and in its context."""
    with case.begin() as connection:
        connection.send(case.request() * 3)
        replies = [connection.reply() for _ in range(4)]
    assert [(reply.status, reply.replayed) for reply in replies] == [(201, False)] + [(201, True)] * 3
    assert case.effects == 1


@only(KEEP_ALIVE)
@pytest.mark.parametrize("size", [70_000, 300_000])
def test_a_retry_with_a_large_body_on_one_connection_is_a_retry(case: Case, size: int) -> None:
    """K9: servers stop reading and begin again inside a request, and keep its context for the next ones."""
    with case.server.connect() as connection:
        for replayed in (False, True, True):
            connection.send(case.request(body=b"x" * size, kind="text/plain"))
            reply = connection.reply()
            assert (reply.status, reply.replayed) == (201, replayed)
    assert case.effects == 1


@only([Kind.GUNICORN_SYNC, Kind.WSGIREF])
@pytest.mark.parametrize("early", EARLY.values(), ids=EARLY)
def test_an_early_answer_arrives_where_connections_are_closed(case: Case, early: Early) -> None:
    """§E: a server that closes on unread bytes would destroy the answer (RST)."""
    assert case.send(**{"body": BODY, **early.request}).status == early.status
