"""What a client asked for, which checkpoint it meant, and the keys for calls further down (F1 to F5, K4, K8, R4)."""

import hashlib
import hmac
from collections.abc import Callable
from itertools import combinations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrysafe.errors import ConfigurationError
from retrysafe.protocol import canonical, fingerprint
from retrysafe.protocol.fingerprint import FingerprintRules, Secret, child_key, identity_digest, key_hint
from tests.protocol.samples import OTHER_SECRET, SECRET, asked, same

PEPPER = b"p" * 32
BODY = b'{"amount": 1, "sent_at": "noon"}'
RESENT = b'{"sent_at":"one","amount":1.0}'


# What is stored.


def test_only_short_heads_of_requests_are_remembered() -> None:
    """A client's long media type, or another of each upload, must not fill the memory."""
    known = fingerprint._known_head.cache_info
    before = known().currsize
    for number in range(5):
        _ = asked(BODY, f"application/json; of={number}{'x' * 600}").stored
        _ = asked(BODY, "text/plain", path=b"/" + b"y" * (600 + number)).stored
    assert known().currsize == before


def test_a_stored_fingerprint_names_its_version_and_its_secret() -> None:
    """F2: version, secret, raw digest, canonical digest."""
    stored = asked(BODY).stored
    assert len(stored) == 3 + 4 + 32 + 32
    assert stored.startswith(b"v1:" + SECRET.id)
    assert asked(BODY, secrets=(SECRET, OTHER_SECRET)).stored == stored
    assert asked(BODY, secrets=(OTHER_SECRET, SECRET)).stored.startswith(b"v1:" + OTHER_SECRET.id)


def test_the_stored_form_never_changes_within_a_version() -> None:
    """F2: a checkpoint outlives the release that wrote it, so these digests are for ever."""
    stored = asked(
        BODY, query=b"b=1&a=2", headers=((b"X-Account", b"7"),), rules=FingerprintRules(headers=("x-account",))
    )
    digest = "0a1d408a6850f2d87596d075418623fec74cb78623fbf82362f82b2b4802a2ab"
    assert hashlib.sha256(stored.stored).hexdigest() == digest


def test_a_digest_is_the_hmac_of_the_standard_library() -> None:
    """F2."""
    for key in (b"k" * 16, b"k" * 64, b"k" * 65, b"k" * 200):
        assert Secret.of(key).hmac(b"head", b"tail") == hmac.digest(key, b"headtail", "sha256")


# What matches.


def test_the_same_request_matches() -> None:
    """F1."""
    assert asked(BODY).matches(asked(BODY).stored)


def test_the_same_meaning_in_other_bytes_matches() -> None:
    """F3."""
    assert same(b'{"a": 1, "b": [1.0]}', b'{"b":[1],"a":1e0}')


@pytest.mark.parametrize(
    "change",
    [
        {"method": "PUT"},
        {"path": b"/refunds"},
        {"path": b"/charges/"},
        {"path": b"/%63harges"},
        {"query": b"dry=1"},
        {"media_type": "text/plain"},
        {"body": b'{"amount": 2}'},
    ],
)
def test_another_request_does_not_match(change: dict[str, Any]) -> None:
    """F1, F2: method, raw path, query, media type, body."""
    one, other = asked(BODY), asked(**({"body": BODY} | change))
    assert not other.matches(one.stored)
    assert not one.matches(other.stored)


def test_a_query_in_another_order_of_names_is_the_same_request() -> None:
    """F2."""
    assert asked(query=b"a=1&b=2").matches(asked(query=b"b=2&a=1").stored)
    assert not asked(query=b"a=1&a=2").matches(asked(query=b"a=2&a=1").stored)


def test_text_that_looks_like_canonical_json_is_not_json() -> None:
    """F3: nor is JSON that had to be compared byte for byte."""
    pretty, compact = b'{"a": 1}', b'{"a":1}'
    assert same(pretty, compact)
    assert not asked(compact, "text/plain").matches(asked(pretty).stored)
    assert not asked(compact).matches(asked(pretty, rules=FingerprintRules(raw=True)).stored)


TEXTS = st.binary(max_size=4) | st.sampled_from([b"a", b"a:b", b"b:c", b"c", b""])


@given(st.tuples(TEXTS, TEXTS, TEXTS), st.tuples(TEXTS, TEXTS, TEXTS))
def test_bytes_cannot_move_from_one_part_of_the_request_to_another(
    one: tuple[bytes, bytes, bytes], other: tuple[bytes, bytes, bytes]
) -> None:
    """F2: each part is preceded by its length."""

    def of(parts: tuple[bytes, bytes, bytes]) -> Any:
        return asked(parts[2], "text/plain", path=parts[0], headers=((b"x-a", parts[1]),), rules=HEADER)

    assert of(one).matches(of(other).stored) is (one == other)


# Secrets and versions.


