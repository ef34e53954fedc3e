"""The NATS store keeps the contract, on a real server."""

from collections.abc import Iterator

import pytest

from retrysafe.stores.clock import HostClock
from retrysafe.stores.documents.verbs import DocumentVerbs
from retrysafe.stores.instants import HostInstants
from retrysafe.stores.nats import NatsStore
from retrysafe.testing.clock import ManualClock
from retrysafe.testing.contract import StoreContract
from tests.services.service import Service


class TestNatsStore(StoreContract):
    @pytest.fixture
    def store(self, clock: ManualClock, nats: Service, bucket: str) -> Iterator[NatsStore]:
        store = NatsStore([nats.url], bucket=bucket, synced=True)
        # Its promises are about instants, which only a clock that moves by hand can bring about.
        store.verbs = DocumentVerbs(HostInstants(HostClock(clock)))
        yield store
        store.close()
