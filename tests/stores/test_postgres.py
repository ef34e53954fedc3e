"""The PostgreSQL store keeps the contract, on a real server."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from retrysafe.stores.clock import HostClock
from retrysafe.stores.postgres import PostgresStore
from retrysafe.stores.postgres.dialect import PostgresVerbs
from retrysafe.stores.sql.base import HostInstants
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


def test_many_processes_may_open_a_new_database_at_once(database: str) -> None:
    """K4: one makes the tables and the pepper, and all others use them."""
    stores = [PostgresStore(database) for _ in range(12)]
    with ThreadPoolExecutor(len(stores)) as threads:
        metas = list(threads.map(lambda store: store.open(), stores))
    assert len({(meta.pepper, meta.fingerprint_secret) for meta in metas}) == 1
    for store in stores:
        store.close()
