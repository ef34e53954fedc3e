"""The store for MariaDB (10.6 or later) and MySQL 8: every verb one transaction, by the server's clock.

Read ``stores/sql`` for what it does and ``queries.sql`` for how. Threads use PyMySQL, event loops asyncmy.
"""

from __future__ import annotations

from importlib import import_module

try:
    # Looked for here, so that what is missing is named once.
    for needed in ("pymysql", "asyncmy"):
        import_module(needed)
except ImportError as missing:
    raise ImportError("the MySQL store needs PyMySQL and asyncmy: pip install 'retrysafe[mysql]'") from missing

from retrysafe.stores.mysql.driver import MySQLStore
from retrysafe.stores.mysql.location import from_url
from retrysafe.stores.mysql.schema import migrate, migrations, migrations_sql, pending

__all__ = ["MySQLStore", "from_url", "migrate", "migrations", "migrations_sql", "pending"]
