"""The SQLite store: one file, one writer thread per process, one commit for whatever is queued.

Read ``dialect.py`` for what it does, ``queries.sql`` for how, ``writer.py`` for when.
"""

from __future__ import annotations

from retrysafe.stores.sql.migrations import Migration
from retrysafe.stores.sqlite.driver import SQLiteStore
from retrysafe.stores.sqlite.location import from_url
from retrysafe.stores.sqlite.schema import migrate, migrations, migrations_sql, pending

__all__ = ["Migration", "SQLiteStore", "from_url", "migrate", "migrations", "migrations_sql", "pending"]
