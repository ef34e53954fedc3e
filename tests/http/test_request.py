"""A request as a value, and what is read of it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from retrysafe.http.request import NEVER_STORED, HttpRequest, request_fingerprint, stored_request, wait_seconds
from retrysafe.protocol.encoding import decode_request, encode_request
from retrysafe.protocol.fingerprint import FingerprintRules
from retrysafe.protocol.model import Headers
from retrysafe.protocol.policy import Policy
from tests.protocol.samples import SECRET, asked

REQUEST = HttpRequest(
    method="POST",
    path=b"/charges",
    query=b"b=1&a=2",
    headers=(
        (b"Host", b"api.example"),
        (b"Content-Type", b"application/json"),
        (b"content-type", b"text/plain"),
        (b"Authorization", b"Bearer S3CRET"),
        (b"Cookie", b"session=S3CRET"),
        (b"Idempotency-Key", b"S3CRET-KEY"),
        (b"X-Account", b"\xe9"),
    ),
    body=b'{"amount": 1, "card": "S3CRET"}',
    native={"type": "http"},
)


# The value.


def test_the_first_header_of_a_name_is_found_in_any_case() -> None:
    assert REQUEST.header("CONTENT-type") == REQUEST.media_type == "application/json"
    assert REQUEST.header("x-account") == "é"
    assert REQUEST.header("x-nothing") is None
    assert HttpRequest("POST", b"/", b"", (), b"").media_type == ""


def test_the_representation_shows_nothing_that_is_secret() -> None:
    """K8."""
    assert repr(REQUEST) == "HttpRequest(method='POST', path=b'/charges')"


def test_the_fingerprint_is_that_of_its_parts() -> None:
    """F2, F4."""
    rules = FingerprintRules(headers=("x-account",))
    ours = request_fingerprint(REQUEST, rules, [SECRET])
    same = asked(
        b'{"card": "S3CRET", "amount": 1.0}', query=b"a=2&b=1", headers=((b"x-account", b"\xe9"),), rules=rules
    )
    assert same.matches(ours.stored)
    assert not asked(REQUEST.body, query=b"a=2&b=1", rules=rules).matches(ours.stored)


# What a re-run needs.


def test_a_stored_request_holds_listed_headers_and_nothing_that_is_secret() -> None:
    """R9, R13."""
    stored = stored_request(REQUEST, frozenset({"content-type", "host", "x-account"}), "POST /charges")
    assert (stored.method, stored.target, stored.operation) == ("POST", b"/charges?b=1&a=2", "POST /charges")
    assert stored.headers == tuple(
        pair for pair in REQUEST.headers if pair[0].lower() in {b"content-type", b"host", b"x-account"}
    )
    assert decode_request(encode_request(stored)) == stored


def test_credentials_and_keys_are_not_stored_even_when_somebody_lists_them() -> None:
    """R9, K8."""
    everything = frozenset(name.decode().lower() for name, _ in REQUEST.headers)
    stored = stored_request(REQUEST, everything, "POST /charges")
    assert {name.lower() for name, _ in stored.headers} == {b"host", b"content-type", b"x-account"}
    assert {b"authorization", b"cookie", b"idempotency-key", b"tracking-id", b"client-cert"} <= NEVER_STORED


def test_the_default_list_has_what_a_re_run_needs() -> None:
    """R13."""
    stored = stored_request(REQUEST, Policy().rerun_headers, "POST /charges")
    assert [name for name, _ in stored.headers] == [b"Host", b"Content-Type", b"content-type"]


def test_a_target_without_a_query_has_no_question_mark() -> None:
    """R13."""
    request = HttpRequest("POST", b"/charges", b"", (), b"")
    assert stored_request(request, frozenset(), "POST /charges").target == b"/charges"


def test_a_request_with_other_headers_is_asked_for_those() -> None:
    """It is a public value: what was looked up before belongs to the one before."""
    before = HttpRequest("POST", b"/", b"", ((b"a", b"1"),), b"")
    assert before.header("a") == "1"
    after = replace(before, headers=((b"a", b"2"),))
    assert after.header("a") == "2"
    assert before != after
    assert hash(before) == hash(HttpRequest("POST", b"/", b"", ((b"a", b"1"),), b"", {"native": 1}))


# Waiting.


def waits(*values: bytes) -> float | None:
    headers: Headers = ((b"host", b"wait=9"), *((b"Prefer", value) for value in values))
    return wait_seconds(HttpRequest("POST", b"/", b"", headers, b""))


@pytest.mark.parametrize(
    ("values", "seconds"),
    [
        ((b"wait=5",), 5.0),
        ((b"WAIT = 5",), 5.0),
        ((b'wait="5"',), 5.0),
        ((b"wait=0",), 0.0),
        ((b"respond-async, wait=10",), 10.0),
        ((b"respond-async;x=1 , wait=10;y",), 10.0),
        ((b'foo="a, wait=3", wait=10',), 10.0),
        ((b'foo; bar="wait=3,\\"", wait=10',), 10.0),
        ((b"return=minimal", b"wait=10"), 10.0),
        ((b",, wait=10,",), 10.0),
        ((b"wait=5, wait=10",), 5.0),
        ((b"wait=999999999",), 999999999.0),
    ],
)
def test_the_wait_that_a_client_prefers_is_read(values: tuple[bytes, ...], seconds: float) -> None:
    """S9: RFC 7240; other preferences and parameters are tolerated, and the first wait counts."""
    assert waits(*values) == seconds


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"wait",
        b"wait=",
        b"wait=-1",
        b"wait=1.5",
        b"wait=ten",
        b'wait=""',
        b"wait=9999999999",
        b"wait=inf",
        b"waiting=5",
        b"respond-async",
        b'foo="wait=5',
        b"x;wait=5",
        b"\xff, wait",
    ],
)
def test_nonsense_is_as_good_as_no_preference(value: bytes) -> None:
    """S9."""
    assert waits(value) is None
    assert wait_seconds(HttpRequest("POST", b"/", b"", (), b"")) is None


@given(
    st.lists(st.binary(max_size=20) | st.text(st.sampled_from('wait=5,;" \\'), max_size=12).map(str.encode), max_size=3)
)
def test_no_preference_is_an_error(values: list[bytes]) -> None:
    """S9."""
    seconds = waits(*values)
    assert seconds is None or 0 <= seconds < 1e9


@pytest.mark.parametrize(
    "value", [b"a" * 200_000 + b'"', b'a="' + b"\\a" * 100_000, b", " * 100_000 + b"@", b"a" + b" " * 200_000 + b'"']
)
def test_a_hostile_preference_is_read_in_one_pass(value: bytes) -> None:
    """S9: the time limit of the test is the assertion."""
    assert waits(value) is None
