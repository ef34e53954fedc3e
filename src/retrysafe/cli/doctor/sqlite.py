"""Checks of a SQLite store's file, library and disk."""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from statistics import median

from retrysafe.cli.doctor.findings import Finding, Level
from retrysafe.cli.doctor.schema import schema_check
from retrysafe.cli.opening import missing_file
from retrysafe.cli.words import duration, size
from retrysafe.http.codes import code_of
from retrysafe.stores.sqlite import SQLiteStore, migrations, pending
from retrysafe.stores.sqlite.connect import WAL_CAP_BYTES, Settings, connect_reader
from retrysafe.stores.sqlite.failures import translated

_OLDEST_LIBRARY = (3, 35, 0)
_SYNCS, _SYNC_SECONDS = 20, 0.5
_SLOW_SYNC_SECONDS, _HOLLOW_SYNC_SECONDS = 0.02, 0.000_02
_FREE_OCTETS = 256 * 1024 * 1024
_PURGE_LAG_SECONDS = 600.0
_NETWORK = {"nfs", "nfs4", "cifs", "smb3", "9p", "fuse.sshfs", "ceph", "glusterfs", "fuse.glusterfs", "afs"}
_VOLATILE = {"tmpfs", "ramfs"}
_OLDEST_DUE = """
SELECT min(min(tombstone_until, CASE WHEN state IN ('done', 'undone') THEN outcome_until ELSE tombstone_until END))
FROM (SELECT state, outcome_until, tombstone_until FROM retrysafe_checkpoint ORDER BY number LIMIT 1000)
WHERE state NOT IN ('running', 'streaming', 'undoing', 'parked')
"""


def file_checks(store: SQLiteStore, url: str) -> Iterator[Finding]:
    """Look at the library, the file, its schema and its disk; a failure means that it can't be opened."""
    yield _library(sqlite3.sqlite_version_info)
    if not Path(store.path).exists():
        missing = missing_file(url, store.path)
        yield Finding(
            Level.FAIL, "reachable", missing.message, f"correct the path, or make it: retrysafe migrate {url}"
        )
        return
    schema = schema_check(partial(pending, store.path), migrations()[-1].number, url)
    yield schema
    if schema.level is not Level.FAIL:
        yield from _contents(store.path)
    yield _sizes(store.path)
    yield from _disk(Path(store.path).parent)


def has_wal_reset_bug(version: tuple[int, ...]) -> bool:
    """Tell whether a SQLite may lose commits when two processes fold the log into the file at the same instant.

    It came with 3.7.0 and was fixed in 3.51.3, and in 3.50.7 and 3.44.6 for those who stay there:
    https://sqlite.org/wal.html#the_wal_reset_bug
    """
    return not (version >= (3, 51, 3) or (3, 50, 7) <= version < (3, 51) or (3, 44, 6) <= version < (3, 45))


def _library(version: tuple[int, ...]) -> Finding:
    text = ".".join(map(str, version))
    if version < _OLDEST_LIBRARY:
        return Finding(Level.FAIL, "sqlite", f"{text} lacks RETURNING", "use a Python whose SQLite is 3.35 or later")
    if has_wal_reset_bug(version):
        return Finding(
            Level.WARN,
            "sqlite",
            f"{text} may, very rarely, lose commits when several processes use one file (SQLite's WAL-reset bug)",
            "use a Python whose SQLite is 3.51.3 or later (or 3.50.7, 3.44.6), or serve from one process",
        )
    return Finding(Level.OK, "sqlite", text)


def _contents(path: str) -> Iterator[Finding]:
    try:
        with closing(connect_reader(Settings(path=path))) as connection:
            yield _journal(connection)
            yield _purge_lag(connection)
    except sqlite3.Error as error:
        known = translated(error, path)
        yield Finding(Level.FAIL, "reachable", str(known), code_of(known).fix)


def _journal(connection: sqlite3.Connection) -> Finding:
    [mode] = connection.execute("PRAGMA journal_mode").fetchone()
    if mode == "wal":
        return Finding(Level.OK, "journal", "write-ahead log")
    fix = "start the service: it switches the file back; and find out which program switched it"
    return Finding(Level.WARN, "journal", f"{mode}: readers and the writer wait for each other", fix)


