"""Checkpoints as rows of SQL databases: the columns, the way back, and the state lists of ``CHECK`` and ``WHERE``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any

from retrysafe.errors import RecordUnreadable
from retrysafe.protocol.model import Checkpoint, Mode
from retrysafe.protocol.states import LEASED, State, sources
from retrysafe.protocol.steps import Memo, StepKind, StepStatus

COLUMNS = tuple(column for column in Checkpoint.__struct_fields__ if column != "now")
"""Every stored field of a checkpoint, in the order in which queries select them and :func:`checkpoint` reads them."""

LISTED = tuple("NULL" if column in {"outcome", "request"} else column for column in COLUMNS)
"""The same for listings, which show neither outcomes nor requests."""

MEMO_COLUMNS = tuple("idx" if column == "index" else column for column in Memo.__struct_fields__)
"""Every field of a memo, in the order in which queries select them and :func:`memo_of` reads them."""

PURGEABLE = tuple(state for state in State if state not in LEASED and state is not State.PARKED)
"""States of a checkpoint that may be deleted when its tombstone is over (S10)."""

_MODE, _STATE, _UNDOING = COLUMNS.index("mode"), COLUMNS.index("state"), COLUMNS.index("undoing")
_KIND, _STATUS = MEMO_COLUMNS.index("kind"), MEMO_COLUMNS.index("status")
_MODES = {mode.value: mode for mode in Mode}
_STATES = {state.value: state for state in State}


def checkpoint(row: Sequence[Any], now: float) -> Checkpoint:
    """Decode a row of :data:`COLUMNS`, read at ``now`` of the store's clock.

    Raises:
        RecordUnreadable: the row has a mode or a state that this code does not know; a newer version wrote it (S11).
    """
    values: list[Any] = [*row, now]
    try:
        values[_MODE] = _MODES[row[_MODE]]
        values[_STATE] = _STATES[row[_STATE]]
        values[_UNDOING] = bool(row[_UNDOING])
    except KeyError as unknown:
        raise RecordUnreadable(f"operation {row[1]} has the unknown mode or state {unknown}") from None
    return Checkpoint(*values)


def memo_of(row: Sequence[Any]) -> Memo:
    """Decode a row of :data:`MEMO_COLUMNS`.

    Raises:
        RecordUnreadable: a newer version wrote it (S11).
    """
    values: list[Any] = list(row)
    try:
        values[_KIND] = StepKind(row[_KIND])
        values[_STATUS] = StepStatus(row[_STATUS])
    except ValueError as unknown:
        raise RecordUnreadable(f"step {row[0]!r} has an unknown kind or status: {unknown}") from None
    return Memo(*values)


def readable(rows: Iterable[Sequence[Any]], now: float) -> list[Checkpoint]:
    """Decode the rows that this code can read.

    For the recovery scan: what a newer version wrote is for processes of that version, and must not keep this one from
    all the rest.
    """
    found: list[Checkpoint] = []
    for row in rows:
        with suppress(RecordUnreadable):
            found.append(checkpoint(row, now))
    return found


def one_of(states: Iterable[State]) -> str:
    """Write a condition that holds in any of the states, in the enum's order: ``(state = 'done' OR state = 'undone')``.

    Not ``IN``: from three values up SQLite builds a table for that each time it is evaluated, in a ``CHECK`` and a
    partial index too, which cost two fifths of a claim and its record.
    """
    wanted = set(states)
    return "(" + " OR ".join(f"state = '{state}'" for state in State if state in wanted) + ")"


def before(target: State) -> str:
    """Write the condition of a write that leads to ``target``: the state is one from which it may be reached."""
    return one_of(sources(target))