def test_fingerprints_under_an_earlier_secret_still_match_and_still_differ() -> None:
    """F2: two secrets during rotation, by raw and by canonical digest."""
    before = asked(b'{"a": 1}', secrets=(OTHER_SECRET,)).stored
    rotated = (SECRET, OTHER_SECRET)
    assert asked(b'{"a": 1}', secrets=rotated).matches(before)
    assert asked(b'{"a":1.0}', secrets=rotated).matches(before)
    assert not asked(b'{"a": 2}', secrets=rotated).matches(before)


def test_an_unknown_secret_or_version_matches_nothing() -> None:
    """F2: the answer is 422 and never a second run."""
    stored = asked(BODY).stored
    assert not asked(BODY, secrets=(OTHER_SECRET,)).matches(stored)
    for unknown in (b"", b"v1:", b"v2:" + stored[3:], b"V1:" + stored[3:], stored[:-1], stored + b"x", stored[3:]):
        assert not asked(BODY).matches(unknown)


@given(st.integers(3, 70), st.integers(1, 255))
def test_a_changed_stored_fingerprint_matches_only_by_the_digest_that_is_left(at: int, flip: int) -> None:
    """F5: a change in one digest leaves the other; a change in the secret's id leaves nothing."""
    stored = bytearray(asked(BODY).stored)
    stored[at] ^= flip
    assert asked(BODY).matches(bytes(stored)) is (at >= 7)


def test_both_digests_are_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """F5."""
    compared: list[tuple[bytes, bytes]] = []

    def compare(one: bytes, other: bytes) -> bool:
        compared.append((one, other))
        return hmac.compare_digest(one, other)

    monkeypatch.setattr("retrysafe.protocol.fingerprint.compare_digest", compare)
    assert not asked(BODY).matches(asked(b"{}").stored)
    assert [len(one) == len(other) == 32 for one, other in compared] == [True, True]


def test_an_equal_raw_digest_decides_without_reading_the_body(monkeypatch: pytest.MonkeyPatch) -> None:
    """F3: a retry that sends the same bytes costs one digest."""
    stored = asked(BODY).stored
    calls: list[bytes] = []
    read: Callable[..., tuple[bytes, bytes]] = canonical.body

    def count(media: canonical.MediaType, raw: bytes, fields: Any) -> tuple[bytes, bytes]:
        calls.append(raw)
        return read(media, raw, fields)

    monkeypatch.setattr(canonical, "body", count)
    assert asked(BODY).matches(stored)
    assert calls == []
    retry = asked(RESENT)
    assert not retry.matches(stored)
    assert not retry.matches(stored)
    assert retry.stored
    assert calls == [RESENT]


# Rules.

HEADER = FingerprintRules(headers=("X-A",))


def test_excluded_fields_do_not_count() -> None:
    """F4."""
    rules = FingerprintRules(exclude=frozenset({"$.sent_at"}))
    assert same(BODY, RESENT, rules=rules)
    assert not same(BODY, b'{"amount": 2}', rules=rules)
    assert not same(BODY, RESENT)


def test_only_included_fields_count() -> None:
    """F4."""
    rules = FingerprintRules(include=frozenset({"$.amount"}))
    assert same(BODY, RESENT, rules=rules)
    assert not same(BODY, b'{"amount": 2}', rules=rules)
    assert not same(b'{"amount": null}', b"{}", rules=rules)


def test_a_body_that_cannot_be_read_counts_as_a_whole_whatever_the_rules() -> None:
    """F4: rules for JSON must not make all damaged bodies look alike."""
    rules = FingerprintRules(include=frozenset({"$.amount"}))
    assert not same(b'{"amount": 1', b'{"amount": 1,', rules=rules)
    assert not same(b"a", b"b", "text/plain", rules=rules)


def test_form_fields_can_be_excluded() -> None:
    """F4."""
    rules = FingerprintRules(exclude=frozenset({"sent_at", "$.amount"}))
    form = "application/x-www-form-urlencoded"
    assert same(b"amount=1&sent_at=1", b"sent_at=2&amount=1", form, rules=rules)
    assert not same(b"amount=1", b"amount=2", form, rules=rules)


def test_raw_mode_compares_bytes() -> None:
    """F4."""
    rules = FingerprintRules(raw=True)
    assert same(BODY, BODY, rules=rules)
    assert not same(b'{"a": 1}', b'{"a":1}', rules=rules)


def test_named_headers_count_in_both_digests() -> None:
    """F4: by any spelling of the name, in the order of their values, and absence is not emptiness."""

    def of(body: bytes, *values: bytes, name: bytes = b"x-a") -> Any:
        return asked(body, headers=(*((name, value) for value in values), (b"x-b", b"?")), rules=HEADER)

    assert of(b"[1]", b"7").matches(of(b"[1]", b"7", name=b"X-A").stored)
    assert of(b"[1]", b"7").matches(of(b"[1.0]", b"7", name=b"X-A").stored)
    different = [(b"7",), (b"8",), (b"",), (), (b"7", b"8"), (b"8", b"7"), (b"78",), (b"7", b"")]
    for one, other in combinations(different, 2):
        assert not of(b"[1]", *one).matches(of(b"[1]", *other).stored)
    assert asked(b"[1]", headers=((b"x-a", b"7"),)).matches(asked(b"[1]").stored)


