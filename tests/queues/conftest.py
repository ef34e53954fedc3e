"""One broker of each kind for a whole test process; tests use a namespace each."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import uuid4

import pytest

from tests.queues.brokers import BROKERS, Broker, start
from tests.services.service import Service


@pytest.fixture(scope="session", params=["memory", *BROKERS])
def broker(request: pytest.FixtureRequest) -> Iterator[Broker]:
    """A broker that nobody kills, and the memory of this process."""
    kind: str = request.param
    if kind == "memory":
        yield Broker(kind, "memory://", {})
        return
    with start(kind) as service:
        yield Broker(kind, service.url, {})


@pytest.fixture
def namespace() -> str:
    """A namespace of the test's own."""
    return f"shop-{uuid4().hex[:8]}"


@pytest.fixture(params=BROKERS)
def server(request: pytest.FixtureRequest) -> Iterator[tuple[Broker, Service]]:
    """A broker to kill, not started yet."""
    kind: str = request.param
    service = start(kind)
    try:
        yield Broker(kind, service.url, {}), service
    finally:
        service.__exit__()
