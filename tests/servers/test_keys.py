"""Which headers carry a key, what a key looks like, and that it is kept a secret (K1, K2, K3, K7, K8)."""

from __future__ import annotations

import pytest

from tests.servers.case import Case, only
from tests.servers.harness import Kind

ONE_OF_EACH = (Kind.UVICORN, Kind.GUNICORN_THREADS)


@pytest.mark.parametrize("name", ["Idempotency-Key", "Tracking-Id", "IDEMPOTENCY-KEY", "tracking-id"])
def test_either_header_carries_the_key_in_any_case(case: Case, name: str) -> None:
    """K1."""
    first = case.send(key=None, more=[(name, case.key)])
    retry = case.send()
    assert (first.status, first.replayed, retry.status, retry.replayed) == (201, False, 201, True)
    assert case.effects == 1


def test_both_headers_with_one_value_are_one_key(case: Case) -> None:
    """K1."""
    both = [("Tracking-Id", f'"{case.key}"')]
    assert [case.send(more=both).replayed, case.send(more=both).replayed, case.send().replayed] == [False, True, True]
    assert case.effects == 1


def test_two_headers_that_differ_are_refused(case: Case) -> None:
    """K1."""
    reply = case.send(more=[("Tracking-Id", "another")])
    assert (reply.status, reply.code, case.effects) == (400, "key-malformed", 0)


def test_a_request_id_is_no_key(case: Case) -> None:
    """K1: proxies make a new one for each attempt."""
    for _ in range(2):
        assert case.send(key=None, more=[("X-Request-Id", case.key)]).status == 201
    assert case.effects == 2


@pytest.mark.parametrize(
    "spelling",
    ['"{}"', '"{}";v=1', '"{}"; v="1";w', "  {}\t", '  "{}"  '],
    ids=["quoted", "item", "items", "padded", "both"],
)
def test_every_spelling_of_a_key_is_the_same_key(case: Case, spelling: str) -> None:
    """K2."""
    first = case.send(key=spelling.format(case.key))
    assert (first.status, first.replayed) == (201, False)
    assert case.send().replayed
    assert case.effects == 1


def test_escapes_in_a_quoted_key_are_undone(case: Case) -> None:
    """K2: a key with a quote and a backslash, each written with a backslash."""
    for spelling, replayed in ((r'"\"{}\\"', False), (r'"\"{}\\";a', True)):
        reply = case.send(key=spelling.format(case.key))
        assert (reply.status, reply.replayed) == (201, replayed)
    assert case.effects == 1


MALFORMED = {
    "empty": b"",
    "blank": b"   ",
    "quoted-empty": b'""',
    "longer-than-255": b"k" * 256,
    "quoted-longer-than-255": b'"' + b"k" * 256 + b'"',
    "utf-8": "schlüssel".encode(),
    "latin-1": "schlüssel".encode("latin-1"),
    "control": b"key\x01key",
    "delete": b"key\x7fkey",
    "tab-inside": b"key\tkey",
    "space-inside": b"key key",
    "space-inside-quotes": b'"key key"',
    "half-quoted": b'"key',
    "quote-inside": b'key"key',
    "bad-escape": rb'"key\n"',
    "comma-joined": b"key,key",
    "comma-joined-quoted": b'"key", "key"',
    "text-behind-the-quote": b'"key"x',
    "folded": b"key\r\n key",
}


@pytest.mark.parametrize("value", MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_key_is_refused_before_anything_is_done(case: Case, value: bytes) -> None:
    """K2, K3; some servers refuse some of these themselves, before anybody is asked."""
    reply = case.send(key=None, more=[("Idempotency-Key", value)])
    assert (reply.status, case.effects) == (400, 0)
    assert reply.code in {"key-malformed", ""}
    if value.isascii() and value.decode().isprintable():
        assert reply.code == "key-malformed"


@pytest.mark.parametrize("other", ["the-same", "another"])
def test_two_lines_of_the_header_are_refused(case: Case, other: str) -> None:
    """K1, K3: even when they are equal."""
    second = case.key if other == "the-same" else other
    reply = case.send(more=[("Idempotency-Key", second)])
    assert (reply.status, reply.code, case.effects) == (400, "key-malformed", 0)
    assert not case.send().replayed


@pytest.mark.parametrize("key", ["~", "k" * 255], ids=["one", "255"])
def test_the_shortest_and_the_longest_key_work(case: Case, key: str) -> None:
    """K3."""
    assert [case.send(key=key).replayed for _ in range(2)] == [False, True]
    assert case.effects == 1


@only(ONE_OF_EACH)
def test_hostile_keys_are_only_keys(case: Case) -> None:
    """K3, K4: none opens another's record, and each is found again."""
    tails = ["'--", "%00", "*", "?", "[a]", ":b", "a:", "${x}", "../", "\\'", "{}", "%s", "a|b", "<script>", "0" * 30]
    for tail in tails:
        assert not case.send(key=case.key + tail).replayed
    for tail in tails:
        assert case.send(key=case.key + tail).replayed
    assert case.effects == len(tails)


def test_a_missing_key_is_refused_where_one_is_required(case: Case) -> None:
    """K7."""
    reply = case.send("/required/charges", key=None)
    assert (reply.status, reply.code, case.effects) == (400, "key-missing", 0)
    assert case.send("/required/charges").status == 201


def test_a_request_without_a_key_passes_untouched_and_is_counted(case: Case) -> None:
    """K7."""
    path = f"/counted/{case.label}"
    for _ in range(2):
        reply = case.send(path, key=None)
        assert (reply.status, reply.replayed) == (201, False)
    assert case.effects == 2
    assert case.server.events(f"POST {path}") == [f"Unprotected(name='POST {path}', reason='no key')"] * 2


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_every_method_that_writes_is_guarded(case: Case, method: str) -> None:
    """K7."""
    replies = [case.send(method=method) for _ in range(2)]
    assert [reply.replayed for reply in replies] == [False, True]
    assert case.effects == 1


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
def test_methods_that_read_are_not_guarded(case: Case, method: str) -> None:
    """K7, S8: whatever headers they have."""
    replies = [case.send(method=method, body=None) for _ in range(2)]
    assert [(reply.status, reply.replayed) for reply in replies] == [(201, False)] * 2
    assert case.effects == 2


def test_exempt_routes_are_left_alone(case: Case) -> None:
    """K7."""
    assert [case.send("/exempt/hook").replayed, case.send("/exempt/hook", key='"').replayed] == [False, False]
    assert case.effects == 2


def test_a_key_is_never_seen_again(case: Case) -> None:
    """K8: not in the store, not in the log, not in the events, not in an answer."""
    replies = [case.send(), case.send(), case.send(body=b"{}"), case.send(more=[("Tracking-Id", case.key + "x")])]
    assert [reply.status for reply in replies] == [201, 201, 422, 400]
    secret = case.key.encode()
    for file in case.server.directory.iterdir():
        if file.is_file():
            assert secret not in file.read_bytes(), file.name
    assert not any(secret in reply.body or secret in repr(reply.headers).encode() for reply in replies)
