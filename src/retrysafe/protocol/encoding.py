"""Stored outcomes and requests: versioned, never pickled, compressed when the body is above 1 KiB (S11).

A record is one format byte followed by a payload:

- ``0x01``: MessagePack
- ``0x02``: MessagePack, compressed with zlib

An unknown format byte is :class:`~retrysafe.errors.RecordUnreadable`: it is answered 503, and the operation is never
run instead.
"""

from __future__ import annotations

import zlib
from typing import TypeVar

import msgspec

from retrysafe.errors import RecordUnreadable
from retrysafe.protocol.model import Message, Outcome, StoredRequest

T = TypeVar("T")

_PLAIN = b"\x01"
_ZLIB = b"\x02"
_COMPRESS_ABOVE_BYTES = 1024
# Level 1: on JSON of a few KiB it costs a third of level 6 and is within 10 % of its size.
_ZLIB_LEVEL = 1

_encoder = msgspec.msgpack.Encoder()
_outcomes = msgspec.msgpack.Decoder(Outcome)
_requests = msgspec.msgpack.Decoder(StoredRequest)
_messages = msgspec.msgpack.Decoder(Message)


def encode_outcome(outcome: Outcome) -> bytes:
    """Encode an outcome for the store."""
    return _pack(_encoder.encode(outcome), len(outcome.body or b""))


def decode_outcome(record: bytes) -> Outcome:
    """Decode an outcome from the store.

    Raises:
        RecordUnreadable: the record has an unknown format version or is damaged (S11).
    """
    return _unpack(record, _outcomes)


def encode_message(message: Message) -> bytes:
    """Encode a message for the outbox (R12)."""
    return _pack(_encoder.encode(message), len(message.payload))


def decode_message(record: bytes) -> Message:
    """Decode a message from the outbox.

    Raises:
        RecordUnreadable: the record has an unknown format version or is damaged (S11).
    """
    return _unpack(record, _messages)


def encode_request(request: StoredRequest) -> bytes:
    """Encode what a re-run needs (R13)."""
    return _pack(_encoder.encode(request), len(request.body))


def decode_request(record: bytes) -> StoredRequest:
    """Decode what a re-run needs.

    Raises:
        RecordUnreadable: the record has an unknown format version or is damaged (S11).
    """
    return _unpack(record, _requests)


def _pack(payload: bytes, body_bytes: int) -> bytes:
    if body_bytes <= _COMPRESS_ABOVE_BYTES:
        return _PLAIN + payload
    packed = zlib.compress(payload, _ZLIB_LEVEL)
    # Images and archives do not shrink: keep them as they are.
    return _ZLIB + packed if len(packed) < len(payload) else _PLAIN + payload


def _unpack(record: bytes, decoder: msgspec.msgpack.Decoder[T]) -> T:
    head, payload = record[:1], record[1:]
    try:
        if head == _ZLIB:
            payload = zlib.decompress(payload)
        elif head != _PLAIN:
            message = f"unknown record format {head.hex() or 'empty'}"
            raise RecordUnreadable(message)
        return decoder.decode(payload)
    except (zlib.error, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        message = f"damaged record: {error}"
        raise RecordUnreadable(message) from error
