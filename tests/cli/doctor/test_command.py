"""``retrysafe doctor``: the report and its exit code."""

import json

import pytest

from retrysafe.cli.doctor import sqlite
from tests.cli.conftest import Run, Shop


@pytest.fixture(autouse=True)
def _library_without_known_bugs(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the machine under test has for a library or a disk is not what these tests are about."""
    monkeypatch.setattr(sqlite, "has_wal_reset_bug", lambda version: False)
    monkeypatch.setattr(sqlite, "_file_system", lambda folder: "ext4")
    monkeypatch.setattr(sqlite, "_SLOW_SYNC_SECONDS", 60.0)
    monkeypatch.setattr(sqlite, "_HOLLOW_SYNC_SECONDS", 0.0)
    monkeypatch.setattr(sqlite, "_FREE_OCTETS", 0)
    monkeypatch.setattr("retrysafe.cli.doctor.store._SLOW_SECONDS", 60.0)


def test_a_healthy_store_is_well(run: Run, shop: Shop) -> None:
    claim = shop.claim("done")
    shop.record(claim)
    outcome = run("doctor", shop.url)
    assert outcome.exit_code == 0, outcome.output
    assert outcome.stdout.endswith("\nall is well\n")
    for check in (
        "python",
        "sqlite",
        "schema",
        "journal",
        "purge",
        "sync",
        "writable",
        "durability",
        "clock",
        "parked",
    ):
        assert any(line.startswith(f"ok    {check}") for line in outcome.stdout.splitlines()), check


def test_each_finding_has_its_fix_and_makes_the_exit_code_1(run: Run, shop: Shop) -> None:
    shop.one_of_each()
    outcome = run("doctor", shop.url)
    assert outcome.exit_code == 1
    assert "warn  parked" in outcome.stdout
    assert f"= fix: retrysafe ops ls {shop.url} --parked" in outcome.stdout
    assert outcome.stdout.rstrip().endswith("2 findings")


def test_programs_get_the_same(run: Run, shop: Shop) -> None:
    shop.one_of_each()
    outcome = run("doctor", shop.url, "--json")
    report = json.loads(outcome.stdout)
    assert (outcome.exit_code, report["ok"]) == (1, False)
    assert [row["check"] for row in report["findings"] if row["level"] in {"warn", "fail"}] == ["abandoned", "parked"]


def test_without_a_store_the_rest_is_looked_at(run: Run) -> None:
    outcome = run("doctor")
    assert outcome.exit_code == 0
    assert "RETRYSAFE_STORE_URL" in outcome.stdout
