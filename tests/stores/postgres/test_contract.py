"""The PostgreSQL store keeps the contract, on a real server."""

from collections.abc import Iterator

import pytest

from retrysafe.stores.clock import HostClock
from retrysafe.stores.instants import HostInstants
from retrysafe.stores.postgres import PostgresStore
from retrysafe.stores.postgres.dialect import PostgresVerbs
from retrysafe.testing.clock import ManualClock
from retrysafe.testing.contract import StoreContract


class TestPostgresStore(StoreContract):
    @pytest.fixture
    def store(self, clock: ManualClock, database: str) -> Iterator[PostgresStore]:
        store = PostgresStore(database)
        # Its promises are about instants, which only a clock that moves by hand can bring about.
        store.verbs = PostgresVerbs(HostInstants(HostClock(clock)))
        yield store
        store.close()
