"""What a person may do with an operation, and what would follow."""

import pytest
from msgspec.structs import replace

from retrysafe.cli.prospects import allowed, sentences
from retrysafe.protocol.encoding import encode_outcome
from retrysafe.protocol.model import Checkpoint, Mode, Outcome
from retrysafe.protocol.operator import Verb
from retrysafe.protocol.states import State
from retrysafe.protocol.steps import History, Memo, StepKind, StepStatus
from tests.cli.test_timeline import RUNNING, T0

PARKED = replace(RUNNING, state=State.PARKED, reason="the bank did not answer", now=T0 + 40)
RESERVED = Memo("reserve", 0, 1, StepKind.EXTERNAL, StepStatus.DONE, 1, undo="shop:free", began_at=T0, ended_at=T0)
CHARGING = Memo(
    "charge", 0, 2, StepKind.EXTERNAL, StepStatus.INTENT, 1, undo="shop:refund", timeout_seconds=90, began_at=T0
)
PIVOT = Memo("pivot", 0, 3, StepKind.PIVOT, StepStatus.DONE, 1, began_at=T0, ended_at=T0)


def _steps(*memos: Memo, **changes: object) -> History:
    return History(replace(PARKED, mode=Mode.STEPS, **changes), memos)


@pytest.mark.parametrize(
    ("seen", "memos", "verbs"),
    [
        (PARKED, (), {"settle", "release"}),
        (replace(PARKED, mode=Mode.AGAIN), (), {"resume", "settle", "release"}),
        (replace(PARKED, mode=Mode.TRANSACTION), (), {"resume", "settle", "release"}),
        (replace(PARKED, mode=Mode.STEPS), (RESERVED,), {"resume", "undo", "settle", "release"}),
        (replace(PARKED, mode=Mode.STEPS), (RESERVED, PIVOT), {"resume", "settle", "release"}),
        (replace(PARKED, mode=Mode.STEPS, undoing=True), (RESERVED,), {"resume", "undo", "settle"}),
        (replace(RUNNING, mode=Mode.STEPS, now=T0 + 40), (), {"resume", "undo", "settle", "release"}),
        (RUNNING, (), set[str]()),
        (replace(RUNNING, state=State.DONE), (), set[str]()),
        (replace(RUNNING, state=State.RELEASED), (), set[str]()),
    ],
)
def test_only_verbs_that_fit_are_offered(seen: Checkpoint, memos: tuple[Memo, ...], verbs: set[str]) -> None:
    """R10, R7."""
    assert {str(verb) for verb, _ in allowed(History(seen, memos))} == verbs


def test_going_on_names_what_is_not_called_again_and_what_nobody_knows() -> None:
    """R4, R6."""
    told = ". ".join(sentences(_steps(RESERVED, CHARGING, request=b"kept"), Verb.RESUME))
    assert told == (
        "the next scan runs it, or its client's retry, from its memos: step reserve is not called again. "
        "Unless the code says how to find out whether step charge happened, it is parked again. "
        "Attempts are counted anew"
    )
    assert sentences(_steps(), Verb.RESUME)[0] == "its client's retry runs it, from its beginning"
    assert (
        sentences(_steps(RESERVED, undoing=True), Verb.RESUME)[0] == "its undo goes on with the next scan: step reserve"
    )


def test_undoing_names_its_steps_in_their_order_and_when_it_begins() -> None:
    """R7."""
    first, when, answer = sentences(_steps(RESERVED, CHARGING), Verb.UNDO)
    assert first.endswith("steps charge, reserve, in this order")
    assert when == "That begins at 2023-11-14 22:14:50Z, because a call may be under way until then"
    assert answer == "Then its client gets 409 operation-undone, or what its `undone=` says"
    pending = encode_outcome(Outcome(422, (), None))
    assert sentences(_steps(outcome=pending), Verb.UNDO)[-1] == "Then its client gets 422"
    assert "nothing is left to undo" in sentences(_steps(), Verb.UNDO)[0]


def test_settling_says_what_becomes_of_what_was_done() -> None:
    outcome = Outcome(201, ((b"content-type", b"application/json"),), b"{}")
    done = sentences(_steps(RESERVED), Verb.SETTLE, outcome, retention_seconds=3600)
    assert done == [
        "it is done: its client gets 201 (application/json, 2 B) for 1 h, and nothing runs",
        "What step reserve did stays as it is",
    ]
    undone = sentences(_steps(RESERVED), Verb.SETTLE, Outcome(409, (), b""), undone=True)
    assert undone == [
        "it is undone: its client gets 409, and nothing runs",
        "What step reserve did counts as taken back by hand",
    ]


def test_releasing_warns_of_what_may_happen_twice() -> None:
    once = ". ".join(sentences(History(PARKED, ()), Verb.RELEASE))
    assert once.startswith("the key is free for the same request. Its client's retry runs it, from its beginning")
    assert once.endswith("If it did happen after all, it then happens twice")
    again = ". ".join(sentences(History(replace(PARKED, mode=Mode.AGAIN), ()), Verb.RELEASE))
    assert "twice" not in again
