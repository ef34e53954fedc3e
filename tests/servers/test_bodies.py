"""Requests with large, cut off and oddly framed bodies: nothing unprotected, nothing half (S8)."""

from __future__ import annotations

import socket
from contextlib import suppress

import pytest

from tests.servers import wire
from tests.servers.apps import steps as to
from tests.servers.apps.guards import SMALL
from tests.servers.case import BODY, Case, only
from tests.servers.harness import CHUNKED, KEEP_ALIVE, Server
from tests.servers.wire import Connection, Truncated, chunked_request

SMALLEST_PIECES = 3


def test_a_body_at_the_limit_is_served(case: Case) -> None:
    """S8."""
    assert [case.send("/small/1", body=b"x" * SMALL).replayed for _ in range(2)] == [False, True]
    assert case.effects == 1


def test_a_body_beyond_the_limit_is_refused_and_nothing_is_claimed(case: Case) -> None:
    """S8: never an unprotected run."""
    reply = case.send("/small/1", body=b"x" * (SMALL + 1))
    assert (reply.status, reply.code, case.effects) == (413, "request-too-large", 0)
    assert (case.send("/small/1").replayed, case.effects) == (False, 1)


@only(CHUNKED)
@pytest.mark.parametrize("sizes", [[SMALL + 1], [SMALL, 1], [600, 600, 600], [1] * (SMALL + 1)], ids=len)
def test_a_body_without_a_length_has_the_same_limit(case: Case, sizes: list[int]) -> None:
    """S8."""
    headers = case.headers()
    with case.server.connect() as connection:
        connection.send(chunked_request("POST", "/small/1", headers, [b"x" * size for size in sizes]))
        reply = connection.reply()
    assert (reply.status, reply.code, case.effects) == (413, "request-too-large", 0)
    assert not case.send("/small/1").replayed


@only(CHUNKED)
def test_a_body_without_a_length_is_the_same_request(case: Case) -> None:
    """F2: framing says nothing about what is asked."""
    steps = [case.effect, to.echo()] if case.server.kind.asgi else None
    with case.server.connect() as connection:
        pieces = [BODY[at : at + SMALLEST_PIECES] for at in range(0, len(BODY), SMALLEST_PIECES)]
        connection.send(chunked_request("POST", "/once/charges", case.headers(steps), pieces))
        first = connection.reply()
    if case.server.kind.asgi:
        assert first.json()["body"].encode() == BODY
    retry = case.send()
    assert (retry.replayed, retry.body, case.effects) == (True, first.body, 1)


@pytest.mark.parametrize("body", [b"", b"x", bytes(range(256)), b"x" * 300_000], ids=["empty", "one", "bytes", "long"])
def test_the_application_gets_the_body_as_it_was_sent(case: Case, body: bytes) -> None:
    """S8."""
    first = case.send("/once/echo", [to.echo()], body=body, kind="application/octet-stream")
    assert first.json()["body"].encode("latin-1") == body
    assert case.send("/once/echo", body=body, kind="application/octet-stream").body == first.body


def test_a_body_far_beyond_the_limit_does_no_harm(case: Case) -> None:
    """S8: the client hears 413, or its connection is cut while it still sends; the server goes on."""
    with case.server.connect() as connection:
        connection.send_as_far_as_possible(case.request("/small/1", body=b"x" * 8_000_000))
        with suppress(ConnectionResetError, Truncated):
            assert connection.reply().status == 413
    assert (case.effects, case.send("/small/1").status) == (0, 201)


def test_a_large_body_without_a_key_is_not_limited(case: Case) -> None:
    """S8: requests that are not guarded are not touched."""
    reply = case.send("/small/1", [to.echo()], key=None, body=b"x" * (SMALL + 1))
    assert len(reply.json()["body"]) == SMALL + 1


@pytest.mark.parametrize("path", ["/once/charges", "/again/1"])
def test_a_request_that_is_cut_off_claims_nothing(case: Case, path: str) -> None:
    """S1, S8: the client goes away before its request is complete."""
    with case.server.connect() as connection:
        connection.send(case.request(path)[:-10])
        _hang_up(connection)
    assert case.effects == 0
    assert (case.send(path).replayed, case.send(path).replayed, case.effects) == (False, True, 1)


@only(CHUNKED)
def test_a_request_without_a_length_that_is_cut_off_claims_nothing(case: Case) -> None:
    """S1, S8."""
    with case.server.connect() as connection:
        connection.send(chunked_request("POST", "/once/charges", case.headers(), [BODY], complete=False))
        _hang_up(connection)
    # What arrived was the whole body already, but nobody said so.
    assert case.effects == 0
    assert (case.send().replayed, case.send().replayed, case.effects) == (False, True, 1)


@only(CHUNKED)
def test_a_chunk_that_is_cut_off_claims_nothing(case: Case) -> None:
    """S1, S8."""
    with case.server.connect() as connection:
        connection.send(chunked_request("POST", "/once/charges", case.headers(), [BODY], complete=False)[:-10])
        _hang_up(connection)
    assert case.effects == 0
    assert not case.send().replayed


def _hang_up(connection: Connection) -> None:
    """Say that nothing more comes, and return when the server has given up as well."""
    connection.socket.shutdown(socket.SHUT_WR)
    try:
        while connection.socket.recv(65_536):
            pass
    except ConnectionResetError:
        pass


@only(KEEP_ALIVE)
def test_a_client_may_wait_until_its_body_is_wanted(case: Case) -> None:
    """S8: ``Expect: 100-continue``."""
    head = wire.request("POST", "/once/charges", case.headers(more=[("Expect", "100-continue")]), BODY)
    with case.server.connect() as connection:
        connection.send(head[: -len(BODY)])
        _await_continue(connection)
        connection.send(BODY)
        assert connection.reply().status == 201
    assert (case.send().replayed, case.effects) == (True, 1)


def _await_continue(connection: Connection) -> None:
    interim = b""
    while not interim.endswith(b"\r\n\r\n"):
        interim += connection.socket.recv(1)
    assert interim.startswith(b"HTTP/1.1 100 ")


def test_a_server_survives_clients_that_send_nothing(server: Server, case: Case) -> None:
    """S1."""
    for _ in range(3):
        server.connect().close()
        with server.connect() as connection:
            connection.send(b"POST /once/charges HTTP/1.1\r\nHost: shop.test\r\nIdempotency-Key: k\r\n")
            connection.abort()
    assert case.send().status == 201
