"""URLs of MySQL stores."""

from __future__ import annotations

from pathlib import Path

import pytest

from retrysafe.errors import ConfigurationError
from retrysafe.stores.base import Capability, Clock
from retrysafe.stores.mysql import MySQLStore, from_url
from retrysafe.stores.mysql.connect import TLS, Settings
from retrysafe.stores.urls import open_store
from tests.services.service import Service
from tests.stores.mysql.tools import claimed


def settings(url: str) -> Settings:
    store = open_store(url)
    assert isinstance(store, MySQLStore)
    return store.settings


@pytest.mark.parametrize("scheme", ["mysql", "mariadb"])
def test_a_url_says_where_who_and_how(scheme: str) -> None:
    found = settings(f"{scheme}://me:p%40ss@db.example:3307/shop?pool=3&timeout=250ms&migrate=false&tls=verify")
    assert (found.host, found.port, found.account, found.password) == ("db.example", 3307, "me", "p@ss")
    assert (found.database, found.pool, found.timeout_seconds, found.migrate) == ("shop", 3, 0.25, False)
    assert found.tls is TLS.VERIFY
    context = found.context()
    assert context is not None
    assert context.check_hostname
    assert "p@ss" not in repr(found)


def test_every_problem_is_listed_and_no_password_is_shown() -> None:
    with pytest.raises(ConfigurationError) as wrong:
        open_store("mysql://me:secret@db/?pool=0&timeout=5&tls=perhaps&tls_ca=ca.pem&sockt=/run/x")
    text = str(wrong.value)
    assert len(wrong.value.problems) == 6
    assert "did you mean 'socket'?" in text
    assert "the database is missing" in text
    assert "secret" not in text


@pytest.mark.parametrize(
    "url",
    [
        "mysql://me:secret@db:port/shop",
        "mysql://me:secret@db/shop?tls_ca=/etc/ca.pem",
        "mysql://me:secret@db/shop?tls=verify&tls_ca=/there/is/none.pem",
        "mysql://me:secret@db/shop?socket=/run/x&tls=required",
        "mysql://me:secret@db/shop?tls=verify&tls_key=/etc/key.pem",
    ],
)
def test_what_cannot_be_meant_is_refused_at_once(url: str) -> None:
    with pytest.raises(ConfigurationError) as wrong:
        open_store(url)
    assert "secret" not in str(wrong.value)


def test_a_socket_of_this_host_does_as_well(mariadb: Service, made_maria_database: str) -> None:
    name = made_maria_database.rpartition("/")[2]
    socket = Path(mariadb.folder) / "socket"
    store = from_url(f"mysql://tests@localhost/{name}?socket={socket}")
    assert claimed(store).fence == 1
    store.close()


def test_a_store_declares_the_server_s_clock() -> None:
    """C2, D3."""
    store = open_store("mysql://db/shop")
    assert store.traits.clock is Clock.SERVER
    assert Capability.SAME_TRANSACTION in store.traits.capabilities
    assert "shop" not in repr(store)
