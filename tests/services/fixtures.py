"""Fixtures of real servers: one of each for a whole test process, and ones of a test's own to kill."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from uuid import uuid4

import pytest

from tests.services import servers
from tests.services.service import Service

_numbers = count()


@pytest.fixture(scope="session")
def postgres() -> Iterator[Service]:
    """A PostgreSQL for all tests of this process; each has a database of its own."""
    with servers.postgres() as service:
        yield service


@pytest.fixture
def own_postgres() -> Iterator[Service]:
    """A PostgreSQL to kill."""
    with servers.postgres(durable=True) as service:
        yield service


@pytest.fixture
def database(postgres: Service) -> Iterator[str]:
    """The URL of an empty PostgreSQL database."""
    import psycopg

    name = f"tests_{uuid4().hex}"
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
        yield postgres.url.removesuffix("/postgres") + f"/{name}"
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


@pytest.fixture
def redis() -> Iterator[Service]:
    """A Redis of a test's own."""
    with servers.redis() as service:
        yield service


@pytest.fixture
def nats() -> Iterator[Service]:
    """A NATS of a test's own."""
    with servers.nats() as service:
        yield service


@pytest.fixture
def rabbitmq() -> Iterator[Service]:
    """A RabbitMQ of a test's own."""
    with servers.rabbitmq() as service:
        yield service
