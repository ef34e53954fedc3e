"""Which operations are explored, and what becomes of them when a protection is taken away."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache

from tests.model.explorer import LIVENESS, Exploration, Model, explore
from tests.model.invariants import of_moves, of_states
from tests.model.recovery import UNFAIR, Recovery
from tests.model.world import Move, Operation, Protections, Step, World

_CHARGE, _RESERVE = Step("charge"), Step("reserve")
_BOOK = Step("book", local=True)
_SHIP = Step("ship", undoable=False, intent=False)

ONE_CALL = Operation((_CHARGE,))
"""A call with an undo."""
ORDER = Operation((_CHARGE, _BOOK))
"""A call and a local step, both with an undo."""
SHIPMENT = Operation((_CHARGE, _BOOK, _SHIP), pivot=2)
"""The same, and beyond the pivot a call without undo, whose intent is spared."""
TWO_CALLS = Operation((_CHARGE, _RESERVE))
"""Two calls, both with an undo."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """One protection taken away.

    Attributes:
        off: the protection.
        rule: of the protocol that it stands for.
        without: what that means, in words.
        breaks: every invariant that does not hold then; the first is the one it is there for.
        last: how the shortest way to where the first breaks ends.
        operation: that shows it.
    """

    off: str
    rule: str
    without: str
    breaks: tuple[str, ...]
    last: str
    operation: Operation = ORDER

    @property
    def protections(self) -> Protections:
        """All others."""
        return replace(Protections(), **{self.off: False})

    @property
    def macro(self) -> str:
        """The name by which ``recovery.pml`` takes it away."""
        return f"NO_{self.off.upper()}"


CASES = (
    Case(
        off="atomic_claim",
        rule="C1",
        without="the claim does not compare what it saw",
        breaks=("I3", "I5", "I6", "I7", "I8", "I9"),
        last="B claims",
    ),
    Case(
        off="fence",
        rule="C4",
        without="writes do not compare the fence",
        breaks=("I8", "I3", "I5", "I6", "I7", "I9"),
        last="B records the outcome",
    ),
    Case(
        off="expiry_on_read",
        rule="C5",
        without="a sweeper has to mark what is abandoned",
        breaks=(LIVENESS,),
        last="A dies",
    ),
    Case(
        off="fingerprint",
        rule="F1",
        without="another request under the same key is not refused",
        breaks=("I12",),
        last="another request hears the outcome",
    ),
    Case(
        off="persist_first",
        rule="S1",
        without="the client is answered before the outcome is durable",
        breaks=("I1",),
        last="B records undone",
    ),
    Case(
        off="unique_memo",
        rule="R4",
        without="a step may have a second memo",
        breaks=("I2", "I10", "I5", "I6"),
        last="A commits effect and memo of `book`",
    ),
    Case(
        off="child_key",
        rule="R4",
        without="whoever is called does not honour the child key",
        breaks=("I4", "I5", "I6"),
        last="the call of `charge` arrives",
    ),
    Case(
        off="intent",
        rule="R5",
        without="no intent is written before the call",
        breaks=("I6", "I9"),
        last="B records undone",
    ),
    Case(
        off="local_transaction",
        rule="R5",
        without="a local effect and its memo are two commits",
        breaks=("I10", "I5", "I6"),
        last="A commits the effect of `book`",
    ),
    Case(
        off="barrier",
        rule="R7",
        without="an undo leaves no tombstone",
        breaks=("I6",),
        last="the call of `charge` arrives",
    ),
    Case(
        off="reverse_undo",
        rule="R7",
        without="steps are undone in the order in which they were done",
        breaks=("I7",),
        last="the undo of `charge` arrives",
    ),
    Case(
        off="quiesce",
        rule="R7",
        without="an undo does not wait for the time-outs of attempts before",
        breaks=("I9",),
        last="A calls `charge`",
    ),
    Case(
        off="every_attempt",
        rule="R7",
        without="it waits for none whose step a later attempt has the result of",
        breaks=("I9",),
        last="A calls `charge`",
    ),
    Case(
        off="pivot",
        rule="R7",
        without="nothing durable says that the pivot was passed",
        breaks=("I6", "I9"),
        last="B records undone",
        operation=SHIPMENT,
    ),
    Case(
        off="outbox",
        rule="R12",
        without="a message is sent in a commit of its own",
        breaks=("I11",),
        last="A sends the message",
    ),
)


def without(case: Case) -> Exploration[Move]:
    """Look at everything that may happen to an operation without a protection."""
    return explored(case.operation, case.protections, 2, 2)


@cache
def explored(operation: Operation, on: Protections, claims: int, processes: int) -> Exploration[Move]:
    """Look at everything that may happen to an operation under some protections."""
    recovery = Recovery(operation, on, claims, processes)
    return explore(
        Model(
            initial=recovery.initial,
            moves=recovery.moves,
            of_states=of_states(operation),
            of_moves=of_moves(operation),
            at_rest=is_settled,
            fair=is_fair,
        )
    )


def is_settled(world: World) -> bool:
    """Tell whether the operation is final or parked."""
    return world.checkpoint.state in ("done", "undone", "parked")


def is_fair(move: Move) -> bool:
    """Tell whether this happens sooner or later if it can."""
    return move.what not in UNFAIR


def in_words(move: Move, operation: Operation) -> str:
    """Say what happens."""
    what = move.what if move.step is None else move.what.format(f"`{operation.steps[move.step].name}`")
    return what if move.process is None else f"{'ABC'[move.process]} {what}"
