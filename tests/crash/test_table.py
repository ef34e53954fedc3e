"""The crash table: each cell is a real process that was killed, and a process or client that found what it left."""

from collections.abc import Mapping
from itertools import product

import pytest

from retrysafe import State
from tests.crash.table import FINDERS, MODES, MOMENTS, PAGE, Cell, Finder, Mode, Moment, Seen, measure_all, page

# What protocol.md promises; effects, and how it ends.
PROMISED: dict[tuple[str, str], str] = {
    ("once", "claimed"): "0, parked",
    ("once", "effect"): "1, parked",
    ("once", "streaming"): "1, parked",
    ("once", "recorded"): "1, replay",
    ("once", "frozen"): "1",
    ("again", "claimed"): "1",
    ("again", "effect"): "2",
    ("again", "streaming"): "2",
    ("again", "recorded"): "1, replay",
    ("again", "frozen"): "2",
}


@pytest.fixture(scope="module")
def table() -> Mapping[Cell, Seen]:
    return measure_all()


@pytest.fixture(params=list(product(MODES, MOMENTS, FINDERS)), ids=lambda cell: f"{cell[0]}-{cell[1].name}-{cell[2]}")
def cell(request: pytest.FixtureRequest) -> Cell:
    mode: Mode
    moment: Moment
    finder: Finder
    mode, moment, finder = request.param
    return mode, moment, finder


def test_a_crash_costs_what_the_mode_says_and_no_more(table: Mapping[Cell, Seen], cell: Cell) -> None:
    """The crash table; C5, R1, R2, S1."""
    mode, moment, _ = cell
    assert table[cell].text == PROMISED[mode, moment.name]


def test_the_client_hears_what_became_of_its_operation(table: Mapping[Cell, Seen], cell: Cell) -> None:
    """A replay of the outcome, or in plain words that it is unknown; nobody has to guess (S2, S5, S7)."""
    mode, moment, finder = cell
    seen = table[cell]
    heard = (seen.later.status, seen.later.code, seen.later.replayed)
    if seen.state is State.PARKED:
        assert heard == (409, "outcome-unknown", False)
        assert seen.later.header("retry-after") is None
    elif moment.name == "streaming":
        # Its body was not kept: who runs it again gets it, everybody else hears that it is done.
        assert heard == (409, "completed-not-replayable", False) if finder == "the scan" else (200, "", False)
    else:
        runs_itself = mode == "again" and finder == "the retrying client" and moment.name in {"claimed", "effect"}
        assert heard == (201, "", not runs_itself)


def test_a_final_operation_keeps_nothing_of_its_request(table: Mapping[Cell, Seen], cell: Cell) -> None:
    """R13."""
    mode, _, __ = cell
    seen = table[cell]
    assert seen.keeps_request is False
    assert seen.state is State.DONE or mode == "once"


@pytest.mark.parametrize("finder", FINDERS)
@pytest.mark.parametrize("mode", MODES)
def test_who_was_frozen_never_answers_for_itself(table: Mapping[Cell, Seen], mode: Mode, finder: Finder) -> None:
    """C4: the winner's outcome or 503; in mode once the truth, if it could still be recorded."""
    (frozen,) = (moment for moment in MOMENTS if moment.freezes)
    seen = table[mode, frozen, finder]
    assert seen.first is not None
    if seen.first.status == 201:
        assert seen.first.body == seen.later.body == (b'{"by": 1}' if mode == "once" else b'{"by": 2}')
        assert seen.state is State.DONE
    else:
        assert (seen.first.status, seen.first.code) == (503, "attempt-superseded")


def test_the_page_says_what_the_run_came_to(table: Mapping[Cell, Seen]) -> None:
    """Written by ``python -m tests.crash.table``."""
    assert PAGE.read_text() == page(table)
