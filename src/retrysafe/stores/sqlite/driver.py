"""The SQLite store: a writer thread and readers, for threads and event loops alike, and across forks."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import time
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from threading import Lock
from typing import Final, Literal, TypeVar, cast

from retrysafe.stores.base import Capability, Clock, Durability, Meta, Traits, Verbs
from retrysafe.stores.program import Factory
from retrysafe.stores.sqlite.clock import StoredClock
from retrysafe.stores.sqlite.connect import Settings
from retrysafe.stores.sqlite.dialect import SQLiteVerbs
from retrysafe.stores.sqlite.jobs import Job, LoopJob, ThreadJob
from retrysafe.stores.sqlite.readers import Readers
from retrysafe.stores.sqlite.schema import meta
from retrysafe.stores.sqlite.writer import Writer

T = TypeVar("T")

_ASYNC_READERS = 4


class SQLiteStore:
    """Checkpoints in one SQLite file, shared by every thread and process of this host.

    Nothing is opened before the first use, and everything is opened again by itself after :meth:`close`, a fork or an
    error that has passed. All writes of a process go through one thread, which commits whatever is queued at once.

    Args:
        path: the file; on a local disk, because network file systems lock unreliably.
        synchronous: ``full`` makes every acknowledged write survive power loss. With ``normal`` power loss may cost the
            latest ones, so that an operation runs twice; the death of a process costs nothing either way.
        busy_timeout: how long a write waits for another process's transaction.
        migrate: whether the tables may be made and changed at first use; off, ``retrysafe migrate`` does it.
        clock: the wall clock, in seconds since the epoch.

    Attributes:
        path: the file's absolute path.
        traits: what the store declares about itself.
        verbs: what it can be asked.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        synchronous: Literal["full", "normal"] = "full",
        busy_timeout: timedelta = timedelta(seconds=5),
        migrate: bool = True,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.path: Final = str(Path(path).absolute())
        self.traits = Traits(
            name="sqlite",
            clock=Clock.HOST,
            durability=Durability.NODE if synchronous == "full" else Durability.PROCESS,
            capabilities=frozenset({Capability.SYNC, Capability.ASYNC, Capability.LIST_ABANDONED}),
        )
        settings = Settings(
            path=self.path,
            synchronous=synchronous,
            busy_seconds=busy_timeout.total_seconds(),
            migrate=migrate,
        )
        self._settings: Final = settings
        stored_clock = StoredClock(clock)
        self.verbs: Verbs = SQLiteVerbs(stored_clock)
        self._machinery: Final = _Machinery(settings, stored_clock)
        # A store that nobody closed is closed when it is collected, and at the latest when the interpreter ends.
        weakref.finalize(self, self._machinery.close)

    def open(self) -> Meta:
        """Open the file, make or check its tables, and return the meta row (K4).

        Raises:
            SchemaMismatch: the schema is newer than this code, or older and may not be migrated here.
            ConfigurationError: a migration was changed after it had been applied.
            StoreUnavailable: the file can't be opened or written, or is locked.
            StoreCorrupt: the file is damaged or no database.
        """
        opened = self.run(meta)
        self._machinery.opened = True
        return opened

    def run(self, program: Factory[T]) -> T:
        """Run a program in a transaction that it may share with others, and block until it is durable.

        Raises:
            StoreUnavailable: nothing is known about the write (D4).
        """
        job = ThreadJob(program)
        self._machinery.submit(job)
        return cast(T, job.wait())

    def query(self, program: Factory[T]) -> T:
        """Run a program that only reads, in this thread."""
        if not self._machinery.opened:
            self.open()
        return self._machinery.readers.query(program)

    def close(self) -> None:
        """Finish what is queued, and close threads and connections."""
        self._machinery.close()

    def with_clock(self, wall: Callable[[], float]) -> SQLiteStore:
        """Return a store on the same file, by another wall clock: for tests (C2)."""
        settings = self._settings
        return SQLiteStore(
            self.path,
            synchronous=settings.synchronous,
            busy_timeout=timedelta(seconds=settings.busy_seconds),
            migrate=settings.migrate,
            clock=wall,
        )

    async def aopen(self) -> Meta:
        """Open the file without blocking the loop; see :meth:`open`."""
        opened = await self.arun(meta)
        self._machinery.opened = True
        return opened

    async def arun(self, program: Factory[T]) -> T:
        """Run a program in a transaction that it may share with others, and suspend until it is durable.

        A cancelled caller leaves it queued or running: it may become durable all the same.

        Raises:
            StoreUnavailable: nothing is known about the write (D4).
        """
        job = LoopJob(program, asyncio.get_running_loop())
        self._machinery.submit(job)
        return cast(T, await job.future)

    async def aquery(self, program: Factory[T]) -> T:
        """Run a program that only reads, in a thread kept for that."""
        if not self._machinery.opened:
            await self.aopen()
        machinery = self._machinery
        return await asyncio.get_running_loop().run_in_executor(machinery.executor(), machinery.readers.query, program)

    async def aclose(self) -> None:
        """Finish what is queued, and close threads and connections, without blocking the loop."""
        await asyncio.to_thread(self._machinery.close)

    def __repr__(self) -> str:
        """Name the file."""
        return f"<SQLiteStore {self.path}>"


