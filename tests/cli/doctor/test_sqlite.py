"""Checks of a SQLite store's file, library and disk."""

import sqlite3
from collections import namedtuple
from pathlib import Path

import pytest

from retrysafe.cli.doctor import sqlite
from retrysafe.cli.doctor.findings import Finding, Level
from retrysafe.cli.doctor.sqlite import file_checks, has_wal_reset_bug
from tests.cli.conftest import Shop


def _findings(shop: Shop) -> list[Finding]:
    shop.store.close()
    return list(file_checks(shop.store, shop.url))


def _found(shop: Shop, check: str) -> Finding:
    return next(finding for finding in _findings(shop) if finding.check == check)


def _execute(path: Path, statement: str) -> None:
    connection = sqlite3.connect(path)
    connection.execute(statement)
    connection.commit()
    connection.close()


@pytest.mark.parametrize(
    ("version", "has_it"),
    [
        ((3, 40, 1), True),
        ((3, 44, 5), True),
        ((3, 44, 6), False),
        ((3, 45, 0), True),
        ((3, 50, 6), True),
        ((3, 50, 7), False),
        ((3, 51, 2), True),
        ((3, 51, 3), False),
        ((3, 53, 0), False),
    ],
)
def test_libraries_that_may_lose_commits_are_known(version: tuple[int, ...], has_it: bool) -> None:
    assert has_wal_reset_bug(version) is has_it


def test_a_library_that_is_too_old_is_a_failure(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    for version, level in (((3, 34, 0), Level.FAIL), ((3, 40, 1), Level.WARN), ((3, 53, 0), Level.OK)):
        monkeypatch.setattr(sqlite3, "sqlite_version_info", version)
        assert _found(shop, "sqlite").level is level


def test_an_older_schema_names_the_command_and_a_newer_one_does_not(shop: Shop, tmp_path: Path) -> None:
    empty = tmp_path / "empty.db"
    empty.touch()
    older = [finding for finding in file_checks(type(shop.store)(empty), "sqlite:///e") if finding.check == "schema"]
    assert [(finding.level, finding.fix) for finding in older] == [(Level.FAIL, "retrysafe migrate sqlite:///e")]
    _execute(shop.path, "INSERT INTO retrysafe_migration VALUES (999, 'future', 'x')")
    newer = _found(shop, "schema")
    assert newer.level is Level.FAIL
    assert "version 999" in newer.text


def test_a_file_that_is_no_database_is_a_failure(tmp_path: Path, shop: Shop) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("only words\n" * 100)
    found = [finding for finding in file_checks(type(shop.store)(path), "sqlite:///n") if finding.level is Level.FAIL]
    assert [finding.check for finding in found] == ["reachable"]


def test_a_journal_that_is_no_log_is_a_finding(shop: Shop) -> None:
    assert _found(shop, "journal").level is Level.OK
    _execute(shop.path, "PRAGMA journal_mode = DELETE")
    finding = _found(shop, "journal")
    assert finding.level is Level.WARN
    assert finding.text.startswith("delete:")


def test_outcomes_that_outlive_their_retention_are_a_finding(shop: Shop) -> None:
    """S10."""
    shop.seconds_ago(7200)
    claim = shop.claim("old")
    shop.record(claim, retention_seconds=60)
    finding = _found(shop, "purge")
    assert finding.level is Level.WARN
    assert "2 h behind" in finding.text


def test_open_and_parked_operations_are_never_overdue(shop: Shop) -> None:
    """S10."""
    shop.seconds_ago(7200)
    shop.claim("open", tombstone_seconds=60)
    shop.park(shop.claim("parked", tombstone_seconds=60))
    assert _found(shop, "purge").text == "nothing is overdue"


@pytest.mark.parametrize(
    ("kind", "level"),
    [("nfs4", Level.FAIL), ("tmpfs", Level.WARN), ("overlay", Level.WARN), ("ext4", None), (None, None)],
)
def test_a_disk_that_keeps_no_promises_is_a_finding(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, kind: str | None, level: Level | None
) -> None:
    monkeypatch.setattr(sqlite, "_file_system", lambda folder: kind)
    assert next((finding.level for finding in _findings(shop) if finding.check == "disk"), None) is level


def test_the_file_system_is_read_from_the_kernel_where_it_tells(tmp_path: Path) -> None:
    kind = sqlite._file_system(tmp_path)
    assert kind is None or kind.isprintable()
    assert sqlite._file_system(Path("/proc")) in {"proc", None}


def test_a_full_disk_is_a_finding(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")  # noqa: PYI024 - the shape of shutil's
    monkeypatch.setattr("shutil.disk_usage", lambda folder: usage(10, 9, 1))
    assert _found(shop, "free space").level is Level.WARN


def test_flushing_is_measured_for_a_bounded_time(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    assert _found(shop, "sync").level in {Level.OK, Level.INFO, Level.WARN}
    monkeypatch.setattr(sqlite, "_SYNC_SECONDS", 0.0)
    assert len(sqlite._syncs(shop.path.parent)) == 1
    monkeypatch.setattr(sqlite, "_SLOW_SYNC_SECONDS", 0.0)
    assert _found(shop, "sync").level is Level.WARN
    assert [entry.name for entry in shop.path.parent.iterdir()] == ["shop.db"], "nothing is left behind"


def test_a_log_that_cannot_be_folded_back_is_a_finding(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "WAL_CAP_BYTES", -1)
    assert _found(shop, "file").level is Level.WARN
