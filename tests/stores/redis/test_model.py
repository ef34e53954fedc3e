"""Whatever happens, the Redis store answers like the memory store (I1, I3)."""

from typing import ClassVar

import pytest
from hypothesis import settings

from retrysafe.stores.redis import RedisStore, from_url
from retrysafe.testing.clock import ManualClock
from retrysafe.testing.model import StoreMachine
from tests.services.service import Service
from tests.stores.redis.tools import a_prefix, by_hand


class _Machine(StoreMachine):
    url: ClassVar[str]

    def make_store(self, clock: ManualClock) -> RedisStore:
        return by_hand(from_url(f"{self.url}?persistence=always&prefix={a_prefix()}"), clock)


class _AsyncMachine(_Machine):
    face = "async"


@pytest.fixture(scope="module", autouse=True)
def server(redis: Service) -> None:
    """Tell the machines where the server is: they take no fixtures."""
    _Machine.url = redis.url


TestAnswersLikeMemory = _Machine.TestCase
TestAnswersLikeMemory.settings = settings(max_examples=15, stateful_step_count=30)
TestAnswersLikeMemoryAsync = _AsyncMachine.TestCase
TestAnswersLikeMemoryAsync.settings = TestAnswersLikeMemory.settings
