"""Connections that only read, beside the writer and never behind it."""

from __future__ import annotations

import sqlite3
from collections.abc import Generator
from contextlib import contextmanager, suppress
from threading import Condition
from typing import TypeVar

from retrysafe.stores.program import Answer, Factory, Statement, run
from retrysafe.stores.sqlite.connect import Settings, connect_reader, whereabouts
from retrysafe.stores.sqlite.failures import spares_connection, translated

T = TypeVar("T")

_KEPT = 4
"""How many connections stay open when nobody reads."""


class _Reader:
    """A connection, and the file that it has open."""

    __slots__ = ("connection", "place")

    def __init__(self, settings: Settings) -> None:
        self.place = whereabouts(settings.path)
        self.connection = connect_reader(settings)

    def fetch(self, statement: Statement) -> Answer:
        return Answer(self.connection.execute(statement.text, statement.parameters).fetchall())

    def close(self) -> None:
        with suppress(sqlite3.Error):
            self.connection.close()


class Readers:
    """As many connections as are needed at once; each is used by one thread at a time."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._free: list[_Reader] = []
        self._used = 0
        self._changed = Condition()

    def query(self, program: Factory[T]) -> T:
        """Run a program that only reads, in this thread. Each statement sees the newest commit.

        Raises:
            StoreUnavailable: the file can't be read, or is locked for longer than the store waits.
            StoreCorrupt: the file is damaged or no database.
        """
        try:
            with self._reader() as reader:
                return run(program(), reader.fetch)
        except sqlite3.Error as error:
            raise translated(error, self._settings.path) from error

    @contextmanager
    def _reader(self) -> Generator[_Reader]:
        reader = self._take()
        good = False
        try:
            if reader is None or reader.place != whereabouts(self._settings.path):
                if reader is not None:
                    reader.close()
                reader = None
                reader = _Reader(self._settings)
            yield reader
            good = True
        except BaseException as error:
            good = spares_connection(error)
            raise
        finally:
            self._give_back(reader, good=good)

    def _take(self) -> _Reader | None:
        with self._changed:
            self._used += 1
            return self._free.pop() if self._free else None

    def _give_back(self, reader: _Reader | None, *, good: bool) -> None:
        with self._changed:
            self._used -= 1
            if reader is not None and good and len(self._free) < _KEPT:
                self._free.append(reader)
                reader = None
            self._changed.notify_all()
        if reader is not None:
            reader.close()

    def close(self) -> None:
        """Wait for queries that run, and close every connection; the next query opens one again."""
        self.hold()
        self.release()

    def hold(self) -> None:
        """Close every connection and let nobody open one until :meth:`release`."""
        self._changed.acquire()
        while self._used:
            self._changed.wait()
        while self._free:
            self._free.pop().close()

    def release(self) -> None:
        """Let queries run again; only after :meth:`hold`, in the same thread."""
        self._changed.release()

    def inherited(self) -> list[sqlite3.Connection]:
        """Name the connections that a child got from its parent, without touching them."""
        return [reader.connection for reader in self._free]
