"""How a checkpoint, a memo and a line of the audit lie in Redis: one packed string each.

::

    front                             id  text                            reason  request  outcome
    layout state mode flags counters  16  attempt name namespace ...      -       -        -
    instants, lengths of the rest

A packed string costs half of a hash of fields. Its front has a fixed size, so that scripts change states, fences and
instants without touching the rest. ``scripts/parts/checkpoint.lua`` draws the same picture; a test compares the two.
"""

from __future__ import annotations

from collections.abc import Container, Iterator
from functools import lru_cache
from struct import Struct, error
from typing import Any, NamedTuple

import msgspec

from retrysafe.errors import RecordUnreadable
from retrysafe.protocol.model import Ask, Checkpoint, Mode
from retrysafe.protocol.operator import Audit, Verb
from retrysafe.protocol.states import State
from retrysafe.protocol.steps import PIVOT, Memo, StepKind, StepStatus
from retrysafe.stores.documents.row import Row

LAYOUT = 1
"""Of everything below; a record of another one is of a newer version, and is left alone (S11)."""

# Numbers that are stored: they never change, whatever order the enumerations are in.
STATE_CODES = {
    State.RUNNING: 1,
    State.STREAMING: 2,
    State.RELEASED: 3,
    State.UNDOING: 4,
    State.PARKED: 5,
    State.DONE: 6,
    State.UNDONE: 7,
    State.EXPIRED: 8,
}
MODE_CODES = {Mode.ONCE: 1, Mode.AGAIN: 2, Mode.STEPS: 3, Mode.TRANSACTION: 4}
STATUS_CODES = {StepStatus.INTENT: 1, StepStatus.DONE: 2, StepStatus.REFUSED: 3}

_STATES = {code: state for state, code in STATE_CODES.items()}
_MODES = {code: mode for mode, code in MODE_CODES.items()}
_STATUSES = {code: status for status, code in STATUS_CODES.items()}
_UNDOING, _PIVOTED = 1, 2

FRONT = Struct(">BBBBIIIiIIddddddddBIiii")
BEFORE_INSTANTS = Struct(">BBBBIIIiII")
LENGTHS = Struct(">BIiii")
_MEMO = Struct(">BIdddiI")
_MICROS = Struct(">Q")

_PIVOT = Memo(PIVOT, 0, 0, StepKind.PIVOT, StepStatus.DONE, 0)
"""Stands for the pivot's memo where only that there is one matters."""

_packer = msgspec.msgpack.Encoder()
_texts = msgspec.msgpack.Decoder(tuple[bytes, str, str, str, str, bytes])
_bases = msgspec.msgpack.Decoder(tuple[str, int, int, str, str | None, bytes | None])
_lines = msgspec.msgpack.Decoder(tuple[float, str, str, str, str, str, str, int])


class Met(NamedTuple):
    """A checkpoint as it was read.

    Attributes:
        row: the checkpoint; of its memos only whether it has passed its pivot.
        now: when it was read, by the store's clock.
        id: its operation id as it is stored.
        revision: grows with each write; who would replace the checkpoint names the one that was read.
    """

    row: Row
    now: float
    id: bytes
    revision: int

    @property
    def seen(self) -> Checkpoint:
        """The checkpoint as of then."""
        return self.row.seen(self.now)


# An attempt's writes follow its claim.
@lru_cache(maxsize=4096)
def pack_id(text: str) -> bytes:
    """Return an id in 16 bytes, if it is a UUID as we write it; else its text, which never has 16 bytes."""
    if len(text) == 36:
        try:
            packed = bytes.fromhex(text.replace("-", ""))
        except ValueError:
            packed = b""
        if len(packed) == 16 and unpack_id(packed) == text:
            return packed
    packed = text.encode()
    return packed + b"\0" if len(packed) == 16 else packed


def unpack_id(packed: bytes) -> str:
    """Return the id that :func:`pack_id` packed."""
    if len(packed) != 16:
        return packed.removesuffix(b"\0").decode()
    digits = packed.hex()
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def pack_new(ask: Ask) -> tuple[bytes, bytes, bytes]:
    """Pack the checkpoint of a first claim around its instants, which the server writes.

    Returns:
        What comes before the instants, what comes behind, and the id.
    """
    identity, packed_id = ask.identity, pack_id(ask.attempt_id)
    text = _packer.encode(
        # The first attempt has the operation's id.
        (b"", ask.name, identity.namespace, identity.principal, identity.key_hint, ask.fingerprint.stored)
    )
    front = BEFORE_INSTANTS.pack(LAYOUT, 1, MODE_CODES[ask.mode], 0, 0, 1, 1, 0, 0, ask.version)
    request = ask.request
    lengths = LENGTHS.pack(len(packed_id), len(text), -1, -1 if request is None else len(request), -1)
    return front, b"".join((lengths, packed_id, text, request or b"")), packed_id


