"""What the tests of the MySQL store share: a store by the server's own clock, and a look past it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from retrysafe.stores.mysql import MySQLStore, from_url
from tests.stores.mysql.tools import Sight


@pytest.fixture
def database(made_maria_database: str) -> str:
    """The URL of a database with the store's tables, and nothing in them."""
    return made_maria_database


@pytest.fixture
def store(database: str) -> Iterator[MySQLStore]:
    """A store that is open, in a database of its own."""
    store = from_url(database)
    store.open()
    yield store
    store.close()


@pytest.fixture
def sight(database: str) -> Iterator[Sight]:
    """A connection of somebody else to the same database."""
    seen = Sight(database)
    yield seen
    seen.close()
