"""Reading the client's key (K1, K2, K3, K8). http-sf is the second opinion on RFC 9651."""

from typing import Any

import http_sf
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from retrysafe.errors import ConfigurationError, KeyMalformed
from retrysafe.http.key import LONGEST_KEY, KeyRules, read_key

LENIENT, STRICT = KeyRules(), KeyRules(strict=True)
UUID = "8e03978e-40d5-43dd-bc93-6894a57f9324"


def key(*values: bytes, rules: KeyRules = LENIENT, name: bytes = b"idempotency-key") -> str | None:
    return read_key([(b"host", b"x"), *((name, value) for value in values), (b"accept", b"*/*")], rules)


def problem(*values: bytes, rules: KeyRules = LENIENT) -> str:
    with pytest.raises(KeyMalformed) as caught:
        key(*values, rules=rules)
    return str(caught.value)


# Where it is looked for.


def test_a_request_without_a_key_has_none() -> None:
    """K7."""
    assert key() is None
    assert read_key([], LENIENT) is None


@pytest.mark.parametrize("name", [b"idempotency-key", b"Idempotency-Key", b"IDEMPOTENCY-KEY", b"Tracking-Id"])
def test_both_headers_are_read_by_default_in_any_case(name: bytes) -> None:
    """K1."""
    assert key(b"k1", name=name) == "k1"


def test_a_request_id_is_no_key_unless_it_is_listed() -> None:
    """K1: proxies make a new one for each attempt."""
    assert key(b"k1", name=b"x-request-id") is None
    assert key(b"k1", name=b"x-request-id", rules=KeyRules(headers=("X-Request-Id",))) == "k1"
    assert key(b"k1", rules=KeyRules(headers=("X-Request-Id",))) is None


@pytest.mark.parametrize("second", [b"k1", b'"k1"', b"k2", b""])
def test_two_lines_of_one_header_are_malformed_even_when_equal(second: bytes) -> None:
    """K1."""
    assert "more than once" in problem(b"k1", second)


def test_two_names_must_agree() -> None:
    """K1: on the key, not on its spelling."""

    def both(one: bytes, other: bytes) -> str | None:
        return read_key([(b"Idempotency-Key", one), (b"tracking-id", other)], LENIENT)

    assert both(b"k1", b"k1") == both(b'"k1"', b"k1") == "k1"
    for other in (b"k2", b"K1", b""):
        with pytest.raises(KeyMalformed):
            both(b"k1", other)


# How it is read.


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (UUID.encode(), UUID),
        (f'"{UUID}"'.encode(), UUID),
        (b'"k1";v=1', "k1"),
        (b'"k1"; a;b="x;y,z";c=?1;d=:aGk=:;e=@7;f=1.5;g=tok;h=%"%c3%bc"', "k1"),
        (rb'"a\"b\\c"', r'a"b\c'),
        (b'"a,b"', "a,b"),
        (b' "k1" ', "k1"),
        (b"\tk1 ", "k1"),
        (b"k;v=1", "k;v=1"),
        (b"a:b'c\\d", "a:b'c\\d"),
        (b":aGk=:", ":aGk=:"),
        (b"?1", "?1"),
        (b"42", "42"),
        (b"*%{}[]()", "*%{}[]()"),
    ],
)
def test_a_key_is_read_without_its_quotes(value: bytes, expected: str) -> None:
    """K2: bare or as an RFC 9651 String with escapes; parameters are ignored."""
    assert key(value) == expected


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"  ",
        b'""',
        b'"',
        b'"k1',
        b'k1"',
        b"k\"1'",
        b'"k"1"',
        rb'"k\1"',
        b'"k1"x',
        b'"k1" ;v=1',
        b'"k1";',
        b'"k1";V=1',
        b'"k1";v=',
        b'"a", "b"',
        b'"a","b"',
        b"a,b",
        b"a, b",
        b"a b",
        b'"a b"',
        b'" a"',
        b"a\tb",
        b"a\x00",
        b"a\x7f",
        b"a\r\nb",
        "é".encode(),
        b"\xe9",
        '"é"'.encode(),
        b'("a" "b")',
    ],
)
def test_what_is_no_key_is_malformed(value: bytes) -> None:
    """K2, K3: nothing is looked up."""
    with pytest.raises(KeyMalformed):
        key(value)


@pytest.mark.parametrize("value", [b"k1", UUID.encode(), b"42", b"?1", b":aGk=:", b"1.5", b'%"k1"', b"@7", b"a=b"])
def test_strict_accepts_only_the_quoted_form(value: bytes) -> None:
    """K2: the assertions of the IETF draft about other types."""
    assert problem(value, rules=STRICT)
    assert key(b'"k1";v=1', rules=STRICT) == "k1"


def test_the_length_counts_after_unquoting() -> None:
    """K3."""
    longest = b"k" * LONGEST_KEY
    assert key(longest) == key(b'"' + longest + b'"') == longest.decode()
    assert "256 characters" in problem(longest + b"k")
    assert "256 characters" in problem(b'"' + longest + b'k"')
    assert key(b'"' + rb"\\" * LONGEST_KEY + b'"') == "\\" * LONGEST_KEY


