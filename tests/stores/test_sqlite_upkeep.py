"""Time, retention and the write-ahead log over the life of a file."""

import sqlite3
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from threading import Event
from typing import Any, cast

import pytest

from retrysafe.protocol.verdicts import Claimed
from retrysafe.stores.base import Purged, Query
from retrysafe.stores.program import Program, Statement
from retrysafe.stores.sqlite import SQLiteStore, connect, writer
from retrysafe.stores.sqlite.dialect import SQLiteVerbs
from retrysafe.testing.asks import DAY_SECONDS, an_ask
from retrysafe.testing.clock import ManualClock
from retrysafe.testing.runner import Runner
from tests.stores.sqlite_tools import PATIENCE_SECONDS, recording, trace


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.db"


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def store(path: Path, clock: ManualClock) -> Iterator[SQLiteStore]:
    store = SQLiteStore(path, clock=clock)
    store.open()
    yield store
    store.close()


def now(store: SQLiteStore) -> float:
    """The store's clock, as a write sees it."""

    verbs = store.verbs
    assert isinstance(verbs, SQLiteVerbs)

    def program() -> Program[float]:
        yield Statement("SELECT 1")
        return cast(Any, verbs)._instants._clock.now()  # type: ignore[no-any-return]

    return store.run(program)


def fill(store: SQLiteStore, rows: int, *, finished_at: float, retention: float, tombstone: float) -> None:
    """Make finished rows, faster than by claims."""

    def program() -> Program[None]:
        yield Statement(
            """
            WITH RECURSIVE row (number) AS (SELECT 1 UNION ALL SELECT number + 1 FROM row WHERE number < ?)
            INSERT INTO retrysafe_checkpoint (
                digest, fence, state, mode, attempt, deaths, lease_until, due_at, created_at, finished_at,
                outcome_until, tombstone_until, operation_id, attempt_id, name, namespace, principal, key_hint,
                fingerprint, outcome
            )
            SELECT randomblob(16), 1, 'done', 'once', 1, 0, ?, ?, ?, ?, ?, ?, number, number, 'POST /', 'tests', '', '',
                x'00', x'00'
            FROM row
            """,
            (rows, *[finished_at] * 4, finished_at + retention, finished_at + tombstone),
        )

    store.run(program)


class TestClock:
    def test_a_clock_set_back_between_two_lives_of_a_process(
        self, store: SQLiteStore, path: Path, clock: ManualClock
    ) -> None:
        """C2: the mark is in the file."""
        before = now(store)
        store.close()
        clock.step_back(3600)
        later = SQLiteStore(path, clock=clock)
        assert now(later) == before
        clock.advance(10)
        assert now(later) == pytest.approx(before + 10, abs=1e-3)
        later.close()

    def test_processes_share_one_clock(self, store: SQLiteStore, path: Path, clock: ManualClock) -> None:
        """C2: one that did not look while the clock was set back takes over what the others know."""
        idle = SQLiteStore(path, clock=clock)
        now(idle)
        for _ in range(3):
            clock.advance(600)
            before = now(store)
            clock.step_back(3600)
            assert now(store) == before
            clock.advance(5)
            assert now(idle) == now(store) == pytest.approx(before + 5, abs=1e-3)
        idle.close()

    def test_the_mark_is_written_once_a_second_and_not_with_each_write(
        self, store: SQLiteStore, clock: ManualClock
    ) -> None:
        """C2."""
        statements: list[str] = []
        trace(store, statements.append)
        for number in range(30):
            store.run(partial(store.verbs.claim, an_ask(f"key-{number}")))
            clock.advance(0.1)
        marks = [text for text in statements if text.startswith("UPDATE retrysafe_meta")]
        assert 2 <= len(marks) <= 3


class TestPurge:
    def test_a_large_table_is_purged_in_small_steps(self, store: SQLiteStore, clock: ManualClock) -> None:
        """S10: outcomes first, tombstones later, no more than the limit at once, and nothing is left."""
        runner = Runner(store, "sync")
        open_claim = runner.claimed(an_ask("open", tombstone_seconds=1))
        fill(store, 3000, finished_at=clock(), retention=DAY_SECONDS, tombstone=9 * DAY_SECONDS)
        assert runner.purge_all() == Purged(0, 0, more=False)
        clock.advance(DAY_SECONDS)
        steps = [runner.purge(300)]
        while steps[-1].more:
            steps.append(runner.purge(300))
        assert sum(step.expired for step in steps) == 3000
        assert max(step.expired for step in steps) == 300
        clock.advance(9 * DAY_SECONDS)
        assert runner.purge_all() == Purged(0, 3000, more=False)
        assert [met.operation_id for met in runner.listing()] == [open_claim.operation_id]

    def test_a_purge_with_nothing_to_do_reads_only_the_end_of_the_table(
        self, store: SQLiteStore, clock: ManualClock
    ) -> None:
        """S10: known stretches are left alone until their first row is due."""
        runner = Runner(store, "sync")
        fill(store, 5000, finished_at=clock(), retention=DAY_SECONDS, tombstone=DAY_SECONDS)
        runner.purge_all()
        clock.advance(3600)
        statements: list[str] = []
        trace(store, statements.append)
        assert runner.purge() == Purged(0, 0, more=False)
        purging = [text for text in statements if "purge" in text or "number" in text]
        assert len(purging) == 3

    def test_rows_of_other_processes_are_purged(self, store: SQLiteStore, path: Path, clock: ManualClock) -> None:
        """S10: also those that took the numbers of deleted ones."""
        runner = Runner(store, "sync")
        for _ in range(3):
            fill(store, 1700, finished_at=clock(), retention=60, tombstone=60)
            runner.purge_all()
            other = SQLiteStore(path, clock=clock)
            clock.advance(60)
            assert Runner(other, "sync").purge_all().deleted == 1700
            fill(other, 1200, finished_at=clock(), retention=60, tombstone=60)
            other.close()
            clock.advance(120)
            assert runner.purge_all() == Purged(0, 1200, more=False)

    def test_a_rolled_back_purge_is_made_up_for(self, store: SQLiteStore, clock: ManualClock) -> None:
        """S10: at the latest a day later."""
        runner = Runner(store, "sync")
        fill(store, 1000, finished_at=clock(), retention=60, tombstone=300 * DAY_SECONDS)
        clock.advance(60)

        def purge_and_fail() -> Program[None]:
            yield from store.verbs.purge(500)
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            store.run(purge_and_fail)
        clock.advance(DAY_SECONDS)
        assert runner.purge_all().expired == 1000


