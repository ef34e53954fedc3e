"""What a person may do with an operation, and in plain words what would follow (R10)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from retrysafe.cli.operations import state_word
from retrysafe.cli.steps import step_name
from retrysafe.cli.words import duration, instant, printable, size
from retrysafe.errors import RecordUnreadable
from retrysafe.protocol.encoding import decode_outcome
from retrysafe.protocol.model import Checkpoint, Mode, Outcome, Response
from retrysafe.protocol.operator import Intervention, Move, Refusal, Verb, judge_intervention
from retrysafe.protocol.states import State
from retrysafe.protocol.steps import History, Memo, StepKind, StepStatus, Trail

_SHORT = 18
_UNDONE_REPLY = "409 operation-undone, or what its `undone=` says"


def judged(history: History, intervention: Intervention) -> Move | Refusal:
    """Tell whether a verb fits an operation as it was read; the store judges again when it is carried out."""
    seen = history.checkpoint
    return judge_intervention(seen, seen, intervention, pivoted=Trail(history).pivoted)


def standing(seen: Checkpoint) -> str:
    """Say which operation it is and how it stands."""
    why = f": {printable(seen.reason)}" if seen.reason else ""
    which = f"{seen.operation_id[:_SHORT]}… {printable(seen.name)}"
    return f"{which} is {state_word(seen)} with fence {seen.fence}{why}"


def allowed(history: History) -> Iterator[tuple[Verb, str]]:
    """Name the verbs that fit now, each with what would follow."""
    for verb in Verb:
        # What was being undone can only be settled as undone.
        undone = history.checkpoint.undoing
        if isinstance(judged(history, Intervention(verb, "", "", outcome=b"", undone=undone)), Move):
            yield verb, ". ".join(sentences(history, verb, undone=undone))


def sentences(
    history: History, verb: Verb, answer: Outcome | None = None, *, undone: bool = False, retention_seconds: float = 0.0
) -> Sequence[str]:
    """Say what would follow, in sentences without full stops; the first goes on behind "After this".

    Args:
        history: the operation as it was read.
        verb: what a person would do.
        answer: what its client is to be answered, for ``settle``; None when it is not said yet.
        undone: for ``settle``: every effect was taken back by hand.
        retention_seconds: how long that answer is replayable.
    """
    match verb:
        case Verb.RESUME:
            return [*_resumed(history), "Attempts are counted anew"]
        case Verb.UNDO:
            return list(_undone(history))
        case Verb.SETTLE:
            return list(_settled(history, answer, undone=undone, retention_seconds=retention_seconds))
        case Verb.RELEASE:
            return list(_released(history))


def next_sentence(after: Checkpoint) -> str:
    """Say what happens next to an operation that a person has just moved."""
    match after.state:
        case State.DONE | State.UNDONE:
            answer = _kept(after)
            return f"its client's retry gets {answer}" if answer else "its client's retry gets that outcome"
        case State.RELEASED:
            return "the client's retry runs it"
        case State.UNDOING:
            return "the next scan undoes it"
        case _:
            return "the next scan runs it" if after.request is not None else "the client's retry runs it"


def _resumed(history: History) -> Iterator[str]:
    seen = history.checkpoint
    if seen.undoing:
        yield f"its undo goes on with the next scan: {_to_undo(history)}"
        yield f"Then its client gets {_kept(seen) or _UNDONE_REPLY}"
        return
    who = "the next scan runs it, or its client's retry" if seen.request is not None else "its client's retry runs it"
    if seen.mode is not Mode.STEPS:
        begins = "nothing of it was committed" if seen.mode is Mode.TRANSACTION else "it is declared repeatable"
        yield f"{who}, from its beginning: {begins}"
        return
    yield f"{who}, {_from(history)}"
    yield from _not_known(history)


def _undone(history: History) -> Iterator[str]:
    yield f"the next scan takes its steps back, and it never goes forward again: {_to_undo(history)}"
    trail, now = Trail(history), history.checkpoint.now
    if trail.to_undo() and (quiet_at := trail.quiet_at()) > now:
        yield f"That begins at {instant(quiet_at)}, because a call may be under way until then"
    yield f"Then its client gets {_kept(history.checkpoint) or _UNDONE_REPLY}"


def _settled(history: History, answer: Outcome | None, *, undone: bool, retention_seconds: float) -> Iterator[str]:
    gets = "the answer that you give" if answer is None else _worded(answer)
    kept = f" for {duration(retention_seconds)}" if retention_seconds else ""
    state = "done, or undone with --undone" if answer is None else State.UNDONE if undone else State.DONE
    yield f"it is {state}: its client gets {gets}{kept}, and nothing runs"
    if left := Trail(history).to_undo():
        gone = "counts as taken back by hand" if undone else "stays as it is"
        yield f"What {_named(left)} did {gone}"


def _released(history: History) -> Iterator[str]:
    yield f"the key is free for the same request. Its client's retry runs it, {_from(history)}; until then nothing runs"
    if history.checkpoint.mode is Mode.ONCE:
        yield "If it did happen after all, it then happens twice"
    yield from _not_known(history)


def _to_undo(history: History) -> str:
    left = Trail(history).to_undo()
    if not left:
        return "nothing is left to undo"
    return f"{_named(left)}, in this order" if len(left) > 1 else _named(left)


def _from(history: History) -> str:
    known = [memo for memo in _forward(history) if memo.status is not StepStatus.INTENT]
    if not known:
        return "from its beginning"
    return f"from its memos: {_named(known)} {'is' if len(known) == 1 else 'are'} not called again"


def _not_known(history: History) -> Iterator[str]:
    """Warn of steps that may have happened: only the code knows what it declared about them (R6)."""
    if unknown := [memo for memo in _forward(history) if memo.status is StepStatus.INTENT]:
        yield f"Unless the code says how to find out whether {_named(unknown)} happened, it is parked again"


def _forward(history: History) -> list[Memo]:
    return [memo for memo in history.memos if memo.kind in {StepKind.EXTERNAL, StepKind.LOCAL}]


def _named(memos: Sequence[Memo]) -> str:
    names = ", ".join(printable(step_name(memo)) for memo in memos)
    return f"{'step' if len(memos) == 1 else 'steps'} {names}"


def _kept(seen: Checkpoint) -> str | None:
    try:
        return None if seen.outcome is None else _worded(decode_outcome(seen.outcome))
    except RecordUnreadable:
        return None


def _worded(outcome: Outcome) -> str:
    kind = Response.raw(outcome.status, outcome.headers, b"").header("content-type")
    if not outcome.body:
        return f"{outcome.status}"
    return f"{outcome.status} ({printable(kind or 'of no type')}, {size(len(outcome.body))})"
