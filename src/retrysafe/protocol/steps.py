"""The named parts of an operation, and what is known of each: the vocabulary of mode ``steps``.

A *step* is found by its name and index, never by its position (R4), so that code which adds, removes or reorders
steps does not break operations in flight. Its *memo* is written under the fence and never changes (I2).
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

import msgspec

from retrysafe.protocol.fingerprint import child_key
from retrysafe.protocol.model import Checkpoint, Discreet, Message

UNDO_PREFIX = "undo:"
PIVOT = "pivot"

Place = tuple[str, int]
"""A step's name and its index: 0, or which lap of a loop it is."""


class StepKind(StrEnum):
    """What a step is."""

    EXTERNAL = "external"
    """Calls something outside of the store's database."""
    LOCAL = "local"
    """Writes to the application's own database, in the same transaction as its memo (I10)."""
    UNDO = "undo"
    """Takes back what another step did."""
    PIVOT = "pivot"
    """From here on the operation only goes forward (R7)."""


class StepStatus(StrEnum):
    """How far a step is."""

    INTENT = "intent"
    """It may have been called; its result is not known."""
    DONE = "done"
    """It was done; its result is known."""
    REFUSED = "refused"
    """It was refused for good and had no effect."""


class Memo(Discreet, frozen=True):
    """What the store keeps of a step.

    Attributes:
        name: of the step; that of an undo begins with ``undo:``.
        index: which lap of a loop.
        seq: the order in which steps began; steps are undone in reverse of it (I7).
        kind: what the step is.
        status: how far it is; ``INTENT`` may become one of the others, which never change (I2).
        fence: of the attempt that wrote it last.
        value: what it gave, encoded; for a refusal, the response to give.
        undo: name of the function that takes it back, ``module:function``; None when there is nothing to take back.
        arguments: what the step was called with, encoded, for its undo.
        timeout_seconds: how long from ``began_at`` on a call may be under way: its time-out, and the lease, in which it
            may begin. When an attempt writes an intent of one before it anew, the store counts that from then.
        began_at: when the first intent, or else the result, was written; by the store's clock.
        ended_at: when its result was written; by the store's clock.
    """

    name: str
    index: int
    seq: int
    kind: StepKind
    status: StepStatus
    fence: int
    value: bytes | None = None
    undo: str | None = None
    arguments: bytes | None = None
    timeout_seconds: float = 0.0
    began_at: float = 0.0
    ended_at: float | None = None

    @property
    def place(self) -> Place:
        """Where it is found."""
        return self.name, self.index

    @property
    def deadline(self) -> float:
        """Until when a call that began with it may still be under way, by the store's clock."""
        return self.began_at + self.timeout_seconds


class History(Discreet, frozen=True):
    """An operation as the store has it: its checkpoint and every memo, in the order of ``seq``."""

    checkpoint: Checkpoint
    memos: tuple[Memo, ...]


class Park(msgspec.Struct, frozen=True):
    """Nobody can tell whether the step happened: a person must."""


class Retry(msgspec.Struct, frozen=True):
    """Call again with the same child key, which the service that is called honours.

    Attributes:
        key_retention_seconds: how long that service remembers a key; not called again after that (R6).
    """

    key_retention_seconds: float


class Ask(msgspec.Struct, frozen=True):
    """Ask the service that was called whether it happened."""


Unknown = Park | Retry | Ask
"""What follows when a step began and its result is not known (R6)."""


class Step(Discreet, frozen=True):
    """A step as the operation's code asks for it."""

    name: str
    index: int
    kind: StepKind
    unknown: Unknown
    timeout_seconds: float
    undo: str | None = None
    arguments: bytes | None = None

    @property
    def place(self) -> Place:
        """Where its memo is found."""
        return self.name, self.index

    @property
    def needs_intent(self) -> bool:
        """Tell whether an intent is written before the call.

        It is spared only where the call may be repeated and there is nothing to undo (R5).
        """
        return self.undo is not None or not isinstance(self.unknown, Retry)


class Halted(BaseException):
    """Ends an attempt inside its own code: nothing more of it may run.

    It is no ``Exception``, so that a broad ``except`` of the operation's code does not swallow it. And if one did, what
    the trail says decides all the same.
    """


