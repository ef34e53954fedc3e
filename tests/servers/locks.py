"""Keeping everybody else from writing to a store."""

from __future__ import annotations

import sqlite3
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def locked(store: Path) -> Iterator[None]:
    """Hold the write lock of a store's file."""
    database = sqlite3.connect(store, isolation_level=None, timeout=10)
    try:
        database.execute("BEGIN IMMEDIATE")
        yield
        database.execute("ROLLBACK")
    finally:
        database.close()
