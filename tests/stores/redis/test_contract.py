"""The Redis store keeps the contract, on a real server, over connections of its own."""

from collections.abc import Iterator

import pytest

from retrysafe.stores.redis import RedisStore, from_url
from retrysafe.testing.clock import ManualClock
from retrysafe.testing.contract import StoreContract
from tests.services.service import Service
from tests.stores.redis.tools import a_prefix, by_hand


class TestValkey(StoreContract):
    @pytest.fixture
    def store(self, clock: ManualClock, redis: Service) -> Iterator[RedisStore]:
        store = from_url(f"{redis.url}?persistence=always&prefix={a_prefix()}")
        yield by_hand(store, clock)
        store.close()
