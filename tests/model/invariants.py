"""What must hold in every state, and of every move, by the ids of the protocol."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from tests.model.recovery import CALLS, CLAIMS
from tests.model.world import FINAL, Move, Operation, Step, World

OfState = Callable[[World], bool]
OfMove = Callable[[World, Move, World], bool]


def of_states(operation: Operation) -> Mapping[str, OfState]:
    """Return what holds in every state."""
    steps = operation.steps
    return {
        "I1": one_outcome,
        "I4": partial(one_effect_per_child_key, steps),
        "I5": done_means_once_each,
        "I6": undone_means_nothing_left,
        "I8": outcome_follows_from_memos,
        "I10": partial(local_effect_with_its_memo, steps),
        "I11": message_with_its_commit,
        "I12": never_two_fingerprints,
    }


def of_moves(operation: Operation) -> Mapping[str, OfMove]:
    """Return what holds of every move."""
    return {
        "I1": final_stays,
        "I2": memos_stay,
        "I3": writes_carry_the_fence,
        "I7": partial(undone_in_reverse, operation.steps),
        "I9": no_call_after_undo_began,
    }


def one_outcome(world: World) -> bool:
    """I1: a client heard nothing but the outcome that is recorded, if there is one."""
    return world.heard is None or world.checkpoint.outcome in (None, world.heard)


def final_stays(before: World, _: Move, after: World) -> bool:
    """I1: a final outcome never changes."""
    met, then = before.checkpoint, after.checkpoint
    return met.state not in FINAL or (met.state, met.outcome) == (then.state, then.outcome)


def memos_stay(before: World, _: Move, after: World) -> bool:
    """I2: a memo never changes."""
    if before.checkpoint is after.checkpoint:
        return True
    pairs = zip(before.checkpoint.memos, after.checkpoint.memos, strict=True)
    return all(memo.value in (0, then.value) for memo, then in pairs)


def writes_carry_the_fence(before: World, move: Move, after: World) -> bool:
    """I3: the fence of an accepted write equals the checkpoint's, and a claim raises it."""
    met, then = before.checkpoint, after.checkpoint
    if move.process is None:
        return then.fence >= met.fence
    if move.what in CLAIMS:
        return then.fence > met.fence
    return met is then or met == then or met.fence == then.fence == before.processes[move.process].fence


def one_effect_per_child_key(steps: tuple[Step, ...], world: World) -> bool:
    """I4: there was never more than one effect under one child key."""
    return all(truth.made <= 1 for step, truth in zip(steps, world.truths, strict=True) if not step.local)


def done_means_once_each(world: World) -> bool:
    """I5: when it is done, each step took effect exactly once."""
    return world.checkpoint.state != "done" or all(truth.made == truth.standing == 1 for truth in world.truths)


def undone_means_nothing_left(world: World) -> bool:
    """I6: when it is undone and nothing travels, no effect is left."""
    if world.checkpoint.state != "undone" or world.travelling:
        return True
    return not any(truth.standing for truth in world.truths)


def undone_in_reverse(steps: tuple[Step, ...], before: World, _: Move, after: World) -> bool:
    """I7: when a step is undone, every later one that may have happened was undone before."""
    if before.truths is after.truths:
        return True
    for number, (truth, then) in enumerate(zip(before.truths, after.truths, strict=True)):
        if then.undone and not truth.undone:
            later = zip(steps[number + 1 :], before.checkpoint.memos[number + 1 :], strict=True)
            return all(not memo.to_undo for step, memo in later if step.undoable)
    return True


def outcome_follows_from_memos(world: World) -> bool:
    """I8: the outcome was made from the memos, and from nothing else."""
    met = world.checkpoint
    return met.state != "done" or met.outcome == tuple(memo.value for memo in met.memos)


def no_call_after_undo_began(before: World, move: Move, _: World) -> bool:
    """I9: no forward call begins once an undo has begun."""
    if move.what != CALLS:
        return True
    undone = before.checkpoint.state == "undone" or any(truth.undone for truth in before.truths)
    return not undone and not any(call.undo for call in before.travelling)


def local_effect_with_its_memo(steps: tuple[Step, ...], world: World) -> bool:
    """I10: a local effect is there if and only if its memo is."""
    return all(
        truth.made == (memo.value > 0) and truth.standing == truth.made - memo.undone
        for step, truth, memo in zip(steps, world.truths, world.checkpoint.memos, strict=True)
        if step.local
    )


def message_with_its_commit(world: World) -> bool:
    """I11: a message is in the outbox if and only if its commit went through."""
    return world.messages == (world.checkpoint.state == "done")


def never_two_fingerprints(world: World) -> bool:
    """I12: two requests that differ, under one key, are never both answered 2xx."""
    return not (isinstance(world.heard, tuple) and isinstance(world.heard_by_other, tuple))
