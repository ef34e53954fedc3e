"""What means the same has the same bytes, and nothing else has (F3). RFC 8785 is the second opinion on JSON."""

import json
from decimal import Decimal
from random import Random
from typing import Any
from urllib.parse import quote_plus

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from retrysafe.protocol.canonical import MOST_BYTES, MOST_FIELDS, body, framed, media_type, query
from retrysafe.protocol.selection import selection
from tests.protocol.samples import same

JSON = media_type("application/json")
FORM = "application/x-www-form-urlencoded"


def form_used(raw: bytes, media: str = "application/json") -> str:
    return body(media_type(media), raw, None)[0].decode()


# Length prefixes.


@given(st.lists(st.binary(max_size=6), max_size=4), st.lists(st.binary(max_size=6), max_size=4))
def test_framed_parts_are_equal_only_if_the_parts_are(one: list[bytes], other: list[bytes]) -> None:
    """F2, K4."""
    assert (framed(one) == framed(other)) is (one == other)


def test_a_delimiter_inside_a_part_does_not_move_its_border() -> None:
    """F2, K4."""
    assert framed([b"a:b", b"c"]) != framed([b"a", b"b:c"])


# JSON: the same.


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (b'{"a": 1, "b": 2}', b'{"b":2,"a":1}'),
        (b" [1,\r\n\t2] ", b"[1,2]"),
        (b"1.0", b"1"),
        (b"1e0", b"1"),
        (b"100", b"1E2"),
        (b"100", b"1000e-1"),
        (b"-0", b"0"),
        (b"-0.0e7", b"0"),
        (b"0.10", b"0.1"),
        (b"0.1", b"1e-1"),
        (b"1e30", b"1" + b"0" * 30),
        (b"1.5e30", b"15" + b"0" * 29),
        (b"1e18", b"1" + b"0" * 18),
        (b"1e17", b"1" + b"0" * 17),
        (b"-12345678901234567890123.4500", b"-1234567890123456789012345e-2"),
        (rb'"\u0041\/\u00e9"', '"A/é"'.encode()),
        (rb'"\ud83d\ude00"', '"😀"'.encode()),
        (rb'{"\u0061": 1}', b'{"a": 1}'),
        (rb'"\u000a"', rb'"\n"'),
    ],
)
def test_json_that_means_the_same_is_the_same(one: bytes, other: bytes) -> None:
    """F3: order of members, blanks, spelling of numbers, escapes."""
    assert same(one, other)
    assert form_used(one) == form_used(other) == "json"


# JSON: different.


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (b'{"a": null}', b"{}"),
        (b"[1,2]", b"[2,1]"),
        (b"9007199254740992", b"9007199254740993"),
        (b"1" + b"0" * 30, b"1" + b"0" * 29 + b"1"),
        (b"0.1", b"0.1000000000000000055"),
        (b"1e400", b"1e401"),
        (b"1", b'"1"'),
        (b"1", b"true"),
        (b"0", b"false"),
        (b"0", b"null"),
        (b"[]", b"{}"),
        (b"1", b"-1"),
        (b"1e-1", b"1e1"),
        (b"1e30", b'"1e30"'),
        ('"é"'.encode(), '"e\u0301"'.encode()),
        (b'"a"', b'"A"'),
    ],
)
def test_json_that_means_something_else_is_different(one: bytes, other: bytes) -> None:
    """F3: null is not absence, arrays have an order, numbers are exact."""
    assert not same(one, other)
    assert form_used(one) == form_used(other) == "json"


# JSON: byte for byte.


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b'{"a": 1, "a": 1}',
        rb'{"a": 1, "\u0061": 2}',
        b'[{"x": {"a": 1, "a": 2}}]',
        b"NaN",
        b"[-Infinity]",
        b"01",
        b"1 2",
        b"{'a': 1}",
        b'"\xff"',
        rb'"\ud800"',
        rb'{"\udc00": 1}',
        b'"\x00"',
        b"\xef\xbb\xbf1",
        '{"a": 1}'.encode("utf-16"),
        b"1e" + b"9" * 19,
        b"[" * 100_000 + b"]" * 100_000,
        b'{"a":' * 100_000,
        b"\xa01",
        b"1" + "\u00a0".encode(),
    ],
    ids=lambda raw: repr(raw[:20]),
)
def test_what_is_not_plain_json_counts_byte_for_byte(raw: bytes) -> None:
    """F3: duplicate members, constants, nesting without end, lone surrogates; parsers disagree about each of them."""
    assert form_used(raw) == "raw"
    assert body(JSON, raw, None)[1] == raw
    assert not same(raw, raw + b" ")


