"""Which requests are one request (F2, F3)."""

from __future__ import annotations

from typing import NamedTuple

import pytest

from tests.servers.case import Case


class Pair(NamedTuple):
    """Two bodies of one media type."""

    first: bytes
    second: bytes
    kind: str = "application/json"
    second_kind: str | None = None


FORM = "application/x-www-form-urlencoded"


def _multipart(boundary: str, *, amount: bytes = b"100") -> bytes:
    line = f"--{boundary}".encode()
    note = b'Content-Disposition: form-data; name="note"\r\n\r\nhello\r\n'
    sum_ = b'Content-Disposition: form-data; name="amount"\r\n\r\n' + amount + b"\r\n"
    return line + b"\r\n" + note + line + b"\r\n" + sum_ + line + b"--\r\n"


SAME = {
    "order of members": Pair(b'{"a": 1, "b": {"c": [1, 2], "d": null}}', b'{"b": {"d": null, "c": [1, 2]}, "a": 1}'),
    "whitespace": Pair(b'{"a":[1,2]}', b'\n{ "a" : [ 1 ,\t2 ] }\n'),
    "spelling of a number": Pair(b'{"a": 1, "b": 100}', b'{"a": 1.0, "b": 1e2}'),
    "escapes": Pair('{"a": "é/"}'.encode(), b'{"\\u0061": "\\u00e9\\/"}'),
    "charset": Pair(b'{"a": 1}', b'{"a": 1}', second_kind="application/json; charset=utf-8"),
    "order of a form": Pair(b"a=1&b=2", b"b=2&a=1", FORM),
    "escapes of a form": Pair(b"a=b+c", b"a=b%20c", FORM),
    "boundary": Pair(
        _multipart("one"), _multipart("two"), "multipart/form-data; boundary=one", "multipart/form-data; boundary=two"
    ),
}
DIFFERENT = {
    "null and absent": Pair(b'{"a": null}', b"{}"),
    "order of an array": Pair(b"[1, 2]", b"[2, 1]"),
    "large integers": Pair(b"[9007199254740993]", b"[9007199254740992]"),
    "number and string": Pair(b'{"a": 1}', b'{"a": "1"}'),
    "duplicate members": Pair(b'{"a": 1, "a": 2}', b'{"a": 3, "a": 2}'),
    "bad JSON": Pair(b"{a: 1}", b"{a:  1}"),
    "order of equal names in a form": Pair(b"a=1&a=2", b"a=2&a=1", FORM),
    "part": Pair(_multipart("one"), _multipart("one", amount=b"101"), "multipart/form-data; boundary=one"),
    "bytes": Pair(b"\x00\xff", b"\x00\xfe", "application/octet-stream"),
    "text that looks like JSON": Pair(b'{"a": 1, "b": 2}', b'{"b": 2, "a": 1}', "text/plain"),
}


def _statuses(case: Case, pair: Pair) -> tuple[int, int]:
    first = case.send(body=pair.first, kind=pair.kind)
    second = case.send(body=pair.second, kind=pair.second_kind or pair.kind)
    assert case.effects == 1
    return first.status, second.status


@pytest.mark.parametrize("pair", SAME.values(), ids=SAME)
def test_the_same_request_written_in_another_way_is_a_retry(case: Case, pair: Pair) -> None:
    """F3."""
    assert _statuses(case, pair) == (201, 201)


@pytest.mark.parametrize("pair", DIFFERENT.values(), ids=DIFFERENT)
def test_another_request_that_looks_alike_is_refused(case: Case, pair: Pair) -> None:
    """F3, F1."""
    assert _statuses(case, pair) == (201, 422)


def test_the_order_of_a_query_says_nothing(case: Case) -> None:
    """F2."""
    assert not case.send("/once/charges?a=1&b=2").replayed
    assert case.send("/once/charges?b=2&a=1").replayed
    assert case.effects == 1


def test_headers_say_nothing(case: Case) -> None:
    """F4: unless they are named; a retry comes through another proxy, with another date."""
    assert not case.send(more=[("X-Forwarded-For", "10.0.0.1"), ("Accept", "*/*")]).replayed
    assert case.send(more=[("X-Forwarded-For", "10.0.0.2"), ("User-Agent", "retry/1")]).replayed
    assert case.effects == 1
