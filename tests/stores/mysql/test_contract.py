"""The MySQL store keeps the contract, on a real MariaDB."""

from collections.abc import Iterator

import pytest

from retrysafe.stores.mysql import MySQLStore, from_url
from retrysafe.testing.clock import ManualClock
from retrysafe.testing.contract import OwnClockContract, StoreContract


class TestMySQLStore(StoreContract):
    @pytest.fixture
    def store(self, clock: ManualClock, database: str) -> Iterator[MySQLStore]:
        # Its promises are about instants, which only a clock that moves by hand can bring about.
        store = from_url(database).with_clock(clock)
        yield store
        store.close()


class TestMySQLStoreOnItsOwnClock(OwnClockContract):
    @pytest.fixture
    def store(self, database: str) -> Iterator[MySQLStore]:
        store = from_url(database)
        yield store
        store.close()