@pytest.mark.parametrize(
    "number", [b"1e999999999", b"-1e-999999999999999", b"9" * 100_000, b"0." + b"0" * 99_999 + b"1"]
)
def test_a_huge_number_is_exact_and_stays_small(number: bytes) -> None:
    """F3: it is written as digits and exponent, and never multiplied out."""
    used, canonical = body(JSON, b"[" + number + b"]", None)
    assert used == b"json"
    assert len(canonical) <= len(number) + 20
    assert same(number, number + (b"0" if b"." in number else b" "))


# JSON: any document, spelled anew.

names = st.text(st.characters(codec="utf-8"), max_size=4) | st.sampled_from(["a", "b", "A", "é", "\u2028", "😀"])
numbers = st.integers(1 - 2**53, 2**53 - 1) | st.builds(
    lambda digits, exponent: float(f"{digits}e{exponent}"), st.integers(-(10**15), 10**15), st.integers(-25, 25)
)
documents = st.recursive(
    st.none() | st.booleans() | numbers | names,
    lambda below: st.lists(below, max_size=4) | st.dictionaries(names, below, max_size=4),
    max_leaves=10,
)
dice = st.randoms(use_true_random=False)


def spelled(document: Any, chance: Random) -> str:
    """Write a document as JSON in one of its many spellings."""
    blank = chance.choice(["", "", " ", "\n\t"])
    match document:
        case dict():
            members = list(document.items())
            chance.shuffle(members)
            inner = ",".join(
                f"{blank}{spelled(name, chance)}{blank}:{spelled(value, chance)}" for name, value in members
            )
            return f"{blank}{{{inner}{blank}}}"
        case list():
            return f"[{','.join(spelled(element, chance) for element in document)}{blank}]"
        case str():
            return '"' + "".join(_character(character, chance) for character in document) + '"'
        case bool() | None:
            return json.dumps(document) + blank
        case _:
            return blank + _number(Decimal(repr(document)), chance)


def _character(character: str, chance: Random) -> str:
    if chance.random() < 0.7:
        return json.dumps(character, ensure_ascii=False)[1:-1]
    pair = character.encode("utf-16-be")
    units = [pair[at : at + 2].hex() for at in range(0, len(pair), 2)]
    return "".join("\\u" + (unit.upper() if chance.random() < 0.5 else unit) for unit in units)


def _number(number: Decimal, chance: Random) -> str:
    sign, digits, exponent = number.as_tuple()
    assert isinstance(exponent, int)
    text, zeros = "".join(map(str, digits)), chance.randrange(3)
    text, exponent = text + "0" * zeros, exponent - zeros
    minus = "-" if sign else ""
    if chance.random() < 0.5 and len(text) > 1 and text[0] != "0":
        return f"{minus}{text[0]}.{text[1:]}{chance.choice('eE')}{exponent + len(text) - 1:{chance.choice(['', '+'])}}"
    return minus + (text if exponent == 0 else f"{text.lstrip('0') or '0'}e{exponent}")


@given(documents, dice)
def test_any_spelling_of_a_document_is_the_same(document: Any, chance: Random) -> None:
    """F3."""
    assert same(spelled(document, chance).encode(), spelled(document, chance).encode())


@given(documents, documents, dice)
def test_documents_are_the_same_exactly_when_rfc_8785_says_so(one: Any, other: Any, chance: Random) -> None:
    """F3: within what RFC 8785 can tell apart, which is doubles."""
    assert same(spelled(one, chance).encode(), spelled(other, chance).encode()) is (
        rfc8785.dumps(one) == rfc8785.dumps(other)
    )


