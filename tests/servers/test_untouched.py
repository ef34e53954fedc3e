"""Requests that are not guarded: byte for byte as if nobody were there (S8, and what broke in other middlewares)."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import h2.config
import h2.connection
import h2.events
import pytest
from websockets.sync.client import connect

from tests.servers.apps import steps as to
from tests.servers.case import BODY, Case, only
from tests.servers.gates import Gates
from tests.servers.harness import ASGI, WSGI, Kind, Server
from tests.servers.wire import PATIENCE_SECONDS

if TYPE_CHECKING:
    from tests.servers.wire import Reply

PLAIN = ("X-Plain", "yes")
EVERYTHING = ["stream", "sync_stream", "file", "events", "listening", "hello", "cookies", "nothing"]


def both(case: Case, path: str, method: str = "GET", **request: object) -> tuple[Reply, Reply]:
    """Send the same request to the application without a guard and with one."""
    more = request.pop("more", [])
    assert isinstance(more, list)
    body = BODY if method == "POST" else None
    plain = case.send(path, method=method, body=body, more=[*more, PLAIN], **request)
    guarded = case.send(path, method=method, body=body, more=more, **request)
    return plain, guarded


def assert_same(plain: Reply, guarded: Reply) -> None:
    assert (guarded.status, guarded.headers_but_date, guarded.body, guarded.trailers) == (
        plain.status,
        plain.headers_but_date,
        plain.body,
        plain.trailers,
    )


@only(ASGI)
@pytest.mark.parametrize("prefix", ["starlette", "inside", "outside"])
@pytest.mark.parametrize("what", EVERYTHING)
def test_a_read_is_answered_as_without_a_guard(case: Case, prefix: str, what: str) -> None:
    """S8: with a key, which must not matter, under Starlette and its ``BaseHTTPMiddleware``."""
    plain, guarded = both(case, f"/{prefix}/{what}")
    assert plain.status in {200, 201, 204}
    assert (len(plain.body) > 10) is (what != "nothing")
    assert_same(plain, guarded)


@only(ASGI)
@pytest.mark.parametrize("what", EVERYTHING)
def test_a_write_without_a_key_is_answered_as_without_a_guard(case: Case, what: str) -> None:
    """S8, K7."""
    assert_same(*both(case, f"/starlette/{what}", "POST", key=None))


@only(WSGI)
@pytest.mark.parametrize("what", ["stream", "file", "hello"])
def test_a_wsgi_read_is_answered_as_without_a_guard(case: Case, what: str) -> None:
    """S8."""
    plain, guarded = both(case, f"/flask/{what}")
    assert plain.status == 200
    assert_same(plain, guarded)


@only(WSGI)
def test_a_file_wrapper_reaches_the_server(case: Case) -> None:
    """S8."""
    file = case.server.directory / "another-file"
    file.write_bytes(b"content\n" * 50_000)
    plain, guarded = both(case, "/once/file", steps=[["path", str(file)]])
    assert len(plain.body) == 400_000
    assert_same(plain, guarded)


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_stream_arrives_as_it_is_made(case: Case, gates: Gates, method: str) -> None:
    """S8: nothing is held back."""
    gate = gates()
    steps = [to.start(), to.chunk("first;"), gate.step, to.chunk("second;"), to.end()]
    with case.begin(steps=steps, method=method, key=None) as connection:
        head = connection.head()
        pieces = connection.pieces(head, method)
        assert next(pieces) == b"first;"
        gate.let_through()
        assert b"".join(pieces) == b"second;"


@only([Kind.GRANIAN])
def test_a_path_is_sent_by_the_server(case: Case) -> None:
    """S8: ``http.response.pathsend``."""
    file = case.server.directory / "pathsend"
    file.write_bytes(b"content\n" * 50_000)
    plain, guarded = both(case, "/once/path", steps=[to.start(), ["path", str(file)]])
    assert len(plain.body) == 400_000
    assert_same(plain, guarded)


@only(ASGI)
def test_the_application_sees_the_servers_state_and_extensions(case: Case) -> None:
    """S8: what its lifespan left in ``state``."""
    plain, guarded = both(case, "/once/state", steps=[["state"]])
    assert guarded.json()["state"] == "yes"
    assert_same(plain, guarded)
    # A guarded request as well.
    assert case.send("/once/state", [["state"]]).json() == plain.json()


@only(ASGI)
@pytest.mark.parametrize("guarded", [False, True])
def test_a_websocket_is_not_touched(server: Server, case: Case, guarded: bool) -> None:
    """S8."""
    headers = {"Idempotency-Key": case.key} if guarded else {"X-Plain": "yes"}
    address = f"ws://127.0.0.1:{server.port}/once/socket"
    with connect(address, additional_headers=headers, open_timeout=PATIENCE_SECONDS, compression=None) as websocket:
        for message in ("text", b"\x00bytes", "x" * 100_000):
            websocket.send(message)
            assert websocket.recv(PATIENCE_SECONDS) == message


@only(ASGI)
@pytest.mark.parametrize("more", [[PLAIN], []], ids=["plain", "guarded"])
def test_a_handler_is_told_when_the_client_has_gone(case: Case, gates: Gates, more: list[tuple[str, str]]) -> None:
    """S8: ``request.is_disconnected()`` is False while the client is there, and True afterwards."""
    gate = gates()
    request = case.begin("/starlette/listening", method="GET", body=None, more=[("X-Gate", gate.path), *more])
    with request as connection:
        gate.await_arrival()
        connection.abort()
    gate.open()
    gate.await_arrival()
    assert case.effects == 1
    gate.open()


@only(ASGI)
def test_the_end_of_a_request_is_told_when_it_is_there(case: Case, gates: Gates) -> None:
    """S8: after the body ``receive`` waits for the server; it does not claim that the client has gone."""
    gate = gates()
    steps = [gate.step, ["await-disconnect", gate.path]]
    with case.begin(steps=steps, method="POST", key=None) as connection:
        gate.let_through()
        connection.abort()
    gate.let_through()


@only([Kind.HYPERCORN])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_trailers_arrive(server: Server, case: Case, method: str) -> None:
    """S8, and S5: a guarded response that has trailers is forwarded as it comes, and not kept."""
    start = ["start-with-trailers", 200, [["content-type", "text/plain"]]]
    steps = [case.effect, start, to.chunk("body"), to.end(), ["trailers", [["x-checksum", "abc"]]]]
    told = _over_http2(server, case, method, steps)
    assert told == (200, b"body", {b"x-checksum": b"abc"})
    if method == "POST":
        assert (case.send(steps=steps).code, case.effects) == ("completed-not-replayable", 1)


def _over_http2(server: Server, case: Case, method: str, steps: list[list[object]]) -> tuple[int, bytes, object]:
    """Send one request over HTTP/2, where hypercorn sends trailers."""
    client = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding=None))
    headers = [(name.lower(), value) for name, value in case.headers(steps)]
    path = [(":method", method), (":path", "/once/charges"), (":scheme", "http"), (":authority", "shop.test")]
    body = BODY if method == "POST" else b""
    with socket.create_connection(("127.0.0.1", server.port), PATIENCE_SECONDS) as connection:
        client.initiate_connection()
        client.send_headers(1, [*path, ("te", "trailers"), *headers], end_stream=not body)
        if body:
            client.send_data(1, body, end_stream=True)
        connection.sendall(client.data_to_send())
        status, content, trailers = 0, b"", {}
        while True:
            for event in client.receive_data(connection.recv(65_536)):
                match event:
                    case h2.events.ResponseReceived(headers=pairs):
                        status = int(dict(pairs or [])[b":status"])
                    case h2.events.DataReceived(data=data):
                        content += data or b""
                    case h2.events.TrailersReceived(headers=pairs):
                        trailers = dict(pairs or [])
                    case h2.events.StreamEnded():
                        return status, content, trailers
                    case _:
                        pass
            connection.sendall(client.data_to_send())
