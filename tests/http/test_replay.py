"""What is kept of a response, and what a replay looks like (S2, S4, S5, S7, D1, D2)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrysafe.http.replay import DROPPED, DROPPED_FAMILIES, outcome_of, replay_response, stamped
from retrysafe.protocol.model import Headers, Response


def response(*headers: tuple[str, str], status: int = 201, body: bytes = b"made") -> Response:
    return Response.raw(status, tuple((name.encode(), value.encode()) for name, value in headers), body)


def names(headers: Headers) -> list[str]:
    return [name.decode().lower() for name, _ in headers]


# Recording.


def test_status_header_pairs_and_body_are_kept_as_they_are() -> None:
    """S2: in order, with duplicates and in their own spelling."""
    pairs = (("Link", "a"), ("location", "/1"), ("LINK", "b"), ("X-Odd", "\u00e9"), ("Vary", "Origin"), ("ETag", '"1"'))
    outcome = outcome_of(response(*pairs))
    assert outcome.status == 201
    assert outcome.headers == response(*pairs).headers
    assert outcome.body == b"made"


@pytest.mark.parametrize(
    "name",
    [
        "Connection",
        "Keep-Alive",
        "Transfer-Encoding",
        "Trailer",
        "Upgrade",
        "Content-Length",
        "Date",
        "Server",
        "Set-Cookie",
        "WWW-Authenticate",
        "RateLimit",
        "RateLimit-Policy",
        "X-RateLimit-Remaining",
        "x-ratelimit-limit-requests",
        "X-Rate-Limit-Reset",
        "Access-Control-Allow-Origin",
        "Access-Control-Expose-Headers",
        "traceparent",
        "X-Request-Id",
        "X-B3-TraceId",
        "Idempotent-Replayed",
        "Idempotency-Stored",
        "Idempotency-Status",
    ],
)
def test_what_belongs_to_one_exchange_only_is_dropped(name: str) -> None:
    """S4: whatever the case of its name."""
    for spelling in (name, name.lower(), name.upper()):
        assert names(outcome_of(response(("A", "1"), (spelling, "x"), ("B", "2"))).headers) == ["a", "b"]


@pytest.mark.parametrize(
    "name",
    ["Content-Type", "Content-Encoding", "Location", "Retry-After", "Cache-Control", "Allow", "X-Server", "Ratel"],
)
def test_what_belongs_to_the_answer_is_kept(name: str) -> None:
    """S2."""
    assert names(outcome_of(response((name, "x"))).headers) == [name.lower()]


def test_headers_that_connection_names_are_dropped_too() -> None:
    """S4: RFC 9110, section 7.6.1."""
    recorded = outcome_of(
        response(
            ("X-Hop", "1"), ("Connection", "close, x-HOP"), ("connection", "X-Other"), ("x-other", "2"), ("X-Kept", "3")
        )
    )
    assert names(recorded.headers) == ["x-kept"]


def test_a_body_that_is_not_kept_is_none_and_not_empty() -> None:
    """S5."""
    assert outcome_of(response(), keep_body=False).body is None
    assert outcome_of(response(body=b"")).body == b""


def test_the_list_is_lower_case() -> None:
    """S4: it is compared with lower-cased names."""
    assert all(name == name.lower() for name in (*DROPPED, *DROPPED_FAMILIES))


# Replaying.


def test_a_replay_is_marked_for_scripts_too_and_has_its_length() -> None:
    """S7."""
    replay = replay_response(response(("Location", "/1")))
    assert replay.status == 201
    assert replay.body == b"made"
    assert replay.headers == (
        (b"Location", b"/1"),
        (b"content-length", b"4"),
        (b"idempotent-replayed", b"true"),
        (b"access-control-expose-headers", b"Idempotent-Replayed"),
    )


@pytest.mark.parametrize("status", [204, 304])
def test_a_replay_without_content_has_neither_body_nor_length(status: int) -> None:
    """S7."""
    replay = replay_response(response(status=status, body=b"by mistake"))
    assert replay.body == b""
    assert names(replay.headers) == ["idempotent-replayed", "access-control-expose-headers"]


def test_a_rebuilt_response_loses_what_a_recorded_one_would_have_lost() -> None:
    """S4, S5: above all cookies, and a length that may be wrong."""
    replay = replay_response(response(("Content-Length", "999"), ("Set-Cookie", "session=1"), ("ETag", '"1"')))
    assert names(replay.headers)[:2] == ["etag", "content-length"]
    assert replay.header("content-length") == "4"
    assert replay.header("set-cookie") is None


tokens = st.sampled_from(["A", "Link", "Date", "Set-Cookie", "x-ratelimit-x", "Connection", "Content-Length", "Vary"])


@given(st.lists(st.tuples(tokens, st.sampled_from(["a", "Vary", "link, a", ""])), max_size=6), st.binary(max_size=9))
def test_recording_a_replay_gives_the_same_outcome_again(pairs: list[tuple[str, str]], body: bytes) -> None:
    """S2, S4: as when one guard stands in front of another."""
    first = outcome_of(response(*pairs, body=body))
    replay = replay_response(Response.raw(first.status, first.headers, body))
    assert outcome_of(replay) == first
    assert replay.body == body


# Stamps.


def test_a_response_with_nothing_to_say_is_the_same_object() -> None:
    """S7: first answers carry no mark."""
    made = response(("A", "1"))
    assert stamped(made, stored=True, protected=True) is made


@pytest.mark.parametrize(
    ("stored", "protected", "stamps"),
    [
        (False, True, ((b"idempotency-stored", b"false"),)),
        (True, False, ((b"idempotency-status", b"unprotected"),)),
        (False, False, ((b"idempotency-status", b"unprotected"), (b"idempotency-stored", b"false"))),
    ],
)
def test_what_could_not_be_promised_is_said(stored: bool, protected: bool, stamps: Headers) -> None:
    """D1, D2: and nothing else of the response changes."""
    made = response(("A", "1"))
    told = stamped(made, stored=stored, protected=protected)
    assert told.headers == made.headers + stamps
    assert (told.status, told.body) == (made.status, made.body)
