"""Stored outcomes and requests come back as they were, or not at all (S11)."""

from hashlib import sha256
from typing import get_args

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from retrysafe.errors import RecordUnreadable
from retrysafe.protocol import encoding
from retrysafe.protocol.encoding import Compression, decode_outcome, decode_request, encode_outcome, encode_request
from retrysafe.protocol.model import Outcome, StoredRequest
from tests.protocol.samples import OUTCOME

headers = st.lists(st.tuples(st.binary(max_size=20), st.binary(max_size=20)), max_size=5).map(tuple)
bodies = st.binary(max_size=100) | st.binary(min_size=1, max_size=8).map(lambda piece: piece * 1_000)
outcomes = st.builds(Outcome, st.integers(100, 599), headers, st.none() | bodies)
requests = st.builds(StoredRequest, st.text(max_size=10), st.binary(max_size=50), headers, bodies, st.text(max_size=30))

compressions = st.sampled_from(get_args(Compression))

DECODERS = [decode_outcome, decode_request]


@given(outcomes, compressions)
def test_an_outcome_comes_back_as_it_was(outcome: Outcome, compression: Compression) -> None:
    """S2, S11: status, header pairs in order with duplicates, and body; also that there is none."""
    assert decode_outcome(encode_outcome(outcome, compression)) == outcome


@given(requests, compressions)
def test_a_request_comes_back_as_it_was(request: StoredRequest, compression: Compression) -> None:
    """R13, S11."""
    assert decode_request(encode_request(request, compression)) == request


def test_an_empty_body_is_not_a_body_that_was_not_kept() -> None:
    """S5."""
    empty, dropped = Outcome(204, (), b""), Outcome(200, (), None)
    assert decode_outcome(encode_outcome(empty)).body == b""
    assert decode_outcome(encode_outcome(dropped)).body is None


def test_a_large_body_is_compressed_and_a_small_one_is_not() -> None:
    """S11: above 1 KiB."""
    assert encode_outcome(Outcome(200, (), b"x" * 900))[:1] == b"\x01"
    large = encode_outcome(Outcome(200, (), b"x" * 100_000))
    assert large[:1] == b"\x02"
    assert len(large) < 1_000


@pytest.mark.parametrize(("compression", "head"), [("zlib", b"\x02"), ("zstd", b"\x03"), ("none", b"\x01")])
def test_a_large_body_is_compressed_as_its_operation_says(compression: Compression, head: bytes) -> None:
    """S11."""
    assert encode_outcome(Outcome(200, (), b"x" * 100_000), compression)[:1] == head


def test_what_was_compressed_with_zstd_is_refused_where_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """S11: answered 503, with the fix, and never run again instead."""
    record = encode_outcome(Outcome(200, (), b"x" * 100_000), "zstd")
    monkeypatch.setattr(encoding, "has_zstd", lambda: False)
    with pytest.raises(RecordUnreadable, match=r"install retrysafe\[zstd\]"):
        decode_outcome(record)
    monkeypatch.undo()
    with pytest.raises(RecordUnreadable, match="damaged"):
        decode_outcome(record[:-5])


def test_what_does_not_shrink_is_kept_as_it_is() -> None:
    """S11: an image or an archive."""
    incompressible = b"".join(sha256(bytes([number])).digest() for number in range(200))
    assert encode_outcome(Outcome(200, (), incompressible))[:1] == b"\x01"


@pytest.mark.parametrize("decode", DECODERS)
@pytest.mark.parametrize("version", [b"", b"\x00", b"\x04", b"\x80", b"{"])
def test_an_unknown_format_is_refused(version: bytes, decode: object) -> None:
    """S11: written by a later version; answered 503 and never run again instead."""
    assert callable(decode)
    with pytest.raises(RecordUnreadable, match="unknown record format"):
        decode(version + (b"rest" if version else b""))


def test_a_damaged_record_is_refused() -> None:
    """S11."""
    record = encode_outcome(Outcome(200, (), b"x" * 100_000))
    for damaged in (record[:-5], record[:1] + record[9:], b"\x01" + record[1:], record[:1]):
        with pytest.raises(RecordUnreadable):
            decode_outcome(damaged)


@given(st.binary(max_size=60), st.sampled_from([b"", b"\x01", b"\x02"]), st.sampled_from(DECODERS))
@example(b"\x95\xa1\xff\xc4\x00\x90\xc4\x00\xa0", b"\x01", decode_request)
def test_no_bytes_do_worse_than_being_refused(payload: bytes, version: bytes, decode: object) -> None:
    """S11: whatever stands in the store, the answer is a record or RecordUnreadable."""
    assert callable(decode)
    try:
        found = decode(version + payload)
    except RecordUnreadable as error:
        assert "record" in str(error)  # noqa: PT017 - the record may also be a good one by chance
    else:
        assert isinstance(found, Outcome | StoredRequest)


def test_a_record_that_nests_without_end_is_refused() -> None:
    """S11."""
    with pytest.raises(RecordUnreadable):
        decode_outcome(b"\x01\x95\xcc\xc8\x90\xc0" + b"\x91" * 5_000)


def test_a_field_added_by_a_later_version_is_ignored() -> None:
    """S11: within one format version, what a later version appends does not hide what is there."""
    longer = msgspec.msgpack.encode([OUTCOME.status, OUTCOME.headers, OUTCOME.body, "new"])
    assert decode_outcome(b"\x01" + longer) == OUTCOME