class Superseded(msgspec.Struct, frozen=True):
    """Why an attempt was halted: its claim is lost (C4)."""


class Unsettled(msgspec.Struct, frozen=True):
    """Why an attempt was halted: a step's outcome is unknown.

    Attributes:
        reason: one sentence for the person who must find out.
    """

    reason: str


class TooEarly(msgspec.Struct, frozen=True):
    """Why an attempt was halted: what it needs to know cannot be known yet; a later attempt goes on.

    Attributes:
        seconds: how long to wait.
        reason: why, in one sentence.
    """

    seconds: float
    reason: str


Halt = Superseded | Unsettled | TooEarly


class Trail:
    """What is known of the steps of one operation, in the attempt that runs now.

    Attributes:
        memos: by place, as the store has them.
        visited: places that this attempt came by.
        created_at: when the operation was first claimed.
        read_at: when the memos were read. Both by the store's clock.
        halt: why this attempt must end, or None.
        calls: how many calls of this attempt have not returned, whether or not anybody waits for them.
        closed: the code has ended: what it left behind, such as a task of its own, begins no step any more.
        pivot_asked: the code passed its pivot; its memo is written with the next step, the first that it is about.
        messages: what the operation tells others when it succeeds (R12).
    """

    def __init__(self, history: History | None = None) -> None:
        """Start from what earlier attempts left; a first attempt has nothing."""
        self.memos: dict[Place, Memo] = {} if history is None else {memo.place: memo for memo in history.memos}
        self.visited: set[Place] = set()
        self.created_at = 0.0 if history is None else history.checkpoint.created_at
        self.read_at = 0.0 if history is None else history.checkpoint.now
        self.halt: Halt | None = None
        self.closed = False
        self.calls = 0
        self.pivot_asked = False
        self.messages: list[Message] = []
        self._quiet_at = max((memo.deadline for memo in self._effects() if memo.kind is StepKind.EXTERNAL), default=0.0)
        self._seq = max((memo.seq for memo in self.memos.values()), default=0)

    @property
    def began(self) -> bool:
        """Tell whether there is any intent or memo."""
        return bool(self.memos)

    @property
    def pivoted(self) -> bool:
        """Tell whether the point was passed after which only forward is allowed."""
        return self.pivot_asked or (PIVOT, 0) in self.memos

    @property
    def pivot_due(self) -> bool:
        """Tell whether the pivot must be made durable before the next step begins (R7)."""
        return self.pivot_asked and (PIVOT, 0) not in self.memos

    def next_seq(self) -> int:
        """Number a step that begins now."""
        self._seq += 1
        return self._seq

    def keep(self, memo: Memo) -> None:
        """Note what was written."""
        self.memos[memo.place] = memo

    def to_undo(self) -> list[Memo]:
        """Return the steps that must be undone, last first (I7).

        Those that may have happened, have an undo, and were not undone before.
        """
        return [memo for memo in self._effects() if undo_place(memo.place) not in self.memos]

    def orphans(self) -> list[Memo]:
        """Return steps that may have had an effect and that this attempt did not come by, last first."""
        kinds = (StepKind.EXTERNAL, StepKind.LOCAL)
        return [
            memo
            for memo in sorted(self.memos.values(), key=lambda memo: -memo.seq)
            if memo.kind in kinds
            and memo.status is not StepStatus.REFUSED
            and memo.place not in self.visited
            and undo_place(memo.place) not in self.memos
        ]

    def quiet_at(self) -> float:
        """Return when no call of an attempt before this one can be under way any more, by the store's clock (R7).

        Whatever this attempt has learned of such a step since: a call of a dead attempt may still land behind its own.
        """
        return self._quiet_at

    def _effects(self) -> Iterable[Memo]:
        undoable = [memo for memo in self.memos.values() if memo.undo and memo.status is not StepStatus.REFUSED]
        return sorted(undoable, key=lambda memo: -memo.seq)


def undo_place(place: Place) -> Place:
    """Return where the memo of a step's undo is found."""
    name, index = place
    return UNDO_PREFIX + name, index


def step_key(operation_id: str, place: Place) -> str:
    """Return the child key of a step: the same for every attempt, and another one for its undo (R4)."""
    return child_key(operation_id, *place)