def test_a_minimum_length_can_be_asked_for() -> None:
    """K3."""
    rules = KeyRules(min_length=16)
    assert key(b"k" * 16, rules=rules) == "k" * 16
    assert "15 characters; 16 to 255" in problem(b'"' + b"k" * 15 + b'"', rules=rules)


def test_uuids_only_can_be_asked_for() -> None:
    """K3."""
    rules = KeyRules(uuid_only=True)
    assert key(UUID.encode(), rules=rules) == UUID
    assert key(f'"{UUID.upper()}"'.encode(), rules=rules) == UUID.upper()
    nil = b"00000000-0000-0000-0000-000000000000"
    for value in (b"k1", UUID[:-1].encode(), UUID.replace("-", "").encode(), f"{{{UUID}}}".encode(), nil):
        assert "UUID" in problem(value, rules=rules)


def test_messages_never_show_the_key() -> None:
    """K8: they end up in logs and answers."""
    secret = b"S3CRET"
    for value in (secret + b" x", b'"' + secret, secret * 50, b'"' + secret + b' "', secret + b","):
        assert "S3CRET" not in problem(value)
    assert "S3CRET" not in problem(secret, rules=STRICT)
    assert "S3CRET" not in problem(secret, rules=KeyRules(uuid_only=True))
    with pytest.raises(KeyMalformed) as caught:
        read_key([(b"idempotency-key", secret), (b"tracking-id", b"other")], LENIENT)
    assert "S3CRET" not in str(caught.value)


# Second opinion.

SHORT = st.text(st.sampled_from('"\\;= ,a1B:?@%*(-.\x7f\té'), max_size=14)
ITEMS = st.one_of(
    SHORT,
    SHORT.map('"{}"'.format),
    st.tuples(SHORT, SHORT).map(lambda parts: f'"{parts[0]}";a={parts[1]}'),
    st.tuples(SHORT, SHORT).map(lambda parts: f'"a";{parts[0]}="{parts[1]}"'),
    st.text(max_size=20),
)


@given(ITEMS)
@example('"a";b=-')
@example('"a";b=1.1234')
@example('"a";b=1234567890123456')
@example('"a";b=:aGk:')
@example('"a";b=(1)')
def test_strict_reads_what_another_reader_of_rfc_9651_reads(text: str) -> None:
    """K2, K3."""
    value = text.encode("utf-8", "replace")
    try:
        ours = key(value, rules=STRICT)
    except KeyMalformed:
        ours = None
    theirs, complaint = _their_reading(value)
    if theirs is not None and theirs.isascii() and theirs.isprintable() and " " not in theirs and theirs:
        assert ours == theirs
    elif ours is not None:
        # What an ignored parameter holds is not decoded here, only its shape is read.
        assert "decode" in complaint or "UTF-8" in complaint or "out of range" in complaint


def _their_reading(value: bytes) -> tuple[str | None, str]:
    try:
        found: Any = http_sf.parse(value.strip(b" \t"), tltype="item")
    except (http_sf.StructuredFieldError, ValueError) as error:
        return None, str(error)
    return (found[0], "") if type(found[0]) is str else (None, "")


@given(st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=LONGEST_KEY))
def test_any_visible_text_survives_quoting(text: str) -> None:
    """K2, K3: and bare and quoted are one key wherever bare is possible."""
    quoted = '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
    assert key(quoted.encode()) == key(quoted.encode(), rules=STRICT) == text
    if not {'"', ","} & set(text):
        assert key(text.encode()) == text


@given(st.binary(max_size=30), st.booleans())
def test_any_bytes_are_a_key_or_malformed(value: bytes, strict: bool) -> None:
    """K3."""
    try:
        found = key(value, rules=KeyRules(strict=strict))
    except KeyMalformed:
        return
    assert found is not None
    assert 1 <= len(found) <= LONGEST_KEY
    assert all("!" <= character <= "~" for character in found)


@pytest.mark.parametrize(
    "value", [b'"' + b"\\\\" * 50_000, b'"a"' + b";a" * 50_000 + b"=", b'"a";b="' + b" " * 100_000]
)
def test_a_hostile_value_is_read_in_one_pass(value: bytes) -> None:
    """K3: the time limit of the test is the assertion."""
    assert problem(value)


# Rules.


def test_rules_that_cannot_work_are_refused_with_every_problem_at_once() -> None:
    """K1, K3."""
    with pytest.raises(ConfigurationError) as caught:
        KeyRules(headers=("X Key", "Authorization"), min_length=300, uuid_only=True)
    assert len(caught.value.problems) == 4
    with pytest.raises(ConfigurationError, match="headers is empty"):
        KeyRules(headers=())
    with pytest.raises(ConfigurationError, match="min_length is 0"):
        KeyRules(min_length=0)


def test_one_string_is_not_a_list_of_headers() -> None:
    """K1."""
    values: dict[str, Any] = {"headers": "Idempotency-Key"}
    with pytest.raises(ConfigurationError, match="one string"):
        KeyRules(**values)
