"""What goes wrong with a file is said in the store's words, and the store goes on by itself once it has passed."""

import asyncio
import os
import sqlite3
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from retrysafe.errors import (
    ConfigurationError,
    RecordUnreadable,
    SchemaMismatch,
    StoreCorrupt,
    StoreUnavailable,
)
from retrysafe.protocol.verdicts import Claimed, InFlight
from retrysafe.stores.base import Query
from retrysafe.stores.sqlite import SQLiteStore
from retrysafe.stores.sqlite.jobs import ThreadJob
from retrysafe.testing.asks import an_ask
from retrysafe.testing.clock import ManualClock
from tests.stores.sqlite_tools import held_up, writer_of

as_root = pytest.mark.skipif(os.geteuid() == 0, reason="permissions do not bind root")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.db"


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def store(path: Path, clock: ManualClock) -> Iterator[SQLiteStore]:
    store = SQLiteStore(path, clock=clock)
    yield store
    store.close()


def change(path: Path, *statements: str) -> None:
    connection = sqlite3.connect(path, isolation_level=None)
    for statement in statements:
        connection.execute(statement)
    connection.close()


def claim(store: SQLiteStore, key: str = "key-of-a-test") -> object:
    return store.run(partial(store.verbs.claim, an_ask(key)))


def expect_everywhere(store: SQLiteStore, error: type[Exception], match: str) -> None:
    """Every way into the store says the same."""
    ways: list[Callable[[], object]] = [
        store.open,
        lambda: claim(store),
        lambda: store.query(lambda: store.verbs.listing(Query())),
        lambda: asyncio.run(store.aopen()),
        lambda: asyncio.run(store.aquery(lambda: store.verbs.listing(Query()))),
    ]
    for act in ways:
        with pytest.raises(error, match=match):
            act()


def test_a_missing_folder_is_unavailable_until_it_is_there(tmp_path: Path) -> None:
    """D1: the message names the file."""
    store = SQLiteStore(tmp_path / "later" / "store.db")
    expect_everywhere(store, StoreUnavailable, r"later/store\.db: unable to open database file")
    (tmp_path / "later").mkdir()
    assert isinstance(claim(store), Claimed)
    store.close()


@as_root
def test_a_read_only_file_is_unavailable_until_it_can_be_written(store: SQLiteStore, path: Path) -> None:
    """D1."""
    claim(store)
    store.close()
    path.chmod(0o400)
    path.parent.chmod(0o500)
    try:
        with pytest.raises(StoreUnavailable):
            claim(store, "other")
    finally:
        path.parent.chmod(0o700)
        path.chmod(0o600)
    assert isinstance(claim(store, "other"), Claimed)


def test_a_connection_that_may_not_write_is_unavailable(store: SQLiteStore) -> None:
    """D1: what a file system that was remounted read-only looks like; it is opened anew by itself."""
    claim(store)
    writer = writer_of(store)
    with writer.resting:
        assert writer.connection is not None
        writer.connection.execute("PRAGMA query_only = ON")
    with pytest.raises(StoreUnavailable, match="readonly"):
        claim(store, "other")
    assert isinstance(claim(store, "other"), Claimed)


def test_a_full_database_fails_only_what_does_not_fit(store: SQLiteStore) -> None:
    """D1: in one group, what needs more room than there is fails, and what needs none goes through."""
    claim(store, "here")
    for number in range(40):
        claim(store, f"key-{number}")
    with held_up(store):
        connection = writer_of(store).connection
        assert connection is not None
        [pages] = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count = {pages}")
        big = an_ask("big", request=bytes(100_000))
        jobs = [ThreadJob(partial(store.verbs.claim, ask)) for ask in (an_ask("here"), big, an_ask("here"))]
        for job in jobs:
            store._machinery.submit(job)
    with pytest.raises(StoreUnavailable, match="full"):
        jobs[1].wait()
    assert isinstance(jobs[0].wait(), InFlight)
    assert isinstance(jobs[2].wait(), InFlight)
    writer = writer_of(store)
    with writer.resting:
        assert writer.connection is connection
        connection.execute("PRAGMA max_page_count = 1000000")
    assert isinstance(store.run(partial(store.verbs.claim, big)), Claimed)


