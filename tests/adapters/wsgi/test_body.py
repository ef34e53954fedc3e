"""Reading a WSGI request's body whole, within a limit, and never beyond what was declared (S8, PEP 3333)."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import pytest

from retrysafe import RequestTooLarge
from retrysafe.adapters.wsgi import RetrySafeMiddleware
from retrysafe.adapters.wsgi.body import drain_body, path_of, read_body, request_of
from tests.adapters.guards import LIMIT, House
from tests.adapters.wsgi.server import Exchange, Input, environ_of

if TYPE_CHECKING:
    from retrysafe.adapters.wsgi.types import Environ, StartResponse


class Broken(Input):
    """A body whose connection breaks, as gunicorn tells it."""

    def read(self, size: int) -> bytes:
        data = super().read(min(size, 3))
        if not data:
            raise OSError("the client has gone")
        return data


@pytest.mark.parametrize("body", [b"", b"x", b"x" * 10])
def test_a_body_is_read_to_what_was_declared_and_not_further(body: bytes) -> None:
    """S8: a client that keeps its connection open sends nothing more, and reading on would wait for it."""
    assert read_body(environ_of(body=body), 10) == body


@pytest.mark.parametrize("declared", [None, "", "abc", "-1", "+1", "1.5", "²", "1_0", " 1"])
def test_without_a_length_nothing_is_read(declared: str | None) -> None:
    """S8: nobody says where the body ends."""
    environ = environ_of(body=b"x" * 10, CONTENT_LENGTH=declared)
    assert read_body(environ, 10) == b""
    drain_body(environ)
    assert environ["wsgi.input"].reads == 0


def test_where_the_server_ends_the_body_it_is_read_to_its_end() -> None:
    """S8: a chunked one."""
    environ = environ_of(CONTENT_LENGTH=None)
    environ |= {"wsgi.input": Input(b"x" * 10, ends=True), "wsgi.input_terminated": True}
    assert read_body(environ, 10) == b"x" * 10


def test_a_body_beyond_the_limit_is_refused_unread_or_just_beyond_the_limit() -> None:
    """S8."""
    declared = environ_of(body=b"x" * 11)
    with pytest.raises(RequestTooLarge):
        read_body(declared, 10)
    assert declared["wsgi.input"].reads == 0
    endless = environ_of(CONTENT_LENGTH=None)
    endless |= {"wsgi.input": Input(b"x" * 1_000_000, ends=True), "wsgi.input_terminated": True}
    with pytest.raises(RequestTooLarge):
        read_body(endless, 10)
    assert len(endless["wsgi.input"].read(1_000_000)) == 1_000_000 - 11


@pytest.mark.parametrize("kind", [Input, Broken])
@pytest.mark.parametrize("terminated", [False, True])
def test_a_body_that_is_cut_off_is_none(kind: type[Input], terminated: bool) -> None:
    """S1: nothing may be claimed."""
    environ = environ_of(CONTENT_LENGTH=None if terminated else "10")
    environ |= {"wsgi.input": kind(b"x" * 5, cut_off=True, ends=True), "wsgi.input_terminated": terminated}
    # A body without a length that ends is a whole one; only an error says that it broke.
    assert read_body(environ, 10) == (b"x" * 5 if terminated and kind is Input else None)


def test_draining_reads_what_was_declared_and_ends_after_a_megabyte() -> None:
    """An early answer is heard only by a client that may finish, but not for ever."""
    environ = environ_of(body=b"x" * 100)
    drain_body(environ)
    assert environ["wsgi.input"].read(0) == b""
    large = environ_of(body=b"x" * 3_000_000)
    drain_body(large)
    assert len(large["wsgi.input"].read(3_000_000 - 1024 * 1024)) == 3_000_000 - 1024 * 1024
    broken = environ_of(CONTENT_LENGTH="10")
    broken["wsgi.input"] = Broken(b"x" * 5, ends=True)
    drain_body(broken)


def made(environ: Environ, start_response: StartResponse) -> list[bytes]:
    body = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
    start_response("201 Created", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]


def test_the_application_reads_the_body_again(house: House) -> None:
    """S8: with its length, also where it had none."""
    app = RetrySafeMiddleware(made, guard=house.guard)
    chunked = environ_of(CONTENT_LENGTH=None)
    chunked |= {"wsgi.input": Input(b"[1, 2]", ends=True), "wsgi.input_terminated": True}
    assert Exchange(chunked).through(app).content == b"[1, 2]"
    assert Exchange(environ_of(body=b"[1,2]")).through(app).replayed


def test_a_client_that_sends_half_a_request_claims_nothing(house: House) -> None:
    """S1."""
    app = RetrySafeMiddleware(made, guard=house.guard)
    cut_off = environ_of(CONTENT_LENGTH="10")
    cut_off["wsgi.input"] = Input(b"{}", cut_off=True, ends=True)
    assert (Exchange(cut_off).through(app).status, house.states) == (400, [])
    assert (Exchange().through(app).replayed, house.states) == (False, ["done"])


def test_a_request_that_is_too_large_is_drained_and_refused(house: House) -> None:
    """S8."""
    environ = environ_of(body=b"x" * (LIMIT + 1))
    exchange = Exchange(environ).through(RetrySafeMiddleware(made, guard=house.guard))
    assert (exchange.status, exchange.code, house.states) == (413, "request-too-large", [])
    assert environ["wsgi.input"].read(0) == b""


@pytest.mark.parametrize(
    ("more", "path", "routed"),
    [
        ({"RAW_URI": "/caf%C3%A9?a=1"}, b"/caf%C3%A9", "/café"),
        ({"REQUEST_URI": "/caf%c3%a9"}, b"/caf%c3%a9", "/café"),
        ({}, b"/caf%C3%A9", "/café"),
        ({"RAW_URI": "http://shop.test/caf%C3%A9"}, b"/caf%C3%A9", "/café"),
        ({"RAW_URI": "", "REQUEST_URI": "*"}, b"/caf%C3%A9", "/café"),
        ({"SCRIPT_NAME": "/shop"}, b"/shop/caf%C3%A9", "/shop/café"),
        ({"PATH_INFO": ""}, b"", "/"),
        ({"PATH_INFO": "/\xff"}, b"/%FF", "/�"),
    ],
)
def test_a_path_is_taken_as_it_was_sent_where_the_server_tells(more: dict[str, Any], path: bytes, routed: str) -> None:
    """F2."""
    environ = environ_of("/caf\xc3\xa9", **more)
    assert (request_of(environ).path, path_of(environ)) == (path, routed)


def test_headers_are_taken_from_the_environ() -> None:
    """K1, F2: with those that have no prefix."""
    request = request_of(environ_of(HTTP_X_ONE="1", CONTENT_TYPE="text/plain", HTTPS="on", QUERY_STRING="a=%20"))
    assert dict(request.headers) == {
        b"idempotency-key": b"k",
        b"x-one": b"1",
        b"content-type": b"text/plain",
        b"content-length": b"2",
    }
    assert (request.query, request.method, request.body) == (b"a=%20", "POST", b"")
    assert isinstance(environ_of()["wsgi.errors"], io.StringIO)
