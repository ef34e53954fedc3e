"""What the tests of the Redis store share: a store by the server's own clock, and a look past it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis as library

from retrysafe.stores.redis import RedisStore, from_url
from tests.services.service import Service
from tests.stores.redis.tools import a_prefix


@pytest.fixture
def url(redis: Service) -> str:
    """The URL of an empty store."""
    return f"{redis.url}?persistence=always&prefix={a_prefix()}"


@pytest.fixture
def store(url: str) -> Iterator[RedisStore]:
    """A store that is open."""
    store = from_url(url)
    store.open()
    yield store
    store.close()


@pytest.fixture
def sight(redis: Service) -> Iterator[library.Redis]:
    """A client of somebody else's."""
    with library.Redis.from_url(redis.url) as client:
        yield client
