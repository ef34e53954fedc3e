from collections.abc import Mapping

import pytest

from retrysafe.demo.lanes import Lane
from retrysafe.demo.report import broken_promises
from retrysafe.protocol.states import State
from tests.demo.reports import REFUSED, UNKNOWN, paid, posting, report


def test_a_lane_that_charged_every_order_once_kept_its_promise() -> None:
    lane = report(
        {"1": paid("1"), "2": paid("2")},
        [posting("1"), posting("2"), posting("2", repeated=True)],
        {State.DONE: 2},
    )
    assert broken_promises(lane, "again") == []
    assert (lane.charges, lane.charged_twice, lane.never_charged, lane.recognised) == (2, 0, 0, 1)


def test_a_double_charge_breaks_the_promise() -> None:
    lane = report({"1": paid("1")}, [posting("1"), posting("1", "ch_x")], {State.DONE: 1})
    assert broken_promises(lane, "again") == ["1 was charged 2 times"]
    assert lane.charged_twice == 1


def test_a_double_charge_of_a_parked_order_breaks_the_promise() -> None:
    lane = report({"1": UNKNOWN}, [posting("1"), posting("1", "ch_x")], {State.PARKED: 1})
    assert broken_promises(lane, "once") == ["1 was charged 2 times"]


def test_an_order_that_was_told_201_and_never_charged_breaks_the_promise() -> None:
    lane = report({"1": paid("1")}, [], {State.DONE: 1})
    assert "1 was told 201 and never charged" in broken_promises(lane, "again")


def test_a_receipt_for_another_charge_breaks_the_promise() -> None:
    lane = report({"1": paid("1", "ch_else")}, [posting("1")], {State.DONE: 1})
    assert broken_promises(lane, "again") == ["1 was told of charge ch_else, which the bank did not make for it"]


@pytest.mark.parametrize("state", [State.RUNNING, State.RELEASED, State.STREAMING])
def test_a_checkpoint_that_is_neither_final_nor_parked_is_stuck(state: State) -> None:
    lane = report({"1": paid("1")}, [posting("1")], {state: 1})
    assert lane.open == 1
    assert any("stuck" in problem for problem in broken_promises(lane, "again"))


def test_a_customer_without_an_answer_is_stuck() -> None:
    lane = report({"1": paid("1")}, [posting("1")], {State.DONE: 1}, orders=2)
    assert lane.open == 1
    assert any("stuck" in problem for problem in broken_promises(lane, "again"))


def test_a_refusal_breaks_the_promise() -> None:
    assert "1 was refused with 422" in broken_promises(report({"1": REFUSED}, [], {}), "again")


def test_mode_once_may_park_and_must_tell() -> None:
    told = {"1": paid("1"), "2": UNKNOWN, "3": UNKNOWN}
    lane = report(told, [posting("1"), posting("2")], {State.DONE: 1, State.PARKED: 2})
    assert broken_promises(lane, "once") == []
    assert len(broken_promises(lane, "again")) == 1


@pytest.mark.parametrize("states", [{State.DONE: 2}, {State.DONE: 1}, {State.PARKED: 2}])
def test_what_customers_were_told_is_what_the_checkpoints_say(states: Mapping[State, int]) -> None:
    lane = report({"1": paid("1"), "2": UNKNOWN}, [posting("1")], states)
    assert len(broken_promises(lane, "once")) == 1


def test_other_lanes_have_no_checkpoints_and_still_count_who_never_heard() -> None:
    lane = report({"1": paid("1")}, [posting("1")], {}, lane=Lane.NOTHING, orders=3)
    assert (lane.open, lane.never_charged, lane.parked) == (2, 2, 0)