@given(documents, dice, st.data())
def test_one_changed_leaf_makes_another_document(document: Any, chance: Random, data: st.DataObject) -> None:
    """F3: and RFC 8785 agrees whenever it can."""
    changed = _changed(document, data)
    equal = rfc8785.dumps(document) == rfc8785.dumps(changed)
    assert same(spelled(document, chance).encode(), spelled(changed, chance).encode()) is equal


def _changed(document: Any, data: st.DataObject) -> Any:
    if document and isinstance(document, list):
        at = data.draw(st.integers(0, len(document) - 1))
        return [*document[:at], _changed(document[at], data), *document[at + 1 :]]
    if document and isinstance(document, dict):
        name = data.draw(st.sampled_from(sorted(document)))
        return {**document, name: _changed(document[name], data)}
    return data.draw(numbers | names | st.none())


@given(st.integers() | st.integers(-(10**60), 10**60), st.integers(-60, 60), st.integers() | st.integers(0, 10**60))
def test_numbers_are_the_same_exactly_when_they_are_equal(digits: int, exponent: int, other: int) -> None:
    """F3: decimal arithmetic is the judge, and nothing is rounded."""
    one = f"{digits}e{exponent}"
    exact = Decimal(one).normalize() if len(str(digits)) < 28 else Decimal(one)
    assert same(one.encode(), str(other).encode()) is (Decimal(one) == other)
    assert same(one.encode(), f"{exact:f}".encode())
    assert same(f"{digits * 100}.000e{exponent - 2}".encode(), one.encode())


# Media types.


def test_parameters_that_mean_nothing_are_dropped() -> None:
    """F3."""
    plain = media_type("application/json")
    for text in (
        "Application/JSON",
        " application/json ",
        "application/json;charset=UTF-8",
        'application/json ; charset="utf-8";',
    ):
        assert media_type(text) == plain
    assert media_type("multipart/form-data; boundary=a").canonical == media_type("multipart/form-data").canonical


def test_parameters_that_may_mean_something_are_kept() -> None:
    """F3: some services carry the version of their format there."""
    versions = {
        media_type(text)
        for text in (
            "application/json",
            "application/json; v=1",
            "application/json; v=2",
            "application/json; charset=latin-1",
            "application/vnd.shop+json",
            "text/plain; boundary=a",
            "application/json; v",
            'application/json; v="',
        )
    }
    assert len(versions) == 8
    assert media_type("a/b; x=1; Y=2") == media_type("a/b;y=2;x=1")


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("application/json", b"json"),
        ("application/problem+json; charset=utf-8", b"json"),
        (FORM, b"form"),
        ("multipart/form-data; boundary=x", b"multipart"),
        ("multipart/mixed; boundary=x", b"raw"),
        ("application/json-seq", b"raw"),
        ("text/plain", b"raw"),
        ("", b"raw"),
        ("application/json, text/plain", b"raw"),
    ],
)
def test_the_form_follows_from_the_media_type(text: str, form: bytes) -> None:
    """F3."""
    assert media_type(text).form == form


@pytest.mark.parametrize(
    "text", ["a/b;" + " " * 300_000 + '"', "a/b;x=" + "a" * 300_000 + '"', 'a/b;x="' + "\\a" * 150_000, ";=" * 150_000]
)
def test_a_hostile_media_type_is_read_in_one_pass(text: str) -> None:
    """F3: the time limit of the test is the assertion; what cannot be read stays as it came."""
    assert media_type(text).canonical == text.encode()


# Queries and forms.


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (b"a=1&b=2", b"b=2&a=1"),
        (b"a=%41+b", b"a=A%20b"),
        (b"a=1&b=2&a=3", b"b=2&a=1&a=3"),
        (b"a", b"a="),
        (b"a=1&&b=2&", b"a=1&b=2"),
        (b"%61=1", b"a=1"),
    ],
)
def test_pairs_that_mean_the_same_are_the_same(one: bytes, other: bytes) -> None:
    """F2, F3: sorted by name."""
    assert query(one) == query(other)
    assert same(one, other, FORM)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (b"a=1&a=2", b"a=2&a=1"),
        (b"a=1", b"a=1&a=1"),
        (b"a=1", b""),
        (b"a=b%26c=d", b"a=b&c=d"),
        (b"a=%3D1", b"a==1x"),
        (b"a=1", b"A=1"),
        (b"i[][n]=a&i[][q]=2&i[][n]=b", b"i[][n]=a&i[][n]=b&i[][q]=2"),
    ],
)
def test_pairs_that_mean_something_else_are_different(one: bytes, other: bytes) -> None:
    """F2, F3: pairs of one name keep their order, and so do lists of records."""
    assert query(one) != query(other)
    assert not same(one, other, FORM)


