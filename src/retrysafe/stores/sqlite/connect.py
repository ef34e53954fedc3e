"""Opening connections to the store's file."""

from __future__ import annotations

import os
import sqlite3
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal
from urllib.parse import quote

_WAL_CAP_PAGES = 16_384
"""At 64 MiB of write-ahead log SQLite itself writes it back, idle or not."""

WAL_CAP_BYTES = _WAL_CAP_PAGES * 4096
_WAIT_FOR_WAL_SECONDS = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How the file is opened.

    Attributes:
        path: the file.
        synchronous: ``full`` survives power loss; ``normal`` may lose the latest writes to it, never half of one.
        busy_seconds: how long to wait for a lock of another process.
        migrate: whether this process may create and change tables.
    """

    path: str
    synchronous: Literal["full", "normal"] = "full"
    busy_seconds: float = 5.0
    migrate: bool = True


def connect_writer(settings: Settings) -> sqlite3.Connection:
    """Open the one connection that writes; the file is made if it is missing and may be made.

    Raises:
        sqlite3.Error: the file can't be opened or is no database.
    """
    mode = "rwc" if settings.migrate else "rw"
    if settings.migrate:
        # The file holds secrets and what clients sent and got: it is made for its owner alone. Groups are for the
        # administrator to let in, and SQLite gives the log the rights of the file.
        with suppress(OSError):
            # Only a new one: closing a file in use would drop every lock that SQLite has on it in this process.
            os.close(os.open(settings.path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600))
    connection = _connect(settings, mode)
    try:
        _use_wal(connection, settings.busy_seconds)
        connection.execute(f"PRAGMA synchronous = {settings.synchronous}")
        # Before the cap the idle writer writes the log back, so that nobody waits for that.
        connection.execute(f"PRAGMA wal_autocheckpoint = {_WAL_CAP_PAGES}")
        connection.execute(f"PRAGMA journal_size_limit = {WAL_CAP_BYTES}")
        # Erased requests and outcomes are zeroed where their page is written anyway.
        connection.execute("PRAGMA secure_delete = FAST")
    except BaseException:
        connection.close()
        raise
    return connection


def connect_reader(settings: Settings) -> sqlite3.Connection:
    """Open a connection that only reads; the file must exist.

    Raises:
        sqlite3.Error: the file can't be opened or is no database.
    """
    connection = _connect(settings, "rw")
    try:
        connection.execute("PRAGMA query_only = ON")
    except BaseException:
        connection.close()
        raise
    return connection


def _connect(settings: Settings, mode: str) -> sqlite3.Connection:
    return sqlite3.connect(
        f"file:{quote(settings.path)}?mode={mode}",
        uri=True,
        timeout=settings.busy_seconds,
        isolation_level=None,
        # A connection is used by one thread at a time, but not always by the same.
        check_same_thread=False,
        cached_statements=256,
    )


def _use_wal(connection: sqlite3.Connection, busy_seconds: float) -> None:
    """Switch the file to a write-ahead log, which is a property of the file.

    While others open it at the same moment SQLite answers "locked" at once, without waiting as it does elsewhere.
    """
    give_up_at = time.monotonic() + busy_seconds
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > give_up_at:
                raise
            time.sleep(_WAIT_FOR_WAL_SECONDS)
        else:
            return


def whereabouts(path: str) -> tuple[int, int] | None:
    """Tell which file a path names right now, by device and inode; None when there is none."""
    try:
        status = os.stat(path)  # noqa: PTH116 - for each query, and five times as fast as the method
    except OSError:
        return None
    return status.st_dev, status.st_ino
