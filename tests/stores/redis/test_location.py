"""URLs of Redis stores."""

from __future__ import annotations

from typing import Any

import pytest

from retrysafe.errors import ConfigurationError
from retrysafe.stores.redis import Persistence, RedisStore
from retrysafe.stores.redis.clients import Clients
from retrysafe.stores.redis.connections import Connections
from retrysafe.stores.redis.settings import Settings
from retrysafe.stores.urls import open_store


def opened(url: str) -> RedisStore:
    store = open_store(url)
    assert isinstance(store, RedisStore)
    return store


def settings(url: str) -> Settings:
    transport = opened(url)._transport
    assert isinstance(transport, Connections)
    return transport._settings


@pytest.mark.parametrize("scheme", ["redis", "valkey", "rediss", "valkeys"])
def test_every_scheme_of_a_single_server_is_known(scheme: str) -> None:
    found = settings(f"{scheme}://me:se%40cret@cache.example:6380/3")
    assert (found.host, found.port, found.db) == ("cache.example", 6380, 3)
    assert (found.username, found.password) == ("me", "se@cret")
    assert (found.tls is not None) == (scheme in {"rediss", "valkeys"})
    assert "cret" not in repr(found)


def test_defaults_are_those_of_redis() -> None:
    found = settings("redis://")
    assert (found.host, found.port, found.db, found.password, found.wait) == ("localhost", 6379, 0, None, 0)
    assert settings("redis://:secret@[::1]").host == "::1"
    assert settings("redis://:secret@[::1]").username is None


def test_options_are_taken() -> None:
    url = "redis://h/0?persistence=always&wait=2&prefix=shop&timeout=250ms&pool=3&protocol=3"
    found = settings(url)
    assert (found.wait, found.timeout_seconds, found.pool, found.protocol) == (2, 0.25, 3, 3)
    store = opened(url)
    assert store.persistence is Persistence.ALWAYS
    assert store.keys.meta == b"{shop:00}meta"
    assert repr(store) == "<RedisStore>"


def test_a_connection_introduces_itself_with_what_the_url_says() -> None:
    assert settings("redis://h").handshake() == [("PING",)]
    assert settings("redis://:p@h/2?protocol=3").handshake() == [("AUTH", "p"), ("HELLO", 3), ("SELECT", 2), ("PING",)]
    assert settings("redis://u:p@h").handshake() == [("AUTH", "u", "p"), ("PING",)]


@pytest.mark.parametrize(
    "url", ["redis+sentinel://a:1,b/shop/2?sentinel_password=x", "redis+cluster://a:1,b", "rediss+cluster://a"]
)
def test_several_servers_are_reached_with_a_library(url: str) -> None:
    assert isinstance(opened(url)._transport, Clients)


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("redis://a,b", "redis+cluster:// or redis+sentinel://"),
        ("redis://a:port", "a port is a number"),
        ("redis://a/shop", "the number of a database"),
        ("redis://a/0/1", "the number of a database"),
        ("redis://a#b", "the number of a database"),
        ("redis+sentinel://a", "the name of the primary is missing"),
        ("redis+cluster://a?wait=1", "can't be kept in a Cluster"),
        ("redis://a?ca=/x", "write rediss://"),
        ("rediss://a?ca=/not/there", "a file for TLS can't be used"),
        ("redis://a?persistence=yes", "write none, everysec or always"),
        ("redis://a?prefix={a}", "without braces"),
        ("redis://a?timeout=0s", "not over at once"),
        ("redis://a?pool=0", "a whole number from 1"),
        ("redis://a?wait=-1", "a whole number from 0"),
        ("redis://a?protocol=4", "write 2 or 3"),
        ("redis://a?verify=maybe", "write true or false"),
        ("redis://a?persistance=always", "did you mean 'persistence'?"),
    ],
)
def test_what_is_wrong_is_said_with_its_fix(url: str, problem: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        open_store(url)
    assert problem in str(refused.value)


def test_every_problem_is_said_at_once_and_no_password() -> None:
    with pytest.raises(ConfigurationError) as refused:
        open_store("redis://me:secret@a/shop?wait=x&pool=y")
    assert len(refused.value.problems) == 3
    assert "secret" not in str(refused.value)


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the line that installs it."""
    import sys

    for name in [name for name in sys.modules if name.startswith("retrysafe.stores.redis")]:
        monkeypatch.delitem(sys.modules, name)
    absent: Any = None
    monkeypatch.setitem(sys.modules, "hiredis", absent)
    with pytest.raises(ImportError, match=r"pip install 'retrysafe\[redis-store\]'"):
        open_store("redis://a")
