"""The real servers of the tests start, answer, come back with their data, and leave nothing behind."""

import socket

import psycopg
import pytest

from tests.services import servers
from tests.services.service import Service


def test_postgres_comes_back_with_its_data(own_postgres: Service) -> None:
    with psycopg.connect(own_postgres.url, autocommit=True) as connection:
        connection.execute("CREATE TABLE kept (number INTEGER)")
    own_postgres.restart()
    with psycopg.connect(own_postgres.url) as connection:
        assert connection.execute("SELECT count(*) FROM kept").fetchone() == (0,)


@pytest.mark.parametrize("kind", ["redis", "nats", "rabbitmq"])
def test_a_broker_answers_again_after_kill_9_and_is_gone_in_the_end(kind: str) -> None:
    with getattr(servers, kind)() as service:
        service.restart()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", service.port), 5)
    assert not service.folder.exists()
