"""The states of a checkpoint, and the only moves between them.

A person may besides settle, release or undo what is parked or abandoned, whatever state it was left in (see
``operator.py``). The SQL ``CHECK`` constraints, the diagram in the documentation and the dashboard's legend are
generated from this module and compared with it by a test. *Abandoned* is not here: it is a predicate (not final, and
the lease is over), never a stored state.
"""

from __future__ import annotations

from enum import StrEnum
from types import MappingProxyType


class State(StrEnum):
    """What a checkpoint says about its operation."""

    RUNNING = "running"
    """Claimed; an attempt executes, or died while it did."""
    STREAMING = "streaming"
    """The first byte of a streamed response may have left (S5)."""
    RELEASED = "released"
    """Nothing happened that matters; the key may be claimed again for the same request (S6)."""
    UNDOING = "undoing"
    """Steps are being undone in reverse (R7)."""
    PARKED = "parked"
    """The outcome is unknown or the attempts are spent; a person or a probe must settle it."""
    DONE = "done"
    """Final: the outcome is recorded and never changes."""
    UNDONE = "undone"
    """Final: every effect was undone."""
    EXPIRED = "expired"
    """The outcome's retention is over; this is the tombstone, it refuses a second run (S10)."""


TRANSITIONS: MappingProxyType[State, frozenset[State]] = MappingProxyType(
    {
        State.RUNNING: frozenset(
            # RUNNING to RUNNING is a take-over: the fence grows, the state does not change.
            {State.RUNNING, State.DONE, State.RELEASED, State.STREAMING, State.UNDOING, State.PARKED}
        ),
        State.STREAMING: frozenset({State.RUNNING, State.DONE, State.PARKED}),
        State.RELEASED: frozenset({State.RUNNING, State.PARKED}),
        State.UNDOING: frozenset({State.UNDOING, State.UNDONE, State.PARKED}),
        # The late attempt itself may still record the truth of a parked operation, hence DONE.
        State.PARKED: frozenset({State.RUNNING, State.UNDOING, State.DONE, State.UNDONE}),
        State.DONE: frozenset({State.EXPIRED}),
        State.UNDONE: frozenset({State.EXPIRED}),
        State.EXPIRED: frozenset(),
    }
)

FINAL = frozenset({State.DONE, State.UNDONE, State.EXPIRED})
"""States whose outcome never changes again."""

LEASED = frozenset({State.RUNNING, State.STREAMING, State.UNDOING})
"""States in which a lease runs, so that the operation is in flight or abandoned."""


def sources(target: State) -> tuple[State, ...]:
    """Name the states from which ``target`` may be reached, in the enum's order, for the ``WHERE`` of a write."""
    return tuple(state for state in State if target in TRANSITIONS[state])


def allowed(current: State, target: State) -> bool:
    """Tell whether a checkpoint may move from ``current`` to ``target``."""
    return target in TRANSITIONS[current]
