"""The verbs on documents keep the contract, on a port that is exact and on one that is as careless as it may be."""

from collections.abc import Callable

import pytest
from hypothesis import settings

from retrysafe.stores.program import Program, Statement
from retrysafe.testing.clock import ManualClock
from retrysafe.testing.contract import StoreContract
from retrysafe.testing.model import StoreMachine
from tests.stores.documents.cabinet import Cabinet, CabinetStore, careful, careless


class TestDocuments(StoreContract):
    @pytest.fixture(params=[careful, careless], ids=["careful", "careless"])
    def cabinet(self, request: pytest.FixtureRequest) -> Cabinet:
        make: Callable[[], Cabinet] = request.param
        return make()

    @pytest.fixture
    def store(self, clock: ManualClock, cabinet: Cabinet) -> CabinetStore:
        return CabinetStore(cabinet, clock)


class CarefulMachine(StoreMachine):
    def make_store(self, clock: ManualClock) -> CabinetStore:
        return CabinetStore(careful(), clock)


class CarelessMachine(StoreMachine):
    def make_store(self, clock: ManualClock) -> CabinetStore:
        return CabinetStore(careless(), clock)


TestCarefulModel = CarefulMachine.TestCase
TestCarefulModel.settings = settings(max_examples=40, stateful_step_count=40)
TestCarelessModel = CarelessMachine.TestCase
TestCarelessModel.settings = settings(max_examples=40, stateful_step_count=40)


def test_a_program_for_a_database_is_refused(clock: ManualClock) -> None:
    def program() -> Program[None]:
        yield Statement("SELECT 1")

    with pytest.raises(TypeError, match="made for another store: SELECT 1"):
        CabinetStore(careful(), clock).run(program)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()