class _Machinery:
    """Threads and connections of a store in this process; made at first use, and made anew after a fork.

    SQLite can't be carried across a fork: its locks stay with the parent, while the child would believe that it holds
    them. So before a fork everything is brought to rest and closed, and both sides open again when they need to.
    """

    def __init__(self, settings: Settings, clock: StoredClock) -> None:
        self._settings = settings
        self._clock = clock
        self._start_over()
        _remember(self)

    def _start_over(self) -> None:
        self.opened = False
        self.readers = Readers(self._settings)
        self._life = Lock()
        """Held while threads and connections are brought to an end."""
        self._door = Lock()
        """Held while the writer is chosen; never for long."""
        self._writer: Writer | None = None
        self._executor: ThreadPoolExecutor | None = None

    def submit(self, job: Job) -> None:
        """Hand a job to the writer, which is started if it does not run."""
        with self._door:
            if self._writer is None:
                writer = Writer(self._settings, self._clock)
                writer.start()
                self._writer = writer
            self._writer.submit(job)

    def executor(self) -> ThreadPoolExecutor:
        """Return the threads in which event loops read."""
        with self._door:
            if self._executor is None:
                self._executor = ThreadPoolExecutor(_ASYNC_READERS, "retrysafe-reader")
            return self._executor

    def close(self) -> None:
        """Bring everything to an end; what is submitted afterwards starts it again."""
        with self._life:
            with self._door:
                writer, self._writer = self._writer, None
                executor, self._executor = self._executor, None
            if executor is not None:
                executor.shutdown()
            self.readers.close()
            # Last, so that no reader keeps it from folding the log into the file.
            if writer is not None:
                writer.stop()

    def hold(self) -> None:
        """Wait until everything rests, close every connection, and let nothing begin."""
        self._life.acquire()
        self._door.acquire()
        if self._writer is not None:
            self._writer.resting.acquire()
            self._writer.disconnect()
        self.readers.hold()

    def release(self) -> None:
        """Let everything go on, in the process that forked."""
        self.readers.release()
        if self._writer is not None:
            self._writer.resting.release()
        self._door.release()
        self._life.release()

    def start_over(self) -> None:
        """Begin with nothing, in a forked child; what the parent had queued is the parent's."""
        # Only after a fork that did not announce itself, made by C code: closing these would drop the locks of others.
        if self._writer is not None and self._writer.connection is not None:
            _INHERITED.append(self._writer.connection)
        _INHERITED.extend(self.readers.inherited())
        self._clock.start_over()
        self._start_over()


_MACHINERIES: weakref.WeakSet[_Machinery] = weakref.WeakSet()
_HELD: list[_Machinery] = []
_INHERITED: list[sqlite3.Connection] = []
_hooked = Lock()


def _remember(machinery: _Machinery) -> None:
    # The lock is taken once and never given back: it says that the hooks are in place.
    if _hooked.acquire(blocking=False):
        os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_in_child)
    _MACHINERIES.add(machinery)


def _before_fork() -> None:
    for machinery in list(_MACHINERIES):
        machinery.hold()
        _HELD.append(machinery)


def _after_fork() -> None:
    while _HELD:
        _HELD.pop().release()


def _in_child() -> None:
    _HELD.clear()
    for machinery in list(_MACHINERIES):
        machinery.start_over()
