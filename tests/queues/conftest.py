"""Brokers for queues: one of each kind for a whole test process, with a namespace for each test, and ones to kill."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from uuid import uuid4

import pytest

from tests.queues.brokers import BROKERS, Broker
from tests.services.service import Service


@pytest.fixture(params=["memory", *BROKERS])
def broker(request: pytest.FixtureRequest) -> Broker:
    """A broker that nobody kills, or the memory of this process."""
    kind: str = request.param
    url = "memory://" if kind == "memory" else request.getfixturevalue(kind).url
    return Broker(kind, url, {})


@pytest.fixture
def namespace() -> str:
    """A namespace of the test's own."""
    return f"shop-{uuid4().hex[:8]}"


@pytest.fixture(params=BROKERS)
def mortal(request: pytest.FixtureRequest) -> Iterator[tuple[Broker, Service]]:
    """A broker to kill."""
    service: Service = request.getfixturevalue(f"own_{request.param}")
    yield Broker(request.param, service.url, {}), service
    # What a client left behind is found here, and not by some later test.
    gc.collect()