def test_rules_are_kept_in_one_spelling() -> None:
    """F4."""
    rules = FingerprintRules(headers=("X-Account", "If-Match"))
    assert rules.headers == ("x-account", "if-match")
    any_collection: Any = {"$.a"}
    assert FingerprintRules(exclude=any_collection) == FingerprintRules(exclude=frozenset({"$.a"}))


def test_rules_that_cannot_work_are_refused_with_every_problem_at_once() -> None:
    """F4."""
    with pytest.raises(ConfigurationError) as caught:
        FingerprintRules(
            include=frozenset({"$.a"}),
            exclude=frozenset({"$.", "$.b"}),
            raw=True,
            headers=("X A", "x-b", "X-B"),
        )
    text = str(caught.value)
    assert len(caught.value.problems) == 5
    for part in ("'$.'", "both given", "raw compares", "'X A'", "x-b more than once"):
        assert part in text


@pytest.mark.parametrize("name", ["include", "exclude", "headers"])
def test_one_string_is_not_a_collection_of_names(name: str) -> None:
    """F4."""
    values: dict[str, Any] = {name: "abc"}
    with pytest.raises(ConfigurationError, match="one string"):
        FingerprintRules(**values)


# Secrets.


def test_a_secret_never_shows_its_key() -> None:
    """K8."""
    assert "secret of 32" not in repr(SECRET)
    assert SECRET.key not in asked(BODY).stored
    assert SECRET.id != SECRET.key[:4]
    assert "amount" not in repr(asked(BODY))


def test_a_secret_is_the_same_wherever_it_is_made() -> None:
    """F2: processes with the same key understand each other."""
    again = Secret.of(bytes(SECRET.key))
    assert (again, again.id, len(again.id)) == (SECRET, SECRET.id, 4)
    assert again.id != OTHER_SECRET.id


def test_a_short_secret_is_refused() -> None:
    """F2."""
    assert Secret.of(b"x" * 16).key == b"x" * 16
    with pytest.raises(ConfigurationError, match="15 bytes"):
        Secret.of(b"x" * 15)


# Identity, child keys, hints.


@given(st.tuples(st.text(), st.text(), st.text()), st.tuples(st.text(), st.text(), st.text()))
def test_identities_are_equal_only_if_all_their_parts_are(
    one: tuple[str, str, str], other: tuple[str, str, str]
) -> None:
    """K4."""
    assert (identity_digest(PEPPER, *one) == identity_digest(PEPPER, *other)) is (one == other)


def test_a_delimiter_in_a_key_does_not_reach_into_another_scope() -> None:
    """K4: hostile text in one part cannot make it another part."""
    digests = {
        identity_digest(PEPPER, *parts)
        for parts in [("a:b", "c", "k"), ("a", "b:c", "k"), ("a", "b", "c:k"), ("", "a:b", "ck"), ("a\0b", "c", "k")]
    }
    assert len(digests) == 5
    assert {len(digest) for digest in digests} == {16}


def test_identity_depends_on_the_pepper() -> None:
    """K4: who has the digests cannot try keys."""
    assert identity_digest(PEPPER, "n", "p", "k") != identity_digest(b"q" * 32, "n", "p", "k")


def test_identity_survives_any_text() -> None:
    """K4: a lone surrogate in a principal's id is odd, but no reason to fail."""
    assert identity_digest(PEPPER, "n", "\ud800", "k") != identity_digest(PEPPER, "n", "\ud801", "k")


def test_an_identity_never_changes() -> None:
    """K4: it is the primary key of what is stored."""
    assert identity_digest(PEPPER, "shop", "user-1", "key-1").hex() == "7dd4d32eae745189a624deb8510d315d"


@given(st.tuples(st.text(), st.text(), st.integers()), st.tuples(st.text(), st.text(), st.integers()))
def test_child_keys_are_equal_only_for_the_same_call(one: tuple[str, str, int], other: tuple[str, str, int]) -> None:
    """R4."""
    assert (child_key(*one) == child_key(*other)) is (one == other)


def test_a_child_key_is_the_same_for_every_attempt_and_in_every_release() -> None:
    """R4: the service that is called remembers it."""
    key = child_key("0195f2a0-0000-7000-8000-000000000000", "charge", 3)
    assert key == "nwyropmaxulsx44g7f6xk3zayfvvtday"
    assert len(key) == 32
    assert set(key) <= set("abcdefghijklmnopqrstuvwxyz234567")
    assert child_key("op", "charge") == child_key("op", "charge", 0)


@given(st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), max_size=255))
def test_a_hint_shows_at_most_six_characters_and_a_quarter_of_the_key(key: str) -> None:
    """K8."""
    shown = key_hint(key).removesuffix("…")
    assert key.startswith(shown)
    assert len(shown) == min(6, len(key) // 4)
