"""Nothing that the protocol forbids can happen in its model, and each protection is needed for that."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields

import pytest

from retrysafe.protocol.states import TRANSITIONS
from tests.model.cases import (
    CASES,
    ONE_CALL,
    ORDER,
    SHIPMENT,
    TWO_CALLS,
    Case,
    explored,
    in_words,
    is_fair,
    is_settled,
    without,
)
from tests.model.explorer import Model, explore
from tests.model.recovery import Recovery
from tests.model.table import PAGE, filled
from tests.model.world import Move, Operation, Protections, World


@pytest.mark.parametrize(
    ("operation", "processes"),
    [
        pytest.param(ORDER, 2, id="order"),
        pytest.param(ONE_CALL, 3, id="one-call-three-processes"),
        pytest.param(SHIPMENT, 2, id="shipment"),
        pytest.param(TWO_CALLS, 2, id="two-calls"),
    ],
)
def test_with_every_protection_nothing_can_go_wrong(
    operation: Operation, processes: int, figure: Callable[[str], None]
) -> None:
    """I1 to I12, and every operation comes to rest, in every state that three claims can lead to."""
    found = explored(operation, Protections(), 3, processes)
    steps = ", ".join(step.name for step in operation.steps)
    figure(
        f"model of recovery: {found.states:6d} states, {found.transitions:6d} moves, {found.depth} deep:"
        f" {steps}; {processes} processes"
    )
    assert found.broken == {}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.off)
def test_without_a_protection_exactly_what_it_is_there_for_breaks(case: Case) -> None:
    """C1, C4, C5, F1, S1, R4, R5, R7, R12: none of them can be left out."""
    broken = without(case).broken
    assert set(broken) == set(case.breaks)
    way = broken[case.breaks[0]]
    assert way
    assert in_words(way[-1], case.operation) == case.last


def test_every_protection_is_taken_away_once() -> None:
    assert sorted(case.off for case in CASES) == sorted(field.name for field in fields(Protections))


def test_every_invariant_is_broken_by_something() -> None:
    """I1 to I12: one that nothing breaks would say nothing."""
    broken = {name for case in CASES for name in case.breaks}
    assert broken >= {f"I{number}" for number in range(1, 13)}


WHAT_HAPPENS = {
    "claims",
    "claims to undo",
    "writes the intent of {}",
    "calls {}",
    "the call of {} arrives",
    "the call of {} is refused",
    "writes the memo of {}",
    "writes the memo of {}, and does not hear of it",
    "takes the memo of {} for its own",
    "commits effect and memo of {}",
    "commits effect and memo of {}, and does not hear of it",
    "finds its memo of {}",
    "passes the pivot",
    "turns back",
    "calls the undo of {}",
    "the undo of {} arrives",
    "writes the memo of the undo of {}",
    "commits undo and memo of {}",
    "records the outcome",
    "records undone",
    "the client hears the outcome",
    "the lease ends",
    "dies",
    "parks it",
    "the scan parks it",
    "the operator resumes it",
    "the operator has it undone",
    "the operator settles it as done",
    "the operator settles it as undone",
    # Writes of an attempt that lost its claim (C4).
    "is refused the intent of {}",
    "is refused the pivot",
    "is refused the memo of {}",
    "is refused the commit of {}",
    "is refused the memo of the undo of {}",
    "is refused the outcome",
}


def test_everything_that_the_model_is_about_happens_in_it() -> None:
    """C4, R6, R7, R10: a model in which nobody is ever late proves nothing."""
    assert {move.what for move in explored(SHIPMENT, Protections(), 3, 2).moves} == WHAT_HAPPENS


def test_the_states_of_the_model_change_as_those_of_the_protocol_do() -> None:
    changes: set[tuple[str, str]] = set()

    def note(before: World, _: Move, after: World) -> bool:
        met, then = before.checkpoint, after.checkpoint
        if met.state != "none" and (met.state, met.fence) != (then.state, then.fence):
            changes.add((met.state, then.state))
        return True

    recovery = Recovery(SHIPMENT, Protections(), claims=3)
    explore(Model(recovery.initial, recovery.moves, {}, {"noted": note}, is_settled, is_fair))
    modelled = {"running", "undoing", "parked", "done", "undone"}
    assert changes == {
        (source.value, target.value)
        for source, targets in TRANSITIONS.items()
        for target in targets
        if source.value in modelled and target.value in modelled
    }


def test_the_page_says_what_the_model_says() -> None:
    text = PAGE.read_text()
    assert "<!-- made from the model: protections -->" in text
    assert text == filled(text), "run: python -m tests.model.table"