def _purge_lag(connection: sqlite3.Connection) -> Finding:
    """Look at the thousand oldest checkpoints only: retention hardly differs, so what is overdue is among them."""
    [offset] = connection.execute("SELECT coalesce(max(clock_offset), 0) FROM retrysafe_meta").fetchone()
    [due_at] = connection.execute(_OLDEST_DUE).fetchone()
    lag = 0.0 if due_at is None else time.time() + offset - due_at
    if lag < _PURGE_LAG_SECONDS:
        return Finding(Level.OK, "purge", "nothing is overdue" if lag <= 0 else f"{duration(lag)} behind")
    fix = "start a process that serves, with scan on: it purges in small batches"
    return Finding(Level.WARN, "purge", f"{duration(lag)} behind: outcomes stay longer than their retention", fix)


def _sizes(path: str) -> Finding:
    log = Path(f"{path}-wal")
    log_octets = log.stat().st_size if log.exists() else 0
    text = f"{size(Path(path).stat().st_size)}, log {size(log_octets)}"
    if log_octets <= 4 * WAL_CAP_BYTES:
        return Finding(Level.OK, "file", text)
    fix = "look for a program that keeps a read transaction open on the file"
    return Finding(Level.WARN, "file", f"{text}: it can't be folded into the file", fix)


def _disk(folder: Path) -> Iterator[Finding]:
    kind = _file_system(folder)
    if kind in _NETWORK:
        yield Finding(
            Level.FAIL, "disk", f"{kind} is a network file system, which locks unreliably", "use a local disk"
        )
    elif kind in _VOLATILE:
        yield Finding(
            Level.WARN, "disk", f"{kind} is memory: nothing survives a restart of the host", "use a real disk"
        )
    elif kind == "overlay":
        text = "inside a container's own layer: it goes when the container goes"
        yield Finding(Level.WARN, "disk", text, "put the file on a volume")
    free = shutil.disk_usage(folder).free
    low = free < _FREE_OCTETS
    fix = "make room: a full disk means 503 for every guarded request" if low else None
    yield Finding(Level.WARN if low else Level.OK, "free space", size(free), fix)
    yield _sync(folder)


def _file_system(folder: Path) -> str | None:
    """Name the type of the file system, where the kernel tells."""
    try:
        mounts = [line.split()[1:3] for line in Path("/proc/self/mounts").read_text("utf-8").splitlines()]
    except OSError:
        return None
    real = folder.resolve()
    # The last of equals was mounted over the others.
    above = [(len(place), kind) for place, kind in mounts if real.is_relative_to(place.replace("\\040", " "))]
    return max(above, key=lambda mount: mount[0], default=(0, None))[1] if above else None


def _sync(folder: Path) -> Finding:
    try:
        took = median(_syncs(folder))
    except OSError as error:
        return Finding(Level.WARN, "sync", f"can't be measured: {error}", f"let this user write into {folder}")
    text = f"{duration(took)} for a flush to disk (median of at most {_SYNCS})"
    if took > _SLOW_SYNC_SECONDS:
        return Finding(Level.WARN, "sync", f"{text}: each write waits that long", "use a faster disk for the store")
    if took < _HOLLOW_SYNC_SECONDS:
        return Finding(Level.INFO, "sync", f"{text}: so quick that it hardly reaches a disk")
    return Finding(Level.OK, "sync", text)


def _syncs(folder: Path) -> list[float]:
    times: list[float] = []
    until = time.perf_counter() + _SYNC_SECONDS
    with tempfile.TemporaryFile(dir=folder, prefix="retrysafe-doctor-") as file:
        while len(times) < _SYNCS and (not times or time.perf_counter() < until):
            os.pwrite(file.fileno(), os.urandom(4096), 4096 * len(times))
            begun = time.perf_counter()
            os.fsync(file.fileno())
            times.append(time.perf_counter() - begun)
    return times
