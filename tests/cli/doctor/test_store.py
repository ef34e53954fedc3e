"""Checks of a store."""

import time
from functools import partial
from pathlib import Path

import pytest

from retrysafe.cli.doctor import store as store_module
from retrysafe.cli.doctor.findings import Finding, Level
from retrysafe.cli.doctor.store import store_checks
from retrysafe.stores.sqlite import SQLiteStore
from retrysafe.testing.asks import an_ask
from tests.cli.conftest import Shop


def _found(url: str, check: str) -> Finding:
    return next(finding for finding in store_checks(url) if finding.check == check)


def test_parked_operations_are_a_finding(shop: Shop) -> None:
    assert _found(shop.url, "parked").level is Level.OK
    shop.park(shop.claim("one"))
    finding = _found(shop.url, "parked")
    assert finding.level is Level.WARN
    assert finding.text.startswith("1 operation,")


def test_what_was_abandoned_a_moment_ago_is_news_and_what_waits_for_long_is_a_finding(shop: Shop) -> None:
    """R2."""
    shop.seconds_ago(40)
    shop.claim("one", lease_seconds=10)
    assert _found(shop.url, "abandoned").level is Level.INFO
    other = SQLiteStore(shop.path.with_name("other.db"), clock=lambda: time.time() - 3600)
    other.run(partial(other.verbs.claim, an_ask("old")))
    other.close()
    finding = _found(f"sqlite:///{other.path}", "abandoned")
    assert finding.level is Level.WARN
    assert "due for 1 h" in finding.text


def test_counting_is_bounded_and_says_so(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "_COUNTED", 3)
    for number in range(5):
        shop.claim(f"key-{number}", lease_seconds=600)
    assert _found(shop.url, "in flight").text == "at least 3 operations"


def test_a_clock_that_is_ahead_is_a_finding(shop: Shop) -> None:
    """C2."""
    shop.seconds_ago(-120)
    shop.claim("from the future")
    finding = _found(shop.url, "clock")
    assert finding.level is Level.WARN
    assert "2 min ahead of this host's clock" in finding.text


def test_a_clock_that_agrees_is_none(shop: Shop) -> None:
    assert _found(shop.url, "clock").level is Level.INFO, "nothing to compare with yet"
    shop.claim("now")
    assert _found(shop.url, "clock").level is Level.OK


def test_weaker_durability_is_a_finding(shop: Shop) -> None:
    """D3."""
    assert _found(shop.url, "durability").level is Level.OK
    finding = _found(f"{shop.url}?synchronous=normal", "durability")
    assert finding.level is Level.WARN
    assert finding.fix == "leave out synchronous=normal"


def test_a_store_that_another_process_has_locked_cannot_be_written(shop: Shop) -> None:
    import sqlite3

    blocker = sqlite3.connect(shop.path, isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    try:
        finding = _found(f"{shop.url}?busy_timeout=50ms", "reachable")
    finally:
        blocker.close()
    assert finding.level is Level.FAIL
    assert "locked" in finding.text


def test_a_slow_commit_is_a_finding(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "_SLOW_SECONDS", 0.0)
    assert _found(shop.url, "writable").level is Level.WARN


def test_a_store_that_is_missing_is_not_made(tmp_path: Path) -> None:
    finding = _found(f"sqlite:///{tmp_path}/missing.db", "reachable")
    assert finding.level is Level.FAIL
    assert list(tmp_path.iterdir()) == []
