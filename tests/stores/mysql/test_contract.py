"""The MySQL store keeps the contract, on a real MariaDB."""

from collections.abc import Iterator

import pytest

from retrysafe.stores.clock import HostClock
from retrysafe.stores.instants import HostInstants
from retrysafe.stores.mysql import MySQLStore, from_url
from retrysafe.stores.mysql.dialect import MySQLVerbs
from retrysafe.testing.clock import ManualClock
from retrysafe.testing.contract import StoreContract


class TestMySQLStore(StoreContract):
    @pytest.fixture
    def store(self, clock: ManualClock, database: str) -> Iterator[MySQLStore]:
        store = from_url(database)
        # Its promises are about instants, which only a clock that moves by hand can bring about.
        store.verbs = MySQLVerbs(HostInstants(HostClock(clock)))
        yield store
        store.close()
