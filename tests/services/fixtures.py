"""Fixtures of real servers: one of each kind for a whole test process, and ones of a test's own to kill."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.services import servers
from tests.services.databases import Databases
from tests.services.mariadb import MariaDatabases
from tests.services.redis_servers import Cluster, Pair
from tests.services.service import Service


@pytest.fixture(scope="session")
def postgres() -> Iterator[Service]:
    """A PostgreSQL for all tests of this process; each makes databases of its own."""
    with servers.postgres() as service:
        yield service


@pytest.fixture(scope="session")
def databases(postgres: Service) -> Iterator[Databases]:
    """The databases in it."""
    databases = Databases(postgres.url)
    yield databases
    databases.close()


@pytest.fixture
def fresh_database(databases: Databases) -> Iterator[Callable[[], str]]:
    """Return the URL of an empty database with each call; all are emptied after the test."""
    taken: list[str] = []

    def take() -> str:
        taken.append(databases.take())
        return taken[-1]

    yield take
    for url in taken:
        databases.give_back(url)


@pytest.fixture
def database(fresh_database: Callable[[], str]) -> str:
    """The URL of an empty PostgreSQL database."""
    return fresh_database()


@pytest.fixture
def own_postgres() -> Iterator[Service]:
    """A PostgreSQL to kill, which syncs as one in production does."""
    with servers.postgres(durable=True) as service:
        yield service


@pytest.fixture(scope="session")
def mariadb() -> Iterator[Service]:
    """A MariaDB for all tests of this process; each makes databases of its own."""
    with servers.mariadb() as service:
        yield service


@pytest.fixture(scope="session")
def maria_databases(mariadb: Service) -> Iterator[MariaDatabases]:
    """The databases in it."""
    databases = MariaDatabases(mariadb.url)
    yield databases
    databases.close()


@pytest.fixture
def maria_database(maria_databases: MariaDatabases) -> Iterator[str]:
    """The URL of an empty MariaDB database."""
    url = maria_databases.take()
    yield url
    maria_databases.give_back(url)


@pytest.fixture
def made_maria_database(maria_databases: MariaDatabases) -> Iterator[str]:
    """The URL of a MariaDB database with the store's tables, and nothing in them."""
    url = maria_databases.take_made()
    yield url
    maria_databases.give_back_made(url)


@pytest.fixture(scope="session")
def _killed_mariadb() -> Iterator[Service]:
    with servers.mariadb(durable=True) as service:
        yield service


@pytest.fixture
def own_mariadb(_killed_mariadb: Service) -> Iterator[Service]:
    """A MariaDB to kill, which syncs as one in production does; its databases are those of the tests before, too."""
    yield _killed_mariadb
    if _killed_mariadb.has_ended:
        _killed_mariadb.restart()


@pytest.fixture(scope="session")
def redis() -> Iterator[Service]:
    """A Redis for all tests of this process."""
    with servers.redis() as service:
        yield service


@pytest.fixture
def own_redis() -> Iterator[Service]:
    """A Redis to kill."""
    with servers.redis() as service:
        yield service


@pytest.fixture(scope="session")
def redis7() -> Iterator[Service]:
    """Debian's Redis, for all tests of this process."""
    with servers.redis7() as service:
        yield service


@pytest.fixture(scope="session")
def redis_cluster() -> Iterator[Cluster]:
    """A Cluster for all tests of this process."""
    with servers.redis_cluster() as cluster:
        yield cluster


@pytest.fixture
def redis_pair() -> Iterator[Pair]:
    """A primary to kill, its replica, and a Sentinel."""
    with servers.redis_pair() as pair:
        yield pair


@pytest.fixture(scope="session")
def nats() -> Iterator[Service]:
    """A NATS with JetStream for all tests of this process."""
    with servers.nats() as service:
        yield service


@pytest.fixture
def own_nats() -> Iterator[Service]:
    """A NATS to kill."""
    with servers.nats() as service:
        yield service


@pytest.fixture(scope="session")
def rabbitmq() -> Iterator[Service]:
    """A RabbitMQ for all tests of this process."""
    with servers.rabbitmq() as service:
        yield service


@pytest.fixture
def own_rabbitmq() -> Iterator[Service]:
    """A RabbitMQ to kill."""
    with servers.rabbitmq() as service:
        yield service


@pytest.fixture(scope="session")
def kafka() -> Iterator[Service]:
    """A broker that speaks Kafka's protocol, for all tests of this process."""
    with servers.kafka() as service:
        yield service


@pytest.fixture
def own_kafka() -> Iterator[Service]:
    """One to kill; it remembers nothing."""
    with servers.kafka() as service:
        yield service


@pytest.fixture(scope="session")
def dynamodb() -> Iterator[Service]:
    """An emulator of DynamoDB for all tests of this process."""
    with servers.dynamodb() as service:
        yield service


@pytest.fixture
def own_dynamodb() -> Iterator[Service]:
    """One to kill; it remembers nothing."""
    with servers.dynamodb() as service:
        yield service
