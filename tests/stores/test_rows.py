"""Rows and the texts that are made from the states."""

import pytest

from retrysafe.errors import RecordUnreadable
from retrysafe.protocol.model import Mode
from retrysafe.protocol.states import LEASED, State
from retrysafe.stores.memory import MemoryStore
from retrysafe.stores.rows import COLUMNS, PURGEABLE, before, checkpoint, one_of, readable
from retrysafe.testing.asks import an_ask
from retrysafe.testing.runner import Runner
from tests.protocol.samples import DONE


def test_a_row_comes_back_as_the_checkpoint_it_was() -> None:
    runner = Runner(MemoryStore(), "sync")
    met = runner.read(runner.claimed(an_ask(mode=Mode.AGAIN)))
    row = [getattr(met, column) for column in COLUMNS]
    plain = [value.value if isinstance(value, (Mode, State)) else value for value in row]
    assert checkpoint(plain, met.now) == met
    for column in ("mode", "state"):
        newer = list(plain)
        newer[COLUMNS.index(column)] = "later"
        with pytest.raises(RecordUnreadable):
            checkpoint(newer, met.now)


def test_a_state_is_purgeable_exactly_when_nobody_waits_for_it() -> None:
    """S10."""
    assert set(PURGEABLE) == set(State) - LEASED - {State.PARKED}


def test_conditions_name_states_in_the_enum_s_order() -> None:
    assert one_of([State.DONE, State.RUNNING]) == "(state = 'running' OR state = 'done')"
    assert before(State.RELEASED) == "(state = 'running')"


def test_a_row_of_a_newer_release_does_not_keep_the_scan_from_the_others() -> None:
    """R2, S11."""
    known = [getattr(DONE, column) for column in COLUMNS]
    newer = [*known]
    newer[COLUMNS.index("mode")] = "later"
    assert [met.operation_id for met in readable([newer, known], DONE.now)] == [DONE.operation_id]
