"""What the tests of the PostgreSQL store share: a store by the server's own clock, and a look past it."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from retrysafe.stores.postgres import PostgresStore

Sight = psycopg.Connection[tuple[object, ...]]


@pytest.fixture
def store(database: str) -> Iterator[PostgresStore]:
    """A store that is open, in a database of its own."""
    store = PostgresStore(database)
    store.open()
    yield store
    store.close()


@pytest.fixture
def sight(database: str) -> Iterator[Sight]:
    """A connection of somebody else to the same database."""
    with psycopg.connect(database, autocommit=True) as connection:
        yield connection
