"""What is known of an operation's steps: as moments of its course for people, as documents for programs.

What a step gave and what it was called with may hold anything, so they are shown only when they are asked for (K8).
Child keys are no secrets.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from retrysafe.cli.timeline import Moment, Sign
from retrysafe.cli.words import duration, instant, iso
from retrysafe.protocol.steps import History, Memo, Place, StepKind, StepStatus, step_key, undo_place


def step_name(memo: Memo) -> str:
    """Name a step; a lap of a loop has its number."""
    name, index = memo.place
    return f"{name}[{index}]" if index else name


def step_moments(history: History, *, results: bool) -> Iterator[Moment]:
    """Tell each step as one moment, its undo beside it; and until when a call may be under way that lies ahead.

    Args:
        history: the operation and its memos.
        results: also what steps gave and what they were called with.
    """
    steps, undos = _paired(history)
    name_width = max((len(step_name(memo)) for memo in steps), default=0)
    kind_width = max((len(memo.kind.value) for memo in steps), default=0)
    for memo in steps:
        if memo.kind is StepKind.PIVOT:
            yield Moment(memo.began_at, Sign.PIVOT, "pivot: from here on it only goes forward")
            continue
        undo = undos.pop(undo_place(memo.place), None)
        head = f"{step_name(memo):<{name_width}}  {memo.kind.value:<{kind_width}}  {_status(memo, undo)}"
        details = tuple(_details(history, memo, undo, results=results))
        yield Moment(memo.began_at, _sign(memo, undo), head, details=details)
        if _under_way(history, memo):
            yield Moment(memo.deadline, Sign.TO_COME, f"no call of step {step_name(memo)} can be under way after that")
    for memo in undos.values():
        yield Moment(memo.began_at, Sign.UNDONE, step_name(memo))


def step_documents(history: History, *, results: bool) -> list[dict[str, Any]]:
    """Return what programs see of the steps, in the order in which they began.

    Args:
        history: the operation and its memos.
        results: also what steps gave and what they were called with; base64 where it is no JSON.
    """
    steps, undos = _paired(history)
    return [_document(history, memo, undos.get(undo_place(memo.place)), results=results) for memo in steps]


def _paired(history: History) -> tuple[Sequence[Memo], dict[Place, Memo]]:
    steps = [memo for memo in history.memos if memo.kind is not StepKind.UNDO]
    undos = {memo.place: memo for memo in history.memos if memo.kind is StepKind.UNDO}
    return sorted(steps, key=lambda memo: memo.seq), undos


def _sign(memo: Memo, undo: Memo | None) -> Sign:
    if undo is not None and undo.status is StepStatus.DONE:
        return Sign.UNDONE
    return {StepStatus.INTENT: Sign.UNKNOWN, StepStatus.DONE: Sign.DONE, StepStatus.REFUSED: Sign.FAILED}[memo.status]


def _status(memo: Memo, undo: Memo | None) -> str:
    seconds = 0.0 if memo.ended_at is None else memo.ended_at - memo.began_at
    took = f" after {duration(seconds)}" if seconds else ""
    text = {
        StepStatus.INTENT: "begun; whether it happened is not known",
        StepStatus.DONE: f"done{took}",
        StepStatus.REFUSED: f"refused{took}, without effect",
    }[memo.status]
    undone = ", then undone" if undo is not None and undo.status is StepStatus.DONE else ""
    return f"{text}{undone} (fence {memo.fence})"


def _details(history: History, memo: Memo, undo: Memo | None, *, results: bool) -> Iterator[str]:
    operation_id = history.checkpoint.operation_id
    if memo.kind is StepKind.EXTERNAL:
        yield f"key   {step_key(operation_id, memo.place)}"
    if memo.status is StepStatus.INTENT:
        may = "may be under way until" if _under_way(history, memo) else "can't be under way any more, since"
        yield f"call  {may} {instant(memo.deadline)}"
    if memo.undo is not None:
        done = f"undone {instant(undo.began_at)} (fence {undo.fence})" if undo is not None else "not called"
        yield f"undo  {memo.undo}  {done}"
        yield f"      key {step_key(operation_id, undo_place(memo.place))}"
    if results:
        yield from (
            f"{name} {_text(payload)}"
            for name, payload in (("with ", memo.arguments), ("gave ", memo.value))
            if payload is not None
        )


def _document(history: History, memo: Memo, undo: Memo | None, *, results: bool) -> dict[str, Any]:
    operation_id = history.checkpoint.operation_id
    members: dict[str, Any] = {
        "name": memo.name,
        "index": memo.index,
        "seq": memo.seq,
        "kind": memo.kind.value,
        "status": memo.status.value,
        "fence": memo.fence,
        "child_key": step_key(operation_id, memo.place) if memo.kind is StepKind.EXTERNAL else None,
        "began_at": iso(memo.began_at),
        "ended_at": iso(memo.ended_at),
        "call_until": iso(memo.deadline) if memo.status is StepStatus.INTENT else None,
        "undo": None if memo.undo is None else _undo_document(operation_id, memo, undo),
    }
    if results:
        members |= {"arguments": _value(memo.arguments), "result": _value(memo.value)}
    return members


def _undo_document(operation_id: str, memo: Memo, undo: Memo | None) -> dict[str, Any]:
    return {
        "function": memo.undo,
        "child_key": step_key(operation_id, undo_place(memo.place)),
        "status": None if undo is None else undo.status.value,
        "fence": None if undo is None else undo.fence,
        "ended_at": None if undo is None else iso(undo.ended_at),
    }


def _under_way(history: History, memo: Memo) -> bool:
    return memo.status is StepStatus.INTENT and memo.deadline > history.checkpoint.now


def _value(payload: bytes | None) -> Any:  # noqa: ANN401 - whatever a step gave
    if payload is None:
        return None
    try:
        return msgspec.json.decode(payload)
    except msgspec.DecodeError:
        return {"base64": base64.b64encode(payload).decode()}


def _text(payload: bytes) -> str:
    return msgspec.json.encode(_value(payload)).decode()
