"""The PostgreSQL store (14 or later): every verb one transaction, by the server's clock, over psycopg 3.

Read ``stores/sql`` for what it does and ``queries.sql`` for how.
"""

from __future__ import annotations

from importlib import import_module

try:
    # Looked for here, so that what is missing is named once.
    for needed in ("psycopg", "psycopg_pool"):
        import_module(needed)
except ImportError as missing:
    raise ImportError("the PostgreSQL store needs psycopg: pip install 'retrysafe[postgres]'") from missing

from retrysafe.stores.postgres.driver import PostgresStore
from retrysafe.stores.postgres.location import from_url
from retrysafe.stores.postgres.schema import migrate, migrations, migrations_sql, pending

__all__ = ["PostgresStore", "from_url", "migrate", "migrations", "migrations_sql", "pending"]