class TestWriteAheadLog:
    @pytest.fixture
    def log(self, path: Path) -> Path:
        return path.with_name("store.db-wal")

    def test_the_idle_writer_folds_the_log_into_the_file(
        self, store: SQLiteStore, log: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The log does not grow from one busy time to the next, and no commit has to write it back."""
        monkeypatch.setattr(writer, "_CHANGES_WORTH_WRITING_BACK", 50)
        sizes = []
        for busy_time in range(4):
            folded = Event()
            trace(store, lambda text, folded=folded: folded.set() if "wal_checkpoint" in text else None)  # type: ignore[misc]
            for number in range(50):
                verdict = store.run(partial(store.verbs.claim, an_ask(f"key-{busy_time}-{number}")))
                assert isinstance(verdict, Claimed)
                store.run(recording(store, verdict.claim, bytes(1000)))
            assert folded.wait(PATIENCE_SECONDS)
            sizes.append(log.stat().st_size)
        assert sizes[-1] < 1.5 * sizes[0]

    def test_a_log_that_reaches_its_cap_is_written_back_under_load(
        self, path: Path, log: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(connect, "_WAL_CAP_PAGES", 200)
        monkeypatch.setattr(writer, "_CHANGES_WORTH_WRITING_BACK", 10**9)
        store = SQLiteStore(path)
        for number in range(300):
            store.run(partial(store.verbs.claim, an_ask(f"key-{number}", request=bytes(20_000))))
        assert path.stat().st_size > 5_000_000
        assert log.stat().st_size < 3 * 200 * 4096
        store.close()

    def test_a_log_kept_large_by_readers_shrinks_when_they_are_gone(
        self, store: SQLiteStore, path: Path, log: Path, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(writer, "_WAL_LIMIT_BYTES", 1_000_000)
        reader = sqlite3.connect(path, isolation_level=None)
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM retrysafe_checkpoint").fetchall()
        for number in range(100):
            store.run(partial(store.verbs.claim, an_ask(f"key-{number}", request=bytes(20_000))))
            clock.advance(1)
        assert log.stat().st_size > 1_000_000
        reader.execute("COMMIT")
        reader.close()
        store.run(partial(store.verbs.claim, an_ask("later")))
        assert log.stat().st_size < 1_000_000

    def test_closing_leaves_one_file(self, store: SQLiteStore, path: Path) -> None:
        store.run(partial(store.verbs.claim, an_ask()))
        store.query(lambda: store.verbs.listing(Query()))
        store.close()
        assert [entry.name for entry in path.parent.iterdir()] == ["store.db"]

    def test_closing_folds_the_log_into_the_file_beside_other_processes(
        self, store: SQLiteStore, path: Path, log: Path
    ) -> None:
        """SQLite does so by itself only when the last connection of all is closed."""
        other = sqlite3.connect(path)
        other.execute("SELECT count(*) FROM retrysafe_checkpoint").fetchall()
        store.run(partial(store.verbs.claim, an_ask()))
        store.close()
        assert log.stat().st_size == 0
        other.close()

    def test_space_of_deleted_rows_is_used_again(self, store: SQLiteStore, path: Path, clock: ManualClock) -> None:
        """S10: the file stays as large as what lives in it at once."""
        runner = Runner(store, "sync")
        sizes = []
        for day in range(5):
            for number in range(100):
                claim = runner.claimed(an_ask(f"key-{day}-{number}"))
                runner.record(claim, bytes(5000), retention_seconds=60, tombstone_seconds=120)
            clock.advance(120)
            runner.purge_all()
            with sqlite3.connect(path) as connection:
                sizes.append(connection.execute("PRAGMA page_count").fetchone()[0])
            connection.close()
        assert sizes[-1] <= sizes[0] + 5