def test_what_is_no_database_is_corrupt(store: SQLiteStore, path: Path) -> None:
    """D1: it is never overwritten."""
    path.write_bytes(b"this is somebody's letter, and not a database" * 100)
    before = path.read_bytes()
    expect_everywhere(store, StoreCorrupt, "file is not a database")
    assert path.read_bytes() == before


def test_a_damaged_file_is_corrupt(store: SQLiteStore, path: Path) -> None:
    """D1: and a copy put back in its place is found."""
    for number in range(200):
        claim(store, f"key-{number}")
    store.close()
    whole = path.read_bytes()
    path.write_bytes(whole[:4096] + b"\xff" * (len(whole) - 4096))
    with pytest.raises(StoreCorrupt):
        claim(store, "key-1")
    path.write_bytes(whole)
    assert isinstance(claim(store, "key-1"), InFlight)


def test_a_file_removed_while_in_use_is_noticed(store: SQLiteStore, path: Path, clock: ManualClock) -> None:
    """D1: writes into it would succeed, and be lost."""
    claim(store)
    store.query(lambda: store.verbs.listing(Query()))
    for name in (path, *path.parent.glob("store.db-*")):
        name.unlink()
    clock.advance(1)
    with pytest.raises(StoreUnavailable, match="removed or replaced"):
        claim(store)
    assert isinstance(claim(store), Claimed)
    assert len(store.query(lambda: store.verbs.listing(Query()))) == 1


def test_tables_dropped_while_in_use_are_unavailable(store: SQLiteStore, path: Path) -> None:
    """D1: and the schema is looked at again."""
    claim(store)
    kinds = ("checkpoint", "step", "outbox", "audit", "inbox", "barrier", "meta", "migration")
    change(path, *(f"DROP TABLE retrysafe_{kind}" for kind in kinds))
    with pytest.raises(StoreUnavailable, match="no such table"):
        claim(store)
    assert isinstance(claim(store), Claimed)


def test_a_newer_schema_is_refused(store: SQLiteStore, path: Path) -> None:
    """D1: by every way in, and by old processes after a roll-back of the code."""
    store.open()
    store.close()
    change(path, "INSERT INTO retrysafe_migration VALUES (3, '0003_later', 'digest')")
    expect_everywhere(SQLiteStore(path), SchemaMismatch, "version 3, this code needs 2: upgrade retrysafe")


def test_a_store_that_may_not_migrate_says_what_to_run(path: Path) -> None:
    """K4: neither tables nor the file are made."""
    with pytest.raises(StoreUnavailable):
        SQLiteStore(path, migrate=False).open()
    assert not path.exists()
    change(path, "CREATE TABLE theirs (number INTEGER)")
    expect_everywhere(SQLiteStore(path, migrate=False), SchemaMismatch, "run `retrysafe migrate`")


def test_a_migration_changed_after_it_was_applied_is_refused(store: SQLiteStore, path: Path) -> None:
    """D1: the schema is not what this code believes."""
    store.open()
    store.close()
    change(path, "UPDATE retrysafe_migration SET digest = 'other'")
    expect_everywhere(SQLiteStore(path), ConfigurationError, "0001_checkpoint is not the one that was applied")


def test_a_row_of_a_newer_version_is_unreadable(store: SQLiteStore, path: Path) -> None:
    """S11: it is never taken for something else."""
    claim(store)
    change(path, "UPDATE retrysafe_checkpoint SET mode = 'later'")
    with pytest.raises(RecordUnreadable, match="'later'"):
        claim(store)


def test_the_application_s_own_tables_are_left_alone(store: SQLiteStore, path: Path) -> None:
    """D3: the file may be the application's database."""
    change(path, "CREATE TABLE orders (number INTEGER)", "INSERT INTO orders VALUES (7)")
    claim(store)
    store.close()
    connection = sqlite3.connect(path)
    assert connection.execute("SELECT number FROM orders").fetchall() == [(7,)]
    names = [name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
    assert all(name.startswith(("retrysafe_", "orders")) for name in names)
    connection.close()
