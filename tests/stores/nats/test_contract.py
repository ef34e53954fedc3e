"""The NATS store keeps the contract, on a real server."""

from collections.abc import Iterator

import pytest

from retrysafe.stores.nats import NatsStore
from retrysafe.testing.clock import ManualClock
from retrysafe.testing.contract import OwnClockContract, StoreContract
from retrysafe.testing.runner import Runner
from tests.services import servers
from tests.services.service import Service


class TestNatsStore(StoreContract):
    @pytest.fixture
    def store(self, clock: ManualClock, nats: Service, bucket: str) -> Iterator[NatsStore]:
        # Its promises are about instants, which only a clock that moves by hand can bring about.
        store = NatsStore([nats.url], bucket=bucket, synced=True).with_clock(clock)
        yield store
        store.close()


class TestNatsStoreOnItsOwnClock(OwnClockContract):
    @pytest.fixture
    def store(self, nats: Service, bucket: str) -> Iterator[NatsStore]:
        store = NatsStore([nats.url], bucket=bucket, synced=True)
        yield store
        store.close()


@pytest.fixture(scope="session")
def old_nats() -> Iterator[Service]:
    with servers.old_nats() as service:
        yield service


class TestNatsStoreOnAnOldServer(StoreContract):
    @pytest.fixture
    def store(self, clock: ManualClock, old_nats: Service, bucket: str) -> NatsStore:
        return NatsStore([old_nats.url], bucket=bucket).with_clock(clock)

    @pytest.fixture
    def runner(self, store: NatsStore) -> Iterator[Runner]:
        """One face is enough: what differs is the server."""
        runner = Runner(store, "async")
        runner.open()
        assert not store._keeping.drops_by_itself
        yield runner
        runner.close()
