"""The PostgreSQL store keeps the contract, on a real server."""

from collections.abc import Iterator

import pytest

from retrysafe.stores.postgres import PostgresStore
from retrysafe.testing.clock import ManualClock
from retrysafe.testing.contract import OwnClockContract, StoreContract


class TestPostgresStore(StoreContract):
    @pytest.fixture
    def store(self, clock: ManualClock, database: str) -> Iterator[PostgresStore]:
        # Its promises are about instants, which only a clock that moves by hand can bring about.
        store = PostgresStore(database).with_clock(clock)
        yield store
        store.close()


class TestPostgresStoreOnItsOwnClock(OwnClockContract):
    @pytest.fixture
    def store(self, database: str) -> PostgresStore:
        return PostgresStore(database)
