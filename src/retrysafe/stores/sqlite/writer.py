"""The one thread that writes: it takes whatever is queued, runs it in one transaction and commits once.

Nobody waits for a group to fill. While one group commits, the next collects; a lone write is a group of one. A program
that fails takes the whole transaction with it, so then each program runs again in a transaction of its own, and only
the culprit fails.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Lock, Thread, current_thread

from retrysafe.errors import StoreUnavailable
from retrysafe.stores.program import Answer, Statement, run
from retrysafe.stores.sqlite.clock import StoredClock
from retrysafe.stores.sqlite.connect import WAL_CAP_BYTES, Settings, connect_writer, whereabouts
from retrysafe.stores.sqlite.failures import spares_connection, translated
from retrysafe.stores.sqlite.jobs import Job, deliver
from retrysafe.stores.sqlite.schema import prepare

LARGEST_GROUP = 256
_QUIET_SECONDS = 0.05
_CHANGES_WORTH_WRITING_BACK = 500
_WAL_LIMIT_BYTES = 4 * WAL_CAP_BYTES


class Writer:
    """A thread with the only connection of this process that writes.

    Attributes:
        resting: held while the connection is in use; whoever holds it may close the connection.
        connection: None until the first job and after an error; the thread opens it anew by itself.
    """

    def __init__(self, settings: Settings, clock: StoredClock) -> None:
        self.resting = Lock()
        self.connection: sqlite3.Connection | None = None
        self._settings = settings
        self._clock = clock
        self._queue: SimpleQueue[Job | None] = SimpleQueue()
        self._thread = Thread(target=self._work, name="retrysafe-writer", daemon=True)
        self._place: tuple[int, int] | None = None
        self._written_back = 0
        self._worth_writing_back = False

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def submit(self, job: Job) -> None:
        """Queue a job; its waiter is woken when it is durable or has failed."""
        self._queue.put(job)

    def stop(self) -> None:
        """Finish what is queued, fold the write-ahead log into the file, close the connection and end the thread."""
        self._queue.put(None)
        # The last reference to a store may be dropped by a job of its own.
        if self._thread is not current_thread():
            self._thread.join()

    def disconnect(self) -> None:
        """Close the connection; only for who holds ``resting``."""
        connection, self.connection = self.connection, None
        if connection is not None:
            with suppress(sqlite3.Error):
                connection.close()
        self._clock.forget()

    def _work(self) -> None:
        while True:
            jobs, more = self._take()
            if jobs:
                with self.resting:
                    self._settle(jobs)
                    self._count_changes()
                deliver(jobs)
            if not more:
                break
        with self.resting:
            self._write_back("TRUNCATE")
            self.disconnect()

    def _take(self) -> tuple[list[Job], bool]:
        """Wait for a job and take all that are queued; the flag is False when the thread is to end."""
        jobs: list[Job] = []
        job = self._first()
        while job is not None:
            jobs.append(job)
            if len(jobs) >= LARGEST_GROUP:
                return jobs, True
            try:
                job = self._queue.get_nowait()
            except Empty:
                return jobs, True
        return jobs, False

    def _first(self) -> Job | None:
        """Wait for a job. A quiet moment is used to write the log back, so that no commit has to."""
        if self._worth_writing_back:
            try:
                return self._queue.get(timeout=_QUIET_SECONDS)
            except Empty:
                with self.resting:
                    self._write_back("PASSIVE")
        return self._queue.get()

    def _settle(self, jobs: Sequence[Job]) -> bool:
        """Run jobs in one transaction, or each in its own if that fails; False when not even that could begin."""
        try:
            connection = self._begin()
        except Exception as error:  # noqa: BLE001 - whatever it is, it is what those who wait must hear
            self._roll_back(error)
            for job in jobs:
                job.error = self._reason(error)
            return False
        try:
            replies = [run(job.program(), self._fetch) for job in jobs]
            connection.execute("COMMIT")
        except BaseException as error:  # noqa: BLE001 - a program may raise anything; the thread must live on
            self._roll_back(error)
            if len(jobs) == 1:
                jobs[0].error = self._reason(error)
            else:
                self._settle_each(jobs)
            return True
        for job, reply in zip(jobs, replies, strict=True):
            job.reply = reply
        return True

    def _settle_each(self, jobs: Sequence[Job]) -> None:
        for position, job in enumerate(jobs):
            if not self._settle([job]):
                # Locked: each of the others would wait as long, for the same answer.
                for other in jobs[position + 1 :]:
                    other.error = job.error
                return

    def _begin(self) -> sqlite3.Connection:
        """Begin a transaction that nobody else may write beside."""
        clock_is_due = self._clock.is_due()
        if clock_is_due and self.connection is not None:
            self._look_after_file()
        connection = self.connection or self._connect()
        connection.execute("BEGIN IMMEDIATE")
        if clock_is_due or self._clock.is_due():
            run(self._clock.compare(), self._fetch)
        return connection

    def _connect(self) -> sqlite3.Connection:
        path = self._settings.path
        if os.access(path, os.F_OK) and not os.access(path, os.W_OK):
            # SQLite would make its log as read-only as the file, and it would stay so when the file is not any more.
            raise StoreUnavailable(f"{path}: the file is read-only")
        connection = connect_writer(self._settings)
        try:
            prepare(connection, may_migrate=self._settings.migrate)
        except BaseException:
            connection.close()
            raise
        self.connection = connection
        self._place = whereabouts(path)
        self._written_back = connection.total_changes
        return connection

    def _look_after_file(self) -> None:
        """Notice, once a second, that the file is not the one that is open, or that its log outgrew every bound.

        Raises:
            StoreUnavailable: it was removed or replaced. Writes into a removed file succeed, and are lost.
        """
        if whereabouts(self._settings.path) != self._place:
            self.disconnect()
            raise StoreUnavailable(f"{self._settings.path}: the file was removed or replaced while it was in use")
        with suppress(OSError):
            if Path(f"{self._settings.path}-wal").stat().st_size > _WAL_LIMIT_BYTES:
                self._write_back("TRUNCATE")

    def _fetch(self, statement: Statement) -> Answer:
        assert self.connection is not None  # noqa: S101 - for the type checker: a transaction has begun
        cursor = self.connection.execute(statement.text, statement.parameters)
        if cursor.description is None:
            return Answer((), cursor.rowcount)
        return Answer(cursor.fetchall())

    def _roll_back(self, error: BaseException) -> None:
        connection = self.connection
        if connection is None:
            return
        try:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
        except sqlite3.Error:
            self.disconnect()
        else:
            if not spares_connection(error):
                self.disconnect()
        self._clock.forget()

    def _reason(self, error: BaseException) -> BaseException:
        """Say the error in the store's words; one exception for each who waits, as each gets a traceback of its own."""
        if not isinstance(error, sqlite3.Error):
            return error
        reason = translated(error, self._settings.path)
        reason.__cause__ = error
        return reason

    def _count_changes(self) -> None:
        changes = 0 if self.connection is None else self.connection.total_changes - self._written_back
        self._worth_writing_back = changes >= _CHANGES_WORTH_WRITING_BACK

    def _write_back(self, how: str) -> None:
        """Fold the write-ahead log into the file as far as readers and other processes let us, without waiting.

        Args:
            how: ``PASSIVE``, or ``TRUNCATE``, which also shrinks the log to nothing if it is all folded.
        """
        self._worth_writing_back = False
        connection = self.connection
        if connection is None:
            return
        try:
            connection.execute("PRAGMA busy_timeout = 0")
            with suppress(sqlite3.OperationalError):
                # What is not folded stays in the log; the next quiet moment tries again.
                connection.execute(f"PRAGMA wal_checkpoint({how})")
            connection.execute(f"PRAGMA busy_timeout = {round(self._settings.busy_seconds * 1000)}")
        except sqlite3.Error:
            self.disconnect()
        else:
            self._written_back = connection.total_changes
