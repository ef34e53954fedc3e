from retrysafe.demo.lanes import Lane
from retrysafe.demo.report import LaneReport
from retrysafe.demo.table import plain_table, rows
from retrysafe.protocol.states import State
from tests.demo.reports import paid, posting, report


def _reports() -> list[LaneReport]:
    told, once = {"1": paid("1")}, [posting("1")]
    twice = [*once, posting("1", "ch_x")]
    return [
        report(told, twice, {}, lane=Lane.NOTHING),
        report(told, once, {}, lane=Lane.CACHE),
        report(told, [*once, posting("1", repeated=True)], {State.DONE: 1}, kills=[0.5, 1.5], dropped=1),
    ]


def test_each_lane_is_counted_from_the_outside() -> None:
    table = {row.label: row for row in rows(_reports())}
    assert table["charges at the bank"].cells == ["2", "1", "1"]
    assert table["orders charged twice or more"].cells == ["1", "0", "0"]
    assert table["repeats the bank recognised"].cells == ["0", "0", "1"]
    assert table["kill -9 survived"].cells == ["0", "0", "2"]
    assert table["answers dropped"].cells == ["0", "0", "1"]
    assert table["seconds"].cells == ["1.5", "1.5", "1.5"]


def test_what_a_lane_has_no_notion_of_is_a_dash() -> None:
    table = {row.label: row for row in rows(_reports())}
    assert table["parked for a person"].cells == ["–", "–", "0"]


def test_only_money_that_moved_wrongly_and_stuck_orders_are_alarming() -> None:
    alarming = {row.label: list(row.alarming) for row in rows(_reports()) if any(row.alarming)}
    assert alarming == {"orders charged twice or more": [True, False, False]}


def test_the_text_lines_up_and_marks_what_is_alarming() -> None:
    lines = plain_table(_reports()).splitlines()
    assert [len(lines[0]), max(map(len, lines))] == [len(lines[1])] * 2
    assert lines[0].split("  ")[-1] == "retrysafe"
    [twice] = [line for line in lines if line.startswith("orders charged twice")]
    assert twice.split()[-3:] == ["1!", "0", "0"]
