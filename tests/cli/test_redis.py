"""Commands on a store in Redis."""

from __future__ import annotations

import json
import sys

import pytest

from retrysafe.cli.opening import shown
from retrysafe.stores.redis import from_url
from retrysafe.testing.asks import an_ask
from tests.cli.conftest import Run
from tests.services.service import Service
from tests.stores.redis.tools import a_prefix, claimed


@pytest.fixture
def url(redis: Service) -> str:
    return f"{redis.url}?prefix={a_prefix()}"


def parked(url: str) -> str:
    """Park an operation in the store, and return its id."""
    store = from_url(url)
    claim = claimed(store, an_ask())
    store.run(lambda: store.verbs.park(claim, "the bank did not answer"))
    store.close()
    return claim.operation_id


def test_operations_are_listed_shown_and_settled(run: Run, url: str) -> None:
    """R10."""
    operation = parked(url)
    assert operation[:8] in run("ops", "ls", url, "--parked").stdout
    assert "the bank did not answer" in run("ops", "show", url, operation).stdout
    done = run("ops", "release", url, operation, "--note", "the bank says no", "--by", "ada", "--yes")
    assert done.exit_code == 0, done.output
    assert "ada" in run("ops", "audit", url).stdout


def told(run: Run, url: str) -> dict[str, dict[str, str]]:
    findings = json.loads(run("doctor", url, "--json").stdout)["findings"]
    return {finding["check"]: finding for finding in findings}


def test_the_doctor_says_what_the_server_keeps(run: Run, url: str) -> None:
    """D3."""
    found = told(run, f"{url}&persistence=always")
    assert found["redis"]["level"] == found["persistence"]["level"] == found["durability"]["level"] == "ok"
    assert "synced with each write" in found["persistence"]["text"]
    found = told(run, url)
    assert (found["persistence"]["level"], found["durability"]["level"]) == ("info", "warn")
    assert found["persistence"]["fix"] == "add ?persistence=always"


def test_the_doctor_says_what_is_wrong_with_the_server(run: Run, redis7: Service) -> None:
    """D3: with the fix, and looks no further."""
    import redis as library

    with library.Redis.from_url(redis7.url) as admin:
        admin.config_set("maxmemory-policy", "volatile-ttl")
        try:
            found = told(run, f"{redis7.url}?prefix={a_prefix()}")
        finally:
            admin.config_set("maxmemory-policy", "noeviction")
    assert found["usable"]["level"] == "fail"
    assert "volatile-ttl" in found["usable"]["text"]
    assert "durability" not in found


def test_a_server_that_is_not_there_is_said_to_be_not_there(run: Run) -> None:
    """D1: without the password."""
    for command in (["ops", "ls"], ["doctor"]):
        outcome = run(*command, "redis://me:secret@127.0.0.1:1/0")
        assert outcome.exit_code == 1
        assert "refused" in outcome.output
        assert "secret" not in outcome.output


def test_there_is_nothing_to_migrate(run: Run, url: str) -> None:
    outcome = run("migrate", url)
    assert outcome.exit_code == 2
    assert "made at first use" in outcome.stderr


def test_without_the_driver_the_extra_is_named(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("retrysafe.stores.redis")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "hiredis", None)
    outcome = run("ops", "ls", "redis://cache")
    assert outcome.exit_code == 2
    assert "pip install 'retrysafe[redis-store]'" in outcome.stderr


def test_passwords_are_not_shown() -> None:
    assert shown("redis+sentinel://:secret@s/shop?sentinel_password=secret") == (
        "redis+sentinel://:***@s/shop?sentinel_password=***"
    )
