"""What happens to an operation besides what its processes do: calls arrive, leases end, clients hear, people settle."""

from __future__ import annotations

from collections.abc import Iterator

from tests.model.world import IDLE, Call, Move, Process, Protections, World, put

Moves = Iterator[tuple[Move, World]]


class Surroundings:
    """The network, the clock, the clients and the operator.

    Args:
        on: the protections.
        claims: how many there can be; what the last of them leaves is parked (R8).
    """

    def __init__(self, on: Protections, claims: int) -> None:
        self._on = on
        self._claims = claims

    def moves(self, world: World) -> Moves:
        """Yield what may happen now, and what is then."""
        for call in sorted(world.travelling):
            yield self._undo_arrives(world, call) if call.undo else self._call_arrives(world, call)
        yield from self._clients(world)
        yield from self._time(world)
        if world.checkpoint.state == "parked":
            yield from self._operator(world)

    def _call_arrives(self, world: World, call: Call) -> tuple[Move, World]:
        """Let a call arrive; whoever still waits for it hears the answer at once, and may die before using it."""
        truth, waiting = world.truths[call.step], Process("waiting", call.fence, call.step)
        if truth.refuses:
            stopped = tuple(IDLE if _is(process, waiting) else process for process in world.processes)
            refused = world._replace(travelling=world.travelling - {call}, processes=stopped)
            return Move("the call of {} is refused", None, call.step), refused
        after = truth._replace(calls=2) if truth.made and self._on.child_key else truth.happened()
        arrived = world._replace(
            travelling=world.travelling - {call},
            truths=put(world.truths, call.step, after),
            processes=tuple(
                process._replace(phase="knows", value=after.calls) if _is(process, waiting) else process
                for process in world.processes
            ),
        )
        return Move("the call of {} arrives", None, call.step), arrived

    def _undo_arrives(self, world: World, call: Call) -> tuple[Move, World]:
        truth, waiting = world.truths[call.step], Process("undo waiting", call.fence, call.step)
        after = truth if truth.undone and self._on.child_key else truth.taken_back()
        arrived = world._replace(
            travelling=world.travelling - {call},
            truths=put(world.truths, call.step, after._replace(refuses=self._on.barrier)),
            processes=tuple(
                process._replace(phase="undo knows") if _is(process, waiting) else process
                for process in world.processes
            ),
        )
        return Move("the undo of {} arrives", None, call.step), arrived

    def _clients(self, world: World) -> Moves:
        """Answer the client, or its retry, and another request under its key, with the outcome that is recorded."""
        outcome = world.checkpoint.outcome
        if outcome is not None and world.heard is None:
            yield Move("the client hears the outcome"), world._replace(heard=outcome)
        if outcome is not None and world.heard_by_other is None and not self._on.fingerprint:
            yield Move("another request hears the outcome"), world._replace(heard_by_other=outcome)

    def _time(self, world: World) -> Moves:
        met = world.checkpoint
        if met.is_open and met.leased:
            yield Move("the lease ends"), world._replace(checkpoint=met._replace(leased=False))
        if met.is_open and not met.leased and met.fence >= self._claims:
            yield Move("the scan parks it"), world._replace(checkpoint=met._replace(state="parked"))
        if not self._on.expiry_on_read and world.sweeper:
            if met.is_open and not met.leased and not met.swept:
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
            outcome = tuple(memo.value for memo in memos)
            messages = 1 if self._on.outbox else world.messages
            done = world.ended(moved._replace(memos=memos), outcome, messages)
            yield Move("the operator settles it as done"), done
        if not any(truth.standing for truth in world.truths):
            yield Move("the operator settles it as undone"), world.ended(moved, "undone", world.messages)


def _is(process: Process, waiting: Process) -> bool:
    return (process.phase, process.fence, process.step) == (waiting.phase, waiting.fence, waiting.step)