def pack(met: Met) -> bytes:
    """Pack a checkpoint whose row was changed, to take the place of what was met."""
    row = met.row
    attempt = b"" if row.attempt_id == row.operation_id else pack_id(row.attempt_id)
    text = _packer.encode((attempt, row.name, row.namespace, row.principal, row.key_hint, row.fingerprint))
    reason = None if row.reason is None else row.reason.encode()
    front = FRONT.pack(
        LAYOUT,
        STATE_CODES[row.state],
        MODE_CODES[row.mode],
        (_UNDOING if row.undoing else 0) | (_PIVOTED if row.pivoted else 0),
        (met.revision + 1) % 2**32,
        row.fence,
        row.attempt,
        row.deaths,
        row.messages,
        row.version,
        row.number,
        row.created_at,
        row.lease_until,
        row.due_at,
        row.next_hint_at,
        -1.0 if row.finished_at is None else row.finished_at,
        -1.0 if row.outcome_until is None else row.outcome_until,
        row.tombstone_until,
        len(met.id),
        len(text),
        *(-1 if part is None else len(part) for part in (reason, row.request, row.outcome)),
    )
    return b"".join((front, met.id, text, reason or b"", row.request or b"", row.outcome or b""))


def unpack(record: bytes, digest: bytes, now: float) -> Met:
    """Read a checkpoint, whole or without request and outcome.

    Raises:
        RecordUnreadable: a newer version wrote it, or it is damaged (S11).
    """
    try:
        return _unpack(record, digest, now)
    except (KeyError, IndexError, error, msgspec.DecodeError, UnicodeDecodeError) as cause:
        raise RecordUnreadable(f"a checkpoint can't be read: {type(cause).__name__}: {cause}") from cause


def _unpack(record: bytes, digest: bytes, now: float) -> Met:
    (layout, state, mode, flags, revision, fence, attempt, deaths, messages, version, place, created_at, lease_until,
     due_at, hint, finished_at, outcome_until, tombstone_until, id_bytes, text_bytes, *lengths) = FRONT.unpack_from(
        record
    )  # fmt: skip
    if layout != LAYOUT:
        raise KeyError(f"layout {layout}")
    at = FRONT.size + id_bytes
    packed_id = record[FRONT.size : at]
    attempt_id, name, namespace, principal, key_hint, fingerprint = _texts.decode(record[at : at + text_bytes])
    reason, request, outcome = _parts(record, at + text_bytes, lengths)
    operation_id = unpack_id(packed_id)
    # In the order of the row's fields.
    values: list[Any] = [
        *(digest, operation_id, name, _MODES[mode], _STATES[state], namespace, principal, key_hint, fingerprint),
        *(fence, attempt, deaths, unpack_id(attempt_id) if attempt_id else operation_id),
        *(created_at, lease_until, due_at, _instant(finished_at), _instant(outcome_until), tombstone_until),
        *(outcome, request, None if reason is None else reason.decode(), version, bool(flags & _UNDOING)),
        *(int(place), hint, messages),
    ]
    row = Row(*values)
    if flags & _PIVOTED:
        row.memos[PIVOT, 0] = _PIVOT
    return Met(row, now, packed_id, revision)


def _instant(stored: float) -> float | None:
    return None if stored < 0 else stored


def _parts(record: bytes, at: int, lengths: list[int]) -> Iterator[bytes | None]:
    """Cut the last parts; what was not asked for is as if it were not there."""
    for length in lengths:
        end = at + length
        yield record[at:end] if 0 <= length <= len(record) - at else None
        at = max(at, end)


def memo_field(name: str, index: int) -> bytes:
    """Return where a memo lies among those of its operation."""
    return f"{index}:{name}".encode()


def pack_memo(memo: Memo) -> bytes:
    """Pack what of a memo never changes; the rest is the script's."""
    return _packer.encode((memo.name, memo.index, memo.seq, memo.kind.value, memo.undo, memo.arguments))


def unpack_memo(record: bytes) -> Memo:
    """Read a memo.

    Raises:
        RecordUnreadable: a newer version wrote it, or it is damaged (S11).
    """
    try:
        status, fence, timeout, began, ended, value_bytes, base_bytes = _MEMO.unpack_from(record)
        at = _MEMO.size + base_bytes
        name, index, seq, kind, undo, arguments = _bases.decode(record[_MEMO.size : at])
        value = record[at:] if value_bytes >= 0 else None
        return Memo(
            name,
            index,
            seq,
            StepKind(kind),
            _STATUSES[status],
            fence,
            value,
            undo,
            arguments,
            timeout,
            began,
            _instant(ended),
        )
    except (KeyError, ValueError, error, msgspec.DecodeError) as cause:
        raise RecordUnreadable(f"a memo can't be read: {type(cause).__name__}: {cause}") from cause


def pack_line(audit: Audit) -> bytes:
    """Pack a line of the audit, but for its number, which is the order of all lines."""
    before, after = audit.state_before.value, audit.state_after.value
    said = (audit.at, audit.operation_id, audit.verb.value, audit.by, audit.note, before, after, audit.fence_after)
    return _packer.encode(said)


def unpack_line(record: bytes, number: int) -> Audit:
    """Read a line of the audit behind its place, and number it."""
    at, operation_id, verb, by, note, before, after, fence = _lines.decode(record[_MICROS.size :])
    return Audit(number, at, operation_id, Verb(verb), by, note, State(before), State(after), fence)


class Member(NamedTuple):
    """A checkpoint as its bucket's indexes name it; members sort by when the checkpoints were made."""

    place: bytes
    digest: bytes
    id: bytes

    @classmethod
    def of(cls, packed: bytes) -> Member:
        """Read one."""
        return cls(packed[:8], packed[8:24], packed[24:])


def states(allowed: Container[State]) -> str:
    """Write states as a script looks them up: a digit for each."""
    return "".join(str(STATE_CODES[state]) for state in State if state in allowed)
