"""The protocol of recovery as moves of a world in which any process may die, or be late, at any line.

The world has one operation of mode ``steps``. Each move is one thing that nobody can cut in two: a write of the store,
a call that leaves or arrives, a death. Time is not counted: a lease may end at any moment (one that is renewed is one
that has not ended), and a call may travel for however long it likes.

A process is never told that its lease is over. It goes on with what it knew, and the protections alone stop it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar, assert_never

from tests.model.world import (
    FINAL,
    Call,
    Checkpoint,
    Memo,
    Move,
    Operation,
    Outcome,
    Phase,
    Process,
    Protections,
    State,
    Truth,
    World,
)

Moves = Iterator[tuple[Move, World]]
Item = TypeVar("Item")

IDLE = Process()
CLAIMS = ("claims", "claims to undo")
CALLS = "calls {}"
UNHEARD_COMMIT = "commits effect and memo of {}, and does not hear of it"
UNHEARD_MEMO = "writes the memo of {}, and does not hear of it"
UNFAIR = frozenset({"dies", "the sweeper dies", UNHEARD_COMMIT, UNHEARD_MEMO})
"""What never has to happen. Everything else that can happen does, sooner or later."""


class Recovery:
    """Everything that may happen to one operation under some protections.

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
        for call in sorted(world.travelling):
            yield self._arrives(world, call)
        yield from self._clients(world)
        yield from self._time(world)
        if world.checkpoint.state == "parked":
            yield from self._operator(world)
        for number, process in enumerate(world.processes):
            if process.phase != "idle":
                yield Move("dies", number), _with(world, number, IDLE)

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
        abandoned = _open(met) and not met.leased and met.fence < self._claims
        free = abandoned and (self._on.expiry_on_read or met.swept)
        if not free and met.state != "none":
            return
        if self._on.atomic_claim:
            yield from self._takes(world, number, met.fence)
        else:
            yield Move("looks", number), _with(world, number, Process("looked", met.fence))

    def _takes(self, world: World, number: int, seen: int) -> Moves:
        met = world.checkpoint
        if met.state in FINAL:
            yield Move("is refused the claim", number), _with(world, number, IDLE)
            return
        taken = met._replace(fence=seen + 1, leased=True, swept=False)
        if met.undoing:
            yield Move("claims", number), self._turned(world, number, taken)
            return
        known = tuple(memo.value for memo in met.memos if memo.value)
        process = Process("ready", seen + 1, len(known), 0, known)
        yield Move("claims", number), _with(world, number, process, taken._replace(state="running"))
        if met.state == "running" and not met.pivoted:
            # Its attempts may be spent: this one goes back.
            yield Move("claims to undo", number), self._turned(world, number, taken)

    def _turned(self, world: World, number: int, met: Checkpoint) -> World:
        """Let the operation go back from now on."""
        process = Process("undoing", met.fence, self._next_undo(met, self._end if self._on.reverse_undo else -1))
        return _with(world, number, process, met._replace(state="undoing", undoing=True))

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
                yield Move("parks it", number), _with(world, number, IDLE, met._replace(state="parked"))

    def _passes_pivot(self, world: World, number: int, process: Process) -> tuple[Move, World]:
        if not self._accepts(world, process, "running"):
            return Move("is refused the pivot", number), _with(world, number, IDLE)
        after = world.checkpoint._replace(pivoted=True)
        return Move("passes the pivot", number), _with(world, number, process, after)

    def _intends(self, world: World, number: int, process: Process) -> tuple[Move, World]:
        met, at = world.checkpoint, process.step
        if not self._accepts(world, process, "running"):
            return Move("is refused the intent of {}", number, at), _with(world, number, IDLE)
        after = _noted(met, at, met.memos[at]._replace(intent=True))
        then = process._replace(phase="intended")
        return Move("writes the intent of {}", number, at), _with(world, number, then, after)

    def _calls(self, world: World, number: int, process: Process) -> tuple[Move, World]:
        sent = world._replace(travelling=world.travelling | {Call(process.step, process.fence, undo=False)})
        return Move(CALLS, number, process.step), _with(sent, number, process._replace(phase="waiting"))

    def _transacts(self, world: World, number: int, process: Process) -> Moves:
        """Commit a local effect with its memo. The commit may go through without the process hearing of it (D4)."""
        met, at = world.checkpoint, process.step
        there = met.memos[at].value
        done = world._replace(truths=_put(world.truths, at, _done_locally(world.truths[at])))
        value = done.truths[at].calls
        if not self._on.local_transaction:
            then = process._replace(phase="knows", value=value)
            yield Move("commits the effect of {}", number, at), _with(done, number, then)
        elif not self._accepts(world, process, "running", "parked"):
            yield Move("is refused the commit of {}", number, at), _with(world, number, IDLE)
        elif there and self._on.unique_memo:
            yield Move("finds its memo of {}", number, at), _with(world, number, _onward(process, there))
        else:
            after = _noted(met, at, met.memos[at]._replace(value=value))
            yield Move("commits effect and memo of {}", number, at), _with(done, number, _onward(process, value), after)
            yield Move(UNHEARD_COMMIT, number, at), _with(done, number, process, after)

    def _memoizes(self, world: World, number: int, process: Process) -> Moves:
        met, at = world.checkpoint, process.step
        then = _onward(process, process.value)
        if not self._accepts(world, process, "running", "parked"):
            yield Move("is refused the memo of {}", number, at), _with(world, number, IDLE)
        elif met.memos[at].value and self._on.unique_memo:
            # With a fence it can only be its own, whose commit went unheard; without one nobody can tell.
            yield Move("takes the memo of {} for its own", number, at), _with(world, number, then)
        else:
            after = _noted(met, at, met.memos[at]._replace(value=process.value))
            yield Move("writes the memo of {}", number, at), _with(world, number, then, after)
            yield Move(UNHEARD_MEMO, number, at), _with(world, number, process, after)

    def _finishes(self, world: World, number: int, process: Process) -> tuple[Move, World]:
        if not self._on.persist_first and world.heard is None:
            told = world._replace(heard=process.known)
            return Move("answers its client", number), _with(told, number, process._replace(phase="told"))
        if not self._on.outbox:
            sent = world._replace(messages=min(world.messages + 1, 2))
            return Move("sends the message", number), _with(sent, number, process._replace(phase="published"))
        return self._records(world, number, process)

    def _records(self, world: World, number: int, process: Process) -> tuple[Move, World]:
        if not self._accepts(world, process, "running", "parked"):
            return Move("is refused the outcome", number), _with(world, number, IDLE)
        ended = self._ended(world, world.checkpoint, process.known)
        return Move("records the outcome", number), _with(ended, number, IDLE)

    def _ended(self, world: World, met: Checkpoint, outcome: Outcome) -> World:
        """Make an operation final; what it tells others enters the outbox in the same commit (R12)."""
        state: State = "undone" if outcome == "undone" else "done"
        messages = 1 if state == "done" and self._on.outbox else world.messages
        return world._replace(checkpoint=met._replace(state=state, leased=False, outcome=outcome), messages=messages)

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
            yield Move("parks it", number), _with(world, number, IDLE, world.checkpoint._replace(state="parked"))

    def _takes_back(self, world: World, number: int, process: Process) -> tuple[Move, World]:
        at = process.step
        if not self._steps[at].local:
            sent = world._replace(travelling=world.travelling | {Call(at, process.fence, undo=True)})
            return Move("calls the undo of {}", number, at), _with(sent, number, process._replace(phase="undo waiting"))
        if not self._accepts(world, process, "undoing", "parked"):
            return Move("is refused the commit of {}", number, at), _with(world, number, IDLE)
        undone = world._replace(truths=_put(world.truths, at, _taken_back(world.truths[at])))
        return Move("commits undo and memo of {}", number, at), self._undo_noted(undone, number, process)

    def _memoizes_undo(self, world: World, number: int, process: Process) -> tuple[Move, World]:
        if not self._accepts(world, process, "undoing", "parked"):
            return Move("is refused the memo of the undo of {}", number, process.step), _with(world, number, IDLE)
        return Move("writes the memo of the undo of {}", number, process.step), self._undo_noted(world, number, process)

    def _undo_noted(self, world: World, number: int, process: Process) -> World:
        met, at = world.checkpoint, process.step
        after = _noted(met, at, met.memos[at]._replace(undone=True))
        return _with(world, number, process._replace(step=self._next_undo(after, at), phase="undoing"), after)

    def _records_undone(self, world: World, number: int, process: Process) -> tuple[Move, World]:
        if not self._accepts(world, process, "undoing", "parked"):
            return Move("is refused the outcome", number), _with(world, number, IDLE)
        return Move("records undone", number), _with(self._ended(world, world.checkpoint, "undone"), number, IDLE)

    def _next_undo(self, met: Checkpoint, at: int) -> int:
        """Return the next step that may have happened, or a number beyond them all."""
        onward = range(at - 1, -1, -1) if self._on.reverse_undo else range(at + 1, self._end)
        began = (number for number in onward if self._steps[number].undoable and _to_undo(met.memos[number]))
        return next(began, -1 if self._on.reverse_undo else self._end)

    def _quiet(self, world: World, undoing: Process) -> bool:
        """Tell whether no attempt before can begin a call that it intended: its time-outs have passed (R7)."""
        return not any(
            process.phase == "intended"
            and process.fence < undoing.fence
            and (self._on.every_attempt or not world.checkpoint.memos[process.step].value)
            for process in world.processes
        )

    # What happens outside of the processes.

    def _arrives(self, world: World, call: Call) -> tuple[Move, World]:
        """Let a call arrive; whoever still waits for it hears the answer at once, and may die before using it."""
        truth = world.truths[call.step]
        refused = truth.refuses and not call.undo
        after = truth if refused else self._undone(truth) if call.undo else self._done(truth)
        waits: Phase = "undo waiting" if call.undo else "waiting"
        knows: Phase = "undo knows" if call.undo else "knows"
        value = 0 if call.undo else after.calls
        arrived = world._replace(
            travelling=world.travelling - {call},
            truths=_put(world.truths, call.step, after),
            processes=tuple(
                process
                if (process.phase, process.fence, process.step) != (waits, call.fence, call.step)
                else IDLE
                if refused
                else process._replace(phase=knows, value=value)
                for process in world.processes
            ),
        )
        what = (
            "the undo of {} arrives"
            if call.undo
            else "the call of {} is refused"
            if refused
            else "the call of {} arrives"
        )
        return Move(what, None, call.step), arrived

    def _done(self, truth: Truth) -> Truth:
        if self._on.child_key and truth.made:
            return truth._replace(calls=2)
        return _done_locally(truth)

    def _undone(self, truth: Truth) -> Truth:
        if self._on.child_key and truth.undone:
            return truth
        return _taken_back(truth)._replace(refuses=self._on.barrier)

    def _clients(self, world: World) -> Moves:
        """Answer the client, or its retry, and another request under its key, with the outcome that is recorded."""
        outcome = world.checkpoint.outcome
        if outcome is not None and world.heard is None:
            yield Move("the client hears the outcome"), world._replace(heard=outcome)
        if outcome is not None and world.heard_by_other is None and not self._on.fingerprint:
            yield Move("another request hears the outcome"), world._replace(heard_by_other=outcome)

    def _time(self, world: World) -> Moves:
        met = world.checkpoint
        if _open(met) and met.leased:
            yield Move("the lease ends"), world._replace(checkpoint=met._replace(leased=False))
        if _open(met) and not met.leased and met.fence >= self._claims:
            yield Move("the scan parks it"), world._replace(checkpoint=met._replace(state="parked"))
        if not self._on.expiry_on_read and world.sweeper:
            if _open(met) and not met.leased and not met.swept:
                yield Move("the sweeper marks it"), world._replace(checkpoint=met._replace(swept=True))
            yield Move("the sweeper dies"), world._replace(sweeper=False)

    def _operator(self, world: World) -> Moves:
        """Let a person settle what is parked: each verb raises the fence (R10).

        Who settles it has seen what really happened, and that no call travels or may begin any more.
        """
        met = world.checkpoint
        moved = met._replace(fence=met.fence + 1, leased=False)
        if met.fence < self._claims:
            again = moved._replace(state="undoing" if met.undoing else "running")
            yield Move("the operator resumes it"), world._replace(checkpoint=again)
            if not met.undoing and not met.pivoted:
                back = moved._replace(state="undoing", undoing=True)
                yield Move("the operator has it undone"), world._replace(checkpoint=back)
        if world.travelling or any(process.phase in ("intended", "undoing") for process in world.processes):
            return
        if all(truth.standing == 1 for truth in world.truths):
            seen = [(memo, truth.calls) for memo, truth in zip(met.memos, world.truths, strict=True)]
            memos = tuple(memo if memo.value else memo._replace(value=calls) for memo, calls in seen)
            done = self._ended(world, moved._replace(memos=memos), tuple(memo.value for memo in memos))
            yield Move("the operator settles it as done"), done
        if not any(truth.standing for truth in world.truths):
            yield Move("the operator settles it as undone"), self._ended(world, moved, "undone")


def _open(met: Checkpoint) -> bool:
    return met.state in ("running", "undoing")


def _to_undo(memo: Memo) -> bool:
    return (memo.intent or memo.value > 0) and not memo.undone


def _done_locally(truth: Truth) -> Truth:
    return truth._replace(
        calls=min(truth.calls + 1, 2), made=min(truth.made + 1, 2), standing=min(truth.standing + 1, 2)
    )


def _taken_back(truth: Truth) -> Truth:
    return truth._replace(standing=max(truth.standing - 1, 0), undone=True)


def _onward(process: Process, value: int) -> Process:
    return Process("ready", process.fence, process.step + 1, 0, (*process.known, value))


def _noted(met: Checkpoint, at: int, memo: Memo) -> Checkpoint:
    return met._replace(memos=_put(met.memos, at, memo))


def _with(world: World, number: int, process: Process, met: Checkpoint | None = None) -> World:
    processes = _put(world.processes, number, process)
    return world._replace(processes=processes, checkpoint=world.checkpoint if met is None else met)


def _put(items: tuple[Item, ...], at: int, item: Item) -> tuple[Item, ...]:
    return (*items[:at], item, *items[at + 1 :])