@given(st.lists(st.tuples(st.text(min_size=1, max_size=5), st.text(max_size=5)), max_size=6), dice)
def test_a_form_may_be_written_in_any_order_of_names(pairs: list[tuple[str, str]], chance: Random) -> None:
    """F3."""
    pairs = [(name.replace("[]", ""), value) for name, value in pairs if name.replace("[]", "")]
    named = sorted({name for name, _ in pairs})
    chance.shuffle(named)
    shuffled = [(name, value) for wanted in named for name, value in pairs if name == wanted]
    one, other = ("&".join(f"{_quoted(n)}={_quoted(v)}" for n, v in each).encode() for each in (pairs, shuffled))
    assert same(one, other, FORM)


def _quoted(text: str) -> str:
    return quote_plus(text, errors="surrogatepass")


def test_a_form_with_too_many_fields_counts_byte_for_byte() -> None:
    """F3: sorting stays cheap, whatever is sent."""
    most = b"&".join([b"a=1"] * MOST_FIELDS)
    assert form_used(most, FORM) == "form"
    assert form_used(most + b"&a=1", FORM) == "raw"


# Multipart.


def multipart(*parts: tuple[str, bytes], boundary: str = "xyz") -> tuple[bytes, str]:
    pieces = [f"--{boundary}\r\n{head}\r\n\r\n".encode() + content + b"\r\n" for head, content in parts]
    return b"".join(pieces) + f"--{boundary}--\r\n".encode(), f"multipart/form-data; boundary={boundary}"


def canonical_multipart(raw: bytes, media: str) -> bytes:
    used, canonical = body(media_type(media), raw, None)
    assert used == b"multipart"
    return canonical


NAME = ('Content-Disposition: form-data; name="name"', b"Ada")
FILE = (
    'Content-Disposition: form-data; name="file"; filename="a.txt"\r\nContent-Type: text/plain',
    b"\x00\r\n--xy\r\n",
)


def test_the_boundary_of_a_multipart_body_means_nothing() -> None:
    """F3."""
    assert canonical_multipart(*multipart(NAME, FILE)) == canonical_multipart(*multipart(NAME, FILE, boundary="q-1"))
    quoted = multipart(NAME, FILE)[0], 'multipart/form-data; boundary="xyz"'
    assert canonical_multipart(*quoted) == canonical_multipart(*multipart(NAME, FILE))


def test_the_spelling_of_part_headers_means_nothing() -> None:
    """F3: the order and the case of header names, blanks, quotes where they are not needed."""
    loose = "content-type:text/plain\r\ncontent-disposition: Form-Data;filename=a.txt; name=file"
    assert canonical_multipart(*multipart(FILE)) == canonical_multipart(*multipart((loose, FILE[1])))


@pytest.mark.parametrize(
    "other",
    [
        multipart(FILE, NAME),
        multipart(NAME),
        multipart(NAME, NAME, FILE),
        multipart(NAME, (FILE[0], b"other")),
        multipart(NAME, (FILE[0].replace("a.txt", "b.txt"), FILE[1])),
        multipart(NAME, (FILE[0].replace("text/plain", "text/html"), FILE[1])),
        multipart(NAME, (FILE[0].replace('"file"', '"File"'), FILE[1])),
        multipart(NAME, (FILE[0] + "\r\nContent-Transfer-Encoding: base64", FILE[1])),
    ],
)
def test_what_the_parts_hold_means_something(other: tuple[bytes, str]) -> None:
    """F3: order, name, file name, content type, body."""
    assert canonical_multipart(*other) != canonical_multipart(*multipart(NAME, FILE))


