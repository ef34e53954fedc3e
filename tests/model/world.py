"""The words of the model: what there is, who is there, and what protects it. All of it immutable."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeVar

Item = TypeVar("Item")

State = Literal["none", "running", "undoing", "parked", "done", "undone"]
"""Of a checkpoint, as in ``retrysafe.protocol.states``; ``none``: there is no checkpoint yet."""

Phase = Literal[
    "idle",
    "looked",  # it saw that the claim is free (only where a claim is not atomic)
    "ready",  # going forward: it is about to begin a step
    "intended",  # the intent is durable, the call has not left
    "waiting",  # the call has left
    "knows",  # it knows what the step gave, and the memo is not written
    "told",  # its client was answered, and the outcome is not recorded (only where it does not persist first)
    "published",  # its message is in the outbox, and the outcome is not recorded (only where these are two commits)
    "undoing",  # going back: it is about to undo a step
    "undo waiting",  # the call of the undo has left
    "undo knows",  # the undo was answered, and its memo is not written
]

Outcome = tuple[int, ...] | Literal["undone"] | None
"""What a client is answered: the values that it was made from, or that everything was undone."""

FINAL: tuple[State, ...] = ("done", "undone")


@dataclass(frozen=True, kw_only=True)
class Protections:
    """What the protocol does against everything that may happen, each with its rule; any of them can be taken away."""

    atomic_claim: bool = True
    """C1: a claim compares what it saw in the statement that takes it."""
    expiry_on_read: bool = True
    """C5: whoever reads a checkpoint judges its lease; nobody has to come by and mark it first."""
    fingerprint: bool = True
    """F1: another request under the same key is refused."""
    fence: bool = True
    """C4: every write compares the fence in the same statement."""
    unique_memo: bool = True
    """R4: a step has one memo, and the memo that is there stays."""
    child_key: bool = True
    """R4: whoever is called does nothing twice under one child key."""
    intent: bool = True
    """R5: an intent is durable before the call leaves."""
    local_transaction: bool = True
    """R5: a local effect and its memo are one commit."""
    outbox: bool = True
    """R12: a message and the outcome that it tells of are one commit."""
    pivot: bool = True
    """R7: that the pivot was passed is durable before anything beyond it begins."""
    reverse_undo: bool = True
    """R7: steps are undone last first."""
    quiesce: bool = True
    """R7: no undo begins while an earlier attempt may still begin a call that it intended."""
    every_attempt: bool = True
    """R7: that goes for each earlier attempt, also where a later one has the step's result already."""
    barrier: bool = True
    """R7: an undo leaves a tombstone under the forward child key, which refuses a late call."""
    persist_first: bool = True
    """S1: an outcome is durable before a client hears it."""


class Step(NamedTuple):
    """A named part of the operation, as its author declares it.

    Attributes:
        name: as traces call it.
        local: it writes to the application's own database; else it calls somebody.
        undoable: it has an undo; one that has none comes after the pivot.
        intent: an intent is written before the call; it may be spared where there is no undo (R5).
    """

    name: str
    local: bool = False
    undoable: bool = True
    intent: bool = True


class Operation(NamedTuple):
    """Steps in their order.

    Attributes:
        steps: what it does.
        pivot: the first step beyond the pivot; None where there is none.
    """

    steps: tuple[Step, ...]
    pivot: int | None = None


class Memo(NamedTuple):
    """What the checkpoint says of a step; value 0 is "not known"."""

    intent: bool = False
    value: int = 0
    undone: bool = False

    @property
    def to_undo(self) -> bool:
        """Tell whether the step may have happened and was not undone."""
        return (self.intent or self.value > 0) and not self.undone


