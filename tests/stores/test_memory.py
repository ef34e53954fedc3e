"""The memory store keeps the contract; it is its executable specification."""

import pytest

from retrysafe.stores.memory import MemoryStore
from retrysafe.testing.clock import ManualClock
from retrysafe.testing.contract import StoreContract


class TestMemoryStore(StoreContract):
    @pytest.fixture
    def store(self, clock: ManualClock) -> MemoryStore:
        return MemoryStore(clock=clock)