def test_fields_of_a_multipart_form_can_be_left_out() -> None:
    """F4."""
    rules = selection(frozenset(), frozenset({"name"}))
    with_name, without = multipart(NAME, FILE), multipart(FILE)
    media = media_type(with_name[1])
    assert body(media, with_name[0], rules) == body(media, without[0], rules)


_WHOLE = multipart(NAME)[0]


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"--xyz",
        b"preamble\r\n" + _WHOLE,
        _WHOLE + b"epilogue",
        _WHOLE.replace(b"--xyz--", b"--xyz"),
        _WHOLE.replace(b"\r\n", b"\n"),
        _WHOLE.replace(b"name=", b"nom="),
        _WHOLE.replace(b"form-data", b"attachment"),
        _WHOLE.replace(b": form", b" form"),
        _WHOLE.replace(b"\r\n\r\n", b"\r\nContent-Disposition: form-data; name=x\r\n\r\n"),
        _WHOLE.replace(b"\r\n\r\n", b"\r\n folded\r\n\r\n"),
        _WHOLE.replace(b'"name"', b'"\xff"'),
        _WHOLE.replace(b'"name"', b'"name'),
        _WHOLE.replace(b"\r\n\r\n", b"\r\nX: " + b"x" * 20_000 + b"\r\n\r\n"),
        _WHOLE.replace(b"--xyz\r\n", b"--xyz  junk\r\n"),
        b"--xyz\r\n" + b"\r\n--xyz" * 20_000 + b"--",
    ],
    ids=lambda raw: repr(raw[:30]),
)
def test_a_multipart_body_out_of_shape_counts_byte_for_byte(raw: bytes) -> None:
    """F3: it must not mean one thing to us and another to the operation's parser."""
    assert form_used(raw, "multipart/form-data; boundary=xyz") == "raw"


@pytest.mark.parametrize(
    "media", ["multipart/form-data", "multipart/form-data; boundary=", "multipart/form-data; boundary"]
)
def test_a_multipart_body_without_a_boundary_counts_byte_for_byte(media: str) -> None:
    """F3."""
    assert form_used(_WHOLE, media) == "raw"


contents = st.binary(max_size=12)


@given(
    st.lists(st.tuples(st.sampled_from(["a", "b"]), contents), max_size=3),
    st.lists(st.tuples(st.sampled_from(["a", "b"]), contents), max_size=3),
)
def test_multipart_bodies_are_the_same_exactly_when_their_parts_are(
    one: list[tuple[str, bytes]], other: list[tuple[str, bytes]]
) -> None:
    """F3."""
    first, second = (
        multipart(
            *((f"Content-Disposition: form-data; name={name}", content) for name, content in parts), boundary=mark
        )
        for parts, mark in ((one, "0123456789abcdef"), (other, "fedcba9876543210"))
    )
    if one and other:
        assert (canonical_multipart(*first) == canonical_multipart(*second)) is (one == other)


# Anything.


@given(
    st.binary(max_size=60) | st.text(max_size=30).map(lambda text: text.encode("utf-8", "surrogatepass")),
    st.sampled_from(["application/json", FORM, "multipart/form-data; boundary=a", "text/plain", "", "a/b+json;;=", ";"])
    | st.text(max_size=30),
)
def test_no_bytes_and_no_media_type_are_an_error(raw: bytes, media: str) -> None:
    """F3: a fingerprint always exists, and equal bytes are always the same."""
    read = media_type(media)
    used, canonical = body(read, raw, None)
    assert used in {read.form, b"raw"}
    assert used != b"raw" or canonical == raw
    assert same(raw, bytes(bytearray(raw)), media)
    assert isinstance(query(raw), bytes)


def test_a_query_with_more_pairs_than_anybody_means_counts_byte_for_byte() -> None:
    """F2: and is no error."""
    raw = b"&".join([b"a=1"] * (MOST_FIELDS + 1))
    assert query(raw) == raw


def test_json_that_would_keep_everybody_waiting_counts_byte_for_byte() -> None:
    """F3."""
    large = b"[" + b"1.0," * MOST_BYTES + b"1]"
    assert body(media_type("application/json"), large, None) == (b"raw", large)
