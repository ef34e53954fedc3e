"""What the tests of the NATS store share: buckets of their own in one server."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator

import pytest

from retrysafe.stores.nats import NatsStore
from tests.services.service import Service

_numbers = itertools.count(1)


@pytest.fixture
def bucket() -> str:
    """The name of a bucket that nobody has."""
    return f"tests-{os.getpid()}-{next(_numbers)}"


@pytest.fixture
def make(nats: Service, bucket: str) -> Iterator[Callable[[], NatsStore]]:
    """Make stores on one bucket, as several processes would; they are closed at the end."""
    made: list[NatsStore] = []

    def one() -> NatsStore:
        made.append(NatsStore([nats.url], bucket=bucket, synced=True))
        return made[-1]

    yield one
    for store in made:
        store.close()


@pytest.fixture
def store(make: Callable[[], NatsStore]) -> NatsStore:
    """A store that is open, on a bucket of its own."""
    store = make()
    store.open()
    return store
