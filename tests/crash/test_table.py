"""The crash table: each cell is a real process that was killed, and a process or client that found what it left."""

from collections.abc import Mapping

import pytest

from retrysafe import State
from tests.crash.table import PAGE, Cell, Seen, cells, measure_all, page

# What protocol.md promises; effects, and how it ends.
PROMISED: dict[str, dict[str, str]] = {
    "once": {"claimed": "0, parked", "effect": "1, parked", "streaming": "1, parked", "frozen": "1"},
    "again": {"claimed": "1", "effect": "2", "streaming": "2", "frozen": "2"},
    "steps-retry": {"claimed": "1", "effect": "1", "streaming": "1", "frozen": "1"},
    "steps-probe": {"claimed": "1", "effect": "1", "streaming": "1", "frozen": "1"},
    "steps-park": {"claimed": "1", "effect": "1, parked", "streaming": "1", "frozen": "1"},
    "steps-local": {"claimed": "1", "effect": "1", "streaming": "1", "frozen": "1"},
    # Bytes leave only after the commit, so that a stream that is cut off is done.
    "transaction": {"claimed": "1", "effect": "1", "streaming": "1, done", "frozen": "1"},
}
RECORDED = "1, replay"
# All cells are measured before the first test: two minutes, and more on a machine that is busy.
pytestmark = pytest.mark.timeout(900)
# All four modes on SQLite; on PostgreSQL as well. Both are measured in one run.


@pytest.fixture(scope="module")
def table() -> Mapping[Cell, Seen]:
    return measure_all()


@pytest.fixture(params=cells(), ids=lambda cell: f"{cell[0]}-{cell[1].name}-{cell[2].name}-{cell[3]}")
def cell(request: pytest.FixtureRequest) -> Cell:
    found: Cell = request.param
    return found


def test_a_crash_costs_what_the_mode_says_and_no_more(table: Mapping[Cell, Seen], cell: Cell) -> None:
    """The crash table; C5, R1, R2, S1."""
    _, way, moment, __ = cell
    assert table[cell].text == {"recorded": RECORDED, **PROMISED[way.name]}[moment.name]


def test_the_client_hears_what_became_of_its_operation(table: Mapping[Cell, Seen], cell: Cell) -> None:
    """A replay of the outcome, or in plain words that it is unknown; nobody has to guess (S2, S5, S7)."""
    _, way, moment, finder = cell
    seen = table[cell]
    heard = (seen.later.status, seen.later.code, seen.later.replayed)
    if seen.state is State.PARKED:
        assert heard == (409, "outcome-unknown", False)
        assert seen.later.header("retry-after") is None
    elif moment.name == "streaming":
        # Its body was not kept: who runs it again gets it, everybody else hears that it is done.
        told = finder == "the scan" or way.mode == "transaction"
        assert heard == ((409, "completed-not-replayable", False) if told else (200, "", False))
    else:
        runs_itself = way.mode != "once" and finder == "the retrying client" and moment.name in {"claimed", "effect"}
        assert heard == (201, "", not runs_itself)


def test_a_final_operation_keeps_nothing_of_its_request(table: Mapping[Cell, Seen], cell: Cell) -> None:
    """R13."""
    seen = table[cell]
    assert seen.state in {State.DONE, State.PARKED}
    assert seen.keeps_request is (seen.state is State.PARKED and cell[1].mode != "once")


@pytest.mark.parametrize(
    "cell", [cell for cell in cells() if cell[2].freezes], ids=lambda cell: f"{cell[0]}-{cell[1].name}-{cell[3]}"
)
def test_who_was_frozen_never_answers_for_itself(table: Mapping[Cell, Seen], cell: Cell) -> None:
    """C4, R11: the winner's outcome or 503; in mode once the truth, if it could still be recorded."""
    mode, seen = cell[1].mode, table[cell]
    assert seen.first is not None
    if seen.first.status == 201:
        assert seen.first.body == seen.later.body == (b'{"by": 1}' if mode == "once" else b'{"by": 2}')
        assert seen.state is State.DONE
    else:
        assert (seen.first.status, seen.first.code) == (503, "attempt-superseded")


def test_the_page_says_what_the_run_came_to(table: Mapping[Cell, Seen]) -> None:
    """Written by ``python -m tests.crash.table``."""
    assert PAGE.read_text() == page(table)
