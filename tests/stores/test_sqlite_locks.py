"""What keeps two processes apart are locks that a process loses when it closes the file by hand (C1)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from retrysafe.stores.sqlite import SQLiteStore

COME_AND_GO = """
import sqlite3, sys
database = sqlite3.connect(sys.argv[1])
database.execute("SELECT count(*) FROM retrysafe_checkpoint").fetchone()
database.close()
"""


def test_a_second_store_in_a_process_does_not_give_the_first_ones_locks_away(tmp_path: Path) -> None:
    """C1: without them the next process to leave takes itself for the last, and deletes the log that is still written.

    POSIX drops every lock of a process on a file as soon as it closes any descriptor of it.
    """
    path = tmp_path / "store.db"
    first, second = SQLiteStore(path), SQLiteStore(path)
    try:
        first.open()
        second.open()
        log = Path(f"{path}-wal").stat().st_ino
        subprocess.run([sys.executable, "-c", COME_AND_GO, str(path)], check=True, timeout=60)
        assert Path(f"{path}-wal").stat().st_ino == log
    finally:
        first.close()
        second.close()


def test_a_new_file_is_its_owners_alone(tmp_path: Path) -> None:
    """K8: it holds secrets, and what clients sent and got."""
    store = SQLiteStore(tmp_path / "store.db")
    store.open()
    modes = {file.name: oct(file.stat().st_mode & 0o777) for file in tmp_path.iterdir()}
    store.close()
    assert set(modes.values()) == {"0o600"}
