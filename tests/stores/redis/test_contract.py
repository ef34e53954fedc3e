"""The Redis store keeps the contract, on real servers, over its own connections and over clients of the application."""

from collections.abc import Iterator
from typing import Any

import pytest
import redis as library

from retrysafe.stores.redis import RedisStore, from_clients, from_url
from retrysafe.testing.clock import ManualClock
from retrysafe.testing.contract import OwnClockContract, StoreContract
from tests.services.redis_servers import Cluster
from tests.services.service import Service
from tests.stores.redis.tools import a_prefix, by_hand


class _ClosingItsClient:
    """A store whose application closes its client with it, on the loop that it was used on."""

    def __init__(self, store: RedisStore, client: library.asyncio.Redis, clock: ManualClock) -> None:
        self._store, self._client = by_hand(store, clock), client

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def aclose(self) -> None:
        await self._store.aclose()
        await self._client.aclose()


class TestValkey(StoreContract):
    @pytest.fixture
    def store(self, clock: ManualClock, redis: Service) -> Iterator[RedisStore]:
        store = from_url(f"{redis.url}?persistence=always&prefix={a_prefix()}")
        yield by_hand(store, clock)
        store.close()


class TestValkeyOnItsOwnClock(OwnClockContract):
    @pytest.fixture
    def store(self, redis: Service) -> Iterator[RedisStore]:
        store = from_url(f"{redis.url}?persistence=always&prefix={a_prefix()}")
        yield store
        store.close()


class TestRedis7(StoreContract):
    @pytest.fixture
    def store(self, clock: ManualClock, redis7: Service) -> Iterator[RedisStore]:
        store = from_url(f"{redis7.url}?persistence=always&protocol=3&prefix={a_prefix()}")
        yield by_hand(store, clock)
        store.close()


class TestCluster(StoreContract):
    @pytest.fixture
    def store(self, clock: ManualClock, redis_cluster: Cluster) -> Iterator[RedisStore]:
        store = from_url(f"{redis_cluster.url}?persistence=always&prefix={a_prefix()}")
        yield by_hand(store, clock)
        store.close()


class TestClientOfRedisPy(StoreContract):
    @pytest.fixture
    def store(self, clock: ManualClock, redis: Service) -> Iterator[_ClosingItsClient]:
        with library.Redis.from_url(redis.url) as client:
            loops = library.asyncio.Redis.from_url(redis.url)
            yield _ClosingItsClient(from_clients(client, loops, prefix=a_prefix()), loops, clock)
