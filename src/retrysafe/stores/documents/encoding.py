"""Rows as bytes: a format byte, and a MessagePack array of the row's fields in their order (S11).

The same row always becomes the same bytes, so that a verb which changed nothing is known by them.
"""

from __future__ import annotations

import msgspec

from retrysafe.errors import RecordUnreadable
from retrysafe.stores.documents.row import Row

_FORMAT = b"\x01"

_encoder = msgspec.msgpack.Encoder()
_rows = msgspec.msgpack.Decoder(Row)


def encode_row(row: Row) -> bytes:
    """Encode a row for the store."""
    return _FORMAT + _encoder.encode(row)


def decode_row(body: bytes) -> Row:
    """Decode a row from the store.

    Raises:
        RecordUnreadable: a newer version wrote it, or it is damaged; it is never run instead (S11).
    """
    if body[:1] != _FORMAT:
        raise RecordUnreadable(f"unknown format of a document: {body[:1].hex() or 'empty'}")
    try:
        return _rows.decode(memoryview(body)[1:])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RecordUnreadable(f"a document can't be read: {error}") from error
