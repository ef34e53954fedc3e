"""The SQLite store keeps the contract."""

from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import settings

from retrysafe.stores.sqlite import SQLiteStore
from retrysafe.testing.clock import ManualClock
from retrysafe.testing.contract import OwnClockContract, StoreContract
from retrysafe.testing.model import StoreMachine


class TestSQLiteStore(StoreContract):
    @pytest.fixture
    def store(self, clock: ManualClock, tmp_path: Path) -> SQLiteStore:
        return SQLiteStore(tmp_path / "store.db", clock=clock)


class TestSQLiteStoreOnItsOwnClock(OwnClockContract):
    @pytest.fixture
    def store(self, tmp_path: Path) -> SQLiteStore:
        return SQLiteStore(tmp_path / "store.db")


class _Machine(StoreMachine):
    """I1, I3: whatever happens, it answers like the memory store; outcomes stay and fences only grow."""

    def make_store(self, clock: ManualClock) -> SQLiteStore:
        self._folder = TemporaryDirectory()
        return SQLiteStore(f"{self._folder.name}/store.db", clock=clock)

    def teardown(self) -> None:
        super().teardown()
        if hasattr(self, "_folder"):
            self._folder.cleanup()


class _AsyncMachine(_Machine):
    face = "async"


TestAnswersLikeMemory = _Machine.TestCase
TestAnswersLikeMemory.settings = settings(max_examples=30, stateful_step_count=30)
TestAnswersLikeMemoryAsync = _AsyncMachine.TestCase
TestAnswersLikeMemoryAsync.settings = TestAnswersLikeMemory.settings
