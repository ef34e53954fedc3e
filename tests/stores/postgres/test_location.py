"""URLs of PostgreSQL stores."""

from __future__ import annotations

from typing import Any

import pytest

from retrysafe.errors import ConfigurationError
from retrysafe.stores.base import Capability, Clock
from retrysafe.stores.postgres import PostgresStore
from retrysafe.stores.urls import open_store


def parameters(url: str) -> dict[str, Any]:
    store = open_store(url)
    assert isinstance(store, PostgresStore)
    return store.settings.parameters()


@pytest.mark.parametrize("scheme", ["postgresql", "postgres"])
def test_both_schemes_that_libpq_knows_are_known(scheme: str) -> None:
    found = parameters(f"{scheme}://me:secret@db.example:6432/shop")
    assert {name: found[name] for name in ("user", "password", "host", "port", "dbname")} == {
        "user": "me",
        "password": "secret",
        "host": "db.example",
        "port": "6432",
        "dbname": "shop",
    }


def test_options_of_ours_are_taken_and_those_of_libpq_are_left_as_they_were_written() -> None:
    store = open_store(
        "postgresql:///shop?host=%2Fvar%2Frun%2Fpg&pool=3&options=-c%20search_path%3Da%2Cb&timeout=250ms"
        "&sslmode=require&migrate=false&pgbouncer=true"
    )
    assert isinstance(store, PostgresStore)
    settings = store.settings
    assert (settings.pool, settings.timeout_seconds, settings.migrate, settings.pgbouncer) == (3, 0.25, False, True)
    found = settings.parameters()
    assert (found["host"], found["sslmode"], found["dbname"]) == ("/var/run/pg", "require", "shop")
    assert found["options"] == "-c search_path=a,b"
    assert settings.prepare_threshold is None


@pytest.mark.parametrize(
    ("url", "hosts"),
    [
        ("postgresql://one:5432,two:5433/shop?target_session_attrs=read-write&pool=2", "one,two"),
        ("postgresql://[::1]:5432/shop?pool=2", "::1"),
        ("postgresql://", None),
        ("postgresql://?pool=2", None),
    ],
)
def test_every_form_of_url_that_libpq_takes_is_taken(url: str, hosts: str | None) -> None:
    assert parameters(url).get("host") == hosts


def test_what_the_url_says_wins_over_what_we_would_like() -> None:
    found = parameters("postgresql://db/shop?application_name=shop&connect_timeout=3&options=-cstatement_timeout%3D1s")
    assert (found["application_name"], found["connect_timeout"]) == ("shop", "3")
    assert found["options"].endswith("-cstatement_timeout=1s")
    assert found["options"].startswith("-c statement_timeout=10000 ")


def test_every_problem_is_listed_and_no_password_is_shown() -> None:
    with pytest.raises(ConfigurationError) as wrong:
        open_store("postgresql://me:secret@db/shop?pool=0&timeout=5&migrate=perhaps&pgbouncer=true&pgbouncer=false")
    text = str(wrong.value)
    assert len(wrong.value.problems) == 4
    assert "'pool' is '0': write a whole number from 1" in text
    assert "write a number and its unit" in text
    assert "'pgbouncer' is given twice" in text
    assert "secret" not in text


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://me:secret@db:port/shop?sslmod=require",
        "postgresql://me:%zzsecret@db/shop",
        "postgresql://me:secret@db/shop?pols=3",
    ],
)
def test_a_url_that_libpq_does_not_understand_is_refused_at_once_without_its_password(url: str) -> None:
    with pytest.raises(ConfigurationError, match="postgresql://user@host") as wrong:
        open_store(url)
    assert "secret" not in str(wrong.value)
    assert wrong.value.__cause__ is None


def test_a_store_declares_the_server_s_clock() -> None:
    """C2, D3."""
    store = open_store("postgresql:///shop")
    assert store.traits.clock is Clock.SERVER
    assert Capability.SAME_TRANSACTION in store.traits.capabilities
    assert "shop" not in repr(store)
