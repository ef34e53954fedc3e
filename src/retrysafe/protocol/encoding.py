"""Stored outcomes and requests: versioned, never pickled, compressed when the body is above 1 KiB (S11).

A record is one format byte followed by a payload:

- ``0x01``: MessagePack
- ``0x02``: MessagePack, compressed with zlib
- ``0x03``: MessagePack, compressed with zstd, which is in the standard library from Python 3.14 on; the extra ``zstd``
  brings it to others

An unknown format byte is :class:`~retrysafe.errors.RecordUnreadable`: it is answered 503, and the operation is never
run instead.
"""

from __future__ import annotations

import sys
import zlib
from functools import cache
from importlib import import_module
from typing import Any, Literal, TypeVar

import msgspec

from retrysafe.errors import RecordUnreadable
from retrysafe.protocol.model import Message, Outcome, StoredRequest

T = TypeVar("T")

Compression = Literal["zlib", "zstd", "none"]

_PLAIN = b"\x01"
_ZLIB = b"\x02"
_ZSTD = b"\x03"
_COMPRESS_ABOVE_BYTES = 1024
# Level 1: on JSON of a few KiB it costs a third of level 6 and is within 10 % of its size.
_ZLIB_LEVEL = 1
# Level 1, too: in half the time of zlib's, and the result is smaller.
_ZSTD_LEVEL = 1

_encoder = msgspec.msgpack.Encoder()
_outcomes = msgspec.msgpack.Decoder(Outcome)
_requests = msgspec.msgpack.Decoder(StoredRequest)
_messages = msgspec.msgpack.Decoder(Message)


def encode_outcome(outcome: Outcome, compression: Compression = "zlib") -> bytes:
    """Encode an outcome for the store.

    Args:
        outcome: what a checkpoint keeps.
        compression: how a body above 1 KiB is made smaller.
    """
    return _pack(_encoder.encode(outcome), len(outcome.body or b""), compression)


def decode_outcome(record: bytes) -> Outcome:
    """Decode an outcome from the store.

    Raises:
        RecordUnreadable: the record has an unknown format version or is damaged (S11).
    """
    return _unpack(record, _outcomes)


def encode_message(message: Message) -> bytes:
    """Encode a message for the outbox (R12)."""
    return _pack(_encoder.encode(message), len(message.payload), "zlib")


def decode_message(record: bytes) -> Message:
    """Decode a message from the outbox.

    Raises:
        RecordUnreadable: the record has an unknown format version or is damaged (S11).
    """
    return _unpack(record, _messages)


def encode_request(request: StoredRequest, compression: Compression = "zlib") -> bytes:
    """Encode what a re-run needs, like :func:`encode_outcome` (R13)."""
    return _pack(_encoder.encode(request), len(request.body), compression)


def decode_request(record: bytes) -> StoredRequest:
    """Decode what a re-run needs.

    Raises:
        RecordUnreadable: the record has an unknown format version or is damaged (S11).
    """
    return _unpack(record, _requests)


def _pack(payload: bytes, body_bytes: int, compression: Compression) -> bytes:
    if body_bytes <= _COMPRESS_ABOVE_BYTES or compression == "none":
        return _PLAIN + payload
    if compression == "zstd":
        head, packed = _ZSTD, _zstd().compress(payload, _ZSTD_LEVEL)
    else:
        head, packed = _ZLIB, zlib.compress(payload, _ZLIB_LEVEL)
    # Images and archives do not shrink: keep them as they are.
    return head + packed if len(packed) < len(payload) else _PLAIN + payload


def _unpack(record: bytes, decoder: msgspec.msgpack.Decoder[T]) -> T:
    head, payload = record[:1], record[1:]
    try:
        if head == _ZLIB:
            payload = zlib.decompress(payload)
        elif head == _ZSTD:
            payload = _decompressed(payload)
        elif head != _PLAIN:
            message = f"unknown record format {head.hex() or 'empty'}"
            raise RecordUnreadable(message)
        return decoder.decode(payload)
    except (zlib.error, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        message = f"damaged record: {error}"
        raise RecordUnreadable(message) from error


def has_zstd() -> bool:
    """Tell whether this process can write and read zstd."""
    try:
        _zstd()
    except ImportError:
        return False
    return True


@cache
def _zstd() -> Any:  # noqa: ANN401 - one of two modules with the same functions
    return import_module("compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd")


def _decompressed(payload: bytes) -> bytes:
    if not has_zstd():
        # What this process cannot read another one can: nothing is damaged.
        message = "the record is compressed with zstd: install retrysafe[zstd] in every process that may read it"
        raise RecordUnreadable(message)
    try:
        decompressed: bytes = _zstd().decompress(payload)
    except _zstd().ZstdError as error:
        message = f"damaged record: {error}"
        raise RecordUnreadable(message) from error
    return decompressed