class Truth(NamedTuple):
    """What really happened of a step, where it happens: with whom it calls, or in the application's tables.

    Attributes:
        calls: how many were answered; 2 is "more than one". A call gives its number, so that no two calls give the
            same, not even when the second had no effect.
        made: how many effects there ever were; 2 is "more than one".
        standing: how many of them were not taken back.
        undone: an undo has come.
        refuses: the tombstone under the forward child key.
    """

    calls: int = 0
    made: int = 0
    standing: int = 0
    undone: bool = False
    refuses: bool = False

    def happened(self) -> Truth:
        """Return what is true after one more call that had an effect."""
        return self._replace(calls=_more(self.calls), made=_more(self.made), standing=_more(self.standing))

    def taken_back(self) -> Truth:
        """Return what is true after an undo."""
        return self._replace(standing=max(self.standing - 1, 0), undone=True)


class Call(NamedTuple):
    """A call that has left and not arrived, however long that takes. Its sender may be dead."""

    step: int
    fence: int
    undo: bool


class Process(NamedTuple):
    """What a process is about to do, and what it believes.

    Attributes:
        phase: how far it is.
        fence: of the claim that it holds, or believes to hold.
        step: that it is at.
        value: what the step at hand gave.
        known: what the steps before gave, as it knows them.
    """

    phase: Phase = "idle"
    fence: int = 0
    step: int = 0
    value: int = 0
    known: tuple[int, ...] = ()

    def onward(self, value: int) -> Process:
        """Go on to the next step, knowing what this one gave."""
        return Process("ready", self.fence, self.step + 1, 0, (*self.known, value))


class Checkpoint(NamedTuple):
    """What the store has of the operation.

    Attributes:
        state: of the checkpoint.
        fence: of its latest claim.
        leased: the lease runs.
        undoing: it was turned back once, and never goes forward again.
        pivoted: it passed its pivot.
        memos: by step.
        outcome: recorded with a final state.
        swept: a sweeper marked it as abandoned (only where expiry is not judged on read).
    """

    state: State = "none"
    fence: int = 0
    leased: bool = False
    undoing: bool = False
    pivoted: bool = False
    memos: tuple[Memo, ...] = ()
    outcome: Outcome = None
    swept: bool = False

    @property
    def is_open(self) -> bool:
        """Tell whether somebody holds its claim, or held it last."""
        return self.state in ("running", "undoing")

    def noted(self, at: int, memo: Memo) -> Checkpoint:
        """Write a memo."""
        return self._replace(memos=put(self.memos, at, memo))


class World(NamedTuple):
    """Everything there is.

    Attributes:
        checkpoint: what the store has.
        truths: what really happened, by step.
        travelling: calls under way.
        processes: A, B, and so on; each of them serves requests and looks for abandoned operations.
        heard: what the client was answered.
        heard_by_other: what another request under the same key was answered, if it was not refused.
        messages: in the outbox; 2 is "more than one".
        sweeper: it is alive (only where expiry is not judged on read).
    """

    checkpoint: Checkpoint
    truths: tuple[Truth, ...]
    travelling: frozenset[Call]
    processes: tuple[Process, ...]
    heard: Outcome = None
    heard_by_other: Outcome = None
    messages: int = 0
    sweeper: bool = True

    def after(self, number: int, process: Process, met: Checkpoint | None = None) -> World:
        """Return the world after a process moved, and perhaps wrote the checkpoint."""
        processes = put(self.processes, number, process)
        return self._replace(processes=processes, checkpoint=self.checkpoint if met is None else met)

    def ended(self, met: Checkpoint, outcome: Outcome, messages: int) -> World:
        """Return the world after its operation became final, and told others so."""
        state: State = "undone" if outcome == "undone" else "done"
        final = met._replace(state=state, leased=False, outcome=outcome)
        return self._replace(checkpoint=final, messages=messages)


class Move(NamedTuple):
    """Something that happens.

    Attributes:
        what: it is, in words; ``{}`` stands for the step.
        process: that does it, if one does.
        step: that it is about, if it is about one.
    """

    what: str
    process: int | None = None
    step: int | None = None


IDLE = Process()


def put(items: tuple[Item, ...], at: int, item: Item) -> tuple[Item, ...]:
    """Return the items with another one in one place."""
    return (*items[:at], item, *items[at + 1 :])


def _more(count: int) -> int:
    return min(count + 1, 2)
