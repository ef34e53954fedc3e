"""The protocol of recovery as moves of a world in which any process may die, or be late, at any line.

The world has one operation of mode ``steps``. Each move is one thing that nobody can cut in two: a write of the store,
a call that leaves or arrives, a death. Time is not counted: a lease may end at any moment (one that is renewed is one
that has not ended), and a call may travel for however long it likes.

A process is never told that its lease is over. It goes on with what it knew, and the protections alone stop it.
"""

from __future__ import annotations

from typing import assert_never

from tests.model.surroundings import Moves, Surroundings
from tests.model.world import (
    FINAL,
    IDLE,
    Call,
    Checkpoint,
    Memo,
    Move,
    Operation,
    Process,
    Protections,
    State,
    Truth,
    World,
    put,
)

CLAIMS = ("claims", "claims to undo")
CALLS = "calls {}"
UNHEARD_COMMIT = "commits effect and memo of {}, and does not hear of it"
UNHEARD_MEMO = "writes the memo of {}, and does not hear of it"
UNFAIR = frozenset({"dies", "the sweeper dies", UNHEARD_COMMIT, UNHEARD_MEMO})
"""What never has to happen. Everything else that can happen does, sooner or later."""


class Recovery:
    """Everything that may happen to one operation under some protections: what processes do, and what befalls them.

    Args:
        operation: what is run.
        on: the protections.
        claims: how many there can be, counting what an operator does; what the last of them leaves is parked (R8).
        processes: how many there are.
    """

    def __init__(self, operation: Operation, on: Protections, claims: int, processes: int = 2) -> None:
        self._steps = operation.steps
        self._end = len(operation.steps)
        self._pivot = self._end if operation.pivot is None else operation.pivot
        self._on = on
        self._claims = claims
        self._surroundings = Surroundings(on, claims)
        self.initial = World(
            checkpoint=Checkpoint(memos=(Memo(),) * self._end),
            truths=(Truth(),) * self._end,
            travelling=frozenset(),
            processes=(IDLE,) * processes,
        )

    def moves(self, world: World) -> Moves:
        """Yield what may happen now, and what is then; what goes well first, so that traces read as they would."""
        for number, process in enumerate(world.processes):
            yield from self._acts(world, number, process)
        yield from self._surroundings.moves(world)
        for number, process in enumerate(world.processes):
            if process.phase != "idle":
                yield Move("dies", number), world.after(number, IDLE)

    def _acts(self, world: World, number: int, process: Process) -> Moves:
        """Go on with what a process is at."""
        match process.phase:
            case "idle":
                yield from self._looks(world, number)
            case "looked":
                yield from self._takes(world, number, process.fence)
            case "ready":
                yield from self._begins(world, number, process)
            case "intended":
                yield self._calls(world, number, process)
            case "knows":
                yield from self._memoizes(world, number, process)
            case "told" | "published":
                yield self._records(world, number, process)
            case "undoing":
                yield from self._undoes(world, number, process)
            case "undo knows":
                yield self._memoizes_undo(world, number, process)
            case "waiting" | "undo waiting":
                pass  # what it waits for arrives
            case _:
                assert_never(process.phase)

    def _accepts(self, world: World, process: Process, *states: State) -> bool:
        """Tell whether the store accepts a write: the WHERE of its statement (C4)."""
        met = world.checkpoint
        return met.state in states and (met.fence == process.fence or not self._on.fence)

    # Claims.

    def _looks(self, world: World, number: int) -> Moves:
        """Claim what is free: the first time, or because it is abandoned; a retry and a scan do the same (R1)."""
        met = world.checkpoint
        abandoned = met.is_open and not met.leased and met.fence < self._claims
        free = abandoned and (self._on.expiry_on_read or met.swept)
        if not free and met.state != "none":
            return
        if self._on.atomic_claim:
            yield from self._takes(world, number, met.fence)
        else:
            yield Move("looks", number), world.after(number, Process("looked", met.fence))

    def _takes(self, world: World, number: int, seen: int) -> Moves:
        met = world.checkpoint
        if met.state in FINAL:
            yield Move("is refused the claim", number), world.after(number, IDLE)
            return
        taken = met._replace(fence=seen + 1, leased=True, swept=False)
        if met.undoing:
            yield Move("claims", number), self._turned(world, number, taken)
            return
        known = tuple(memo.value for memo in met.memos if memo.value)
        process = Process("ready", seen + 1, len(known), 0, known)
        yield Move("claims", number), world.after(number, process, taken._replace(state="running"))
        if met.state == "running" and not met.pivoted:
            # Its attempts may be spent: this one goes back.
            yield Move("claims to undo", number), self._turned(world, number, taken)

    def _turned(self, world: World, number: int, met: Checkpoint) -> World:
        """Let the operation go back from now on."""
        process = Process("undoing", met.fence, self._next_undo(met, self._end if self._on.reverse_undo else -1))
        return world.after(number, process, met._replace(state="undoing", undoing=True))

    # Forward.

    def _begins(self, world: World, number: int, process: Process) -> Moves:
        """Come to the next step, or to the end; at each of them the operation may refuse, and turn back at once."""
        met, at = world.checkpoint, process.step
        if at == self._end:
            yield self._finishes(world, number, process)
        elif self._on.pivot and at == self._pivot and not met.pivoted:
            yield self._passes_pivot(world, number, process)
        elif self._steps[at].local:
            yield from self._transacts(world, number, process)
        elif self._steps[at].intent and self._on.intent:
            yield self._intends(world, number, process)
        else:
            yield self._calls(world, number, process)
        if self._accepts(world, process, "running"):
            if at <= self._pivot and not met.pivoted:
                yield Move("turns back", number), self._turned(world, number, met)
            if at < self._end and met.memos[at].intent and not met.memos[at].value:
                # An attempt before began this step, and nobody knows how it ended (R6).
                yield Move("parks it", number), world.after(number, IDLE, met._replace(state="parked"))

    def _passes_pivot(self, world: World, number: int, process: Process) -> tuple[Move, World]:
        if not self._accepts(world, process, "running"):
            return Move("is refused the pivot", number), world.after(number, IDLE)
        after = world.checkpoint._replace(pivoted=True)
        return Move("passes the pivot", number), world.after(number, process, after)

    def _intends(self, world: World, number: int, process: Process) -> tuple[Move, World]:
        met, at = world.checkpoint, process.step
        if not self._accepts(world, process, "running"):
            return Move("is refused the intent of {}", number, at), world.after(number, IDLE)
        after = met.noted(at, met.memos[at]._replace(intent=True))
        then = process._replace(phase="intended")
        return Move("writes the intent of {}", number, at), world.after(number, then, after)

    def _calls(self, world: World, number: int, process: Process) -> tuple[Move, World]:
        sent = world._replace(travelling=world.travelling | {Call(process.step, process.fence, undo=False)})
        return Move(CALLS, number, process.step), sent.after(number, process._replace(phase="waiting"))

    def _transacts(self, world: World, number: int, process: Process) -> Moves:
        """Commit a local effect with its memo. The commit may go through without the process hearing of it (D4)."""
        met, at = world.checkpoint, process.step
        there = met.memos[at].value
        done = world._replace(truths=put(world.truths, at, world.truths[at].happened()))
        value = done.truths[at].calls
        if not self._on.local_transaction:
            then = process._replace(phase="knows", value=value)
            yield Move("commits the effect of {}", number, at), done.after(number, then)
        elif not self._accepts(world, process, "running", "parked"):
            yield Move("is refused the commit of {}", number, at), world.after(number, IDLE)
        elif there and self._on.unique_memo:
            yield Move("finds its memo of {}", number, at), world.after(number, process.onward(there))
        else:
            after = met.noted(at, met.memos[at]._replace(value=value))
            yield Move("commits effect and memo of {}", number, at), done.after(number, process.onward(value), after)
            yield Move(UNHEARD_COMMIT, number, at), done.after(number, process, after)

    def _memoizes(self, world: World, number: int, process: Process) -> Moves:
        met, at = world.checkpoint, process.step
        then = process.onward(process.value)
        if not self._accepts(world, process, "running", "parked"):
            yield Move("is refused the memo of {}", number, at), world.after(number, IDLE)
        elif met.memos[at].value and self._on.unique_memo:
            # With a fence it can only be its own, whose commit went unheard; without one nobody can tell.
            yield Move("takes the memo of {} for its own", number, at), world.after(number, then)
        else:
            after = met.noted(at, met.memos[at]._replace(value=process.value))
            yield Move("writes the memo of {}", number, at), world.after(number, then, after)
            yield Move(UNHEARD_MEMO, number, at), world.after(number, process, after)

    def _finishes(self, world: World, number: int, process: Process) -> tuple[Move, World]:
        if not self._on.persist_first and world.heard is None:
            told = world._replace(heard=process.known)
            return Move("answers its client", number), told.after(number, process._replace(phase="told"))
        if not self._on.outbox:
            sent = world._replace(messages=min(world.messages + 1, 2))
            return Move("sends the message", number), sent.after(number, process._replace(phase="published"))
        return self._records(world, number, process)

    def _records(self, world: World, number: int, process: Process) -> tuple[Move, World]:
        if not self._accepts(world, process, "running", "parked"):
            return Move("is refused the outcome", number), world.after(number, IDLE)
        # What it tells others enters the outbox in the same commit (R12).
        ended = world.ended(world.checkpoint, process.known, 1 if self._on.outbox else world.messages)
        return Move("records the outcome", number), ended.after(number, IDLE)

    # Back.

    def _undoes(self, world: World, number: int, process: Process) -> Moves:
        at = process.step
        if not 0 <= at < self._end:
            yield self._records_undone(world, number, process)
            return
        if not self._on.quiesce or self._quiet(world, process):
            yield self._takes_back(world, number, process)
        if self._accepts(world, process, "undoing"):
            # The undo does not go through, and its attempts are spent.
            yield Move("parks it", number), world.after(number, IDLE, world.checkpoint._replace(state="parked"))

    def _takes_back(self, world: World, number: int, process: Process) -> tuple[Move, World]:
        at = process.step
        if not self._steps[at].local:
            sent = world._replace(travelling=world.travelling | {Call(at, process.fence, undo=True)})
            return Move("calls the undo of {}", number, at), sent.after(number, process._replace(phase="undo waiting"))
        if not self._accepts(world, process, "undoing", "parked"):
            return Move("is refused the commit of {}", number, at), world.after(number, IDLE)
        undone = world._replace(truths=put(world.truths, at, world.truths[at].taken_back()))
        return Move("commits undo and memo of {}", number, at), self._undo_noted(undone, number, process)

    def _memoizes_undo(self, world: World, number: int, process: Process) -> tuple[Move, World]:
        if not self._accepts(world, process, "undoing", "parked"):
            return Move("is refused the memo of the undo of {}", number, process.step), world.after(number, IDLE)
        return Move("writes the memo of the undo of {}", number, process.step), self._undo_noted(world, number, process)

    def _undo_noted(self, world: World, number: int, process: Process) -> World:
        met, at = world.checkpoint, process.step
        after = met.noted(at, met.memos[at]._replace(undone=True))
        return world.after(number, process._replace(step=self._next_undo(after, at), phase="undoing"), after)

    def _records_undone(self, world: World, number: int, process: Process) -> tuple[Move, World]:
        if not self._accepts(world, process, "undoing", "parked"):
            return Move("is refused the outcome", number), world.after(number, IDLE)
        ended = world.ended(world.checkpoint, "undone", world.messages)
        return Move("records undone", number), ended.after(number, IDLE)

    def _next_undo(self, met: Checkpoint, at: int) -> int:
        """Return the next step that may have happened, or a number beyond them all."""
        onward = range(at - 1, -1, -1) if self._on.reverse_undo else range(at + 1, self._end)
        began = (number for number in onward if self._steps[number].undoable and met.memos[number].to_undo)
        return next(began, -1 if self._on.reverse_undo else self._end)

    def _quiet(self, world: World, undoing: Process) -> bool:
        """Tell whether no attempt before can begin a call that it intended: its time-outs have passed (R7)."""
        return not any(
            process.phase == "intended"
            and process.fence < undoing.fence
            and (self._on.every_attempt or not world.checkpoint.memos[process.step].value)
            for process in world.processes
        )
