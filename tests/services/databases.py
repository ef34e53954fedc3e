"""Empty databases in one PostgreSQL: making one costs fifty times what emptying one does, so they go round."""

from __future__ import annotations

from typing import Any, LiteralString

import psycopg
from psycopg import sql

Connection = psycopg.Connection[tuple[Any, ...]]


class Databases:
    """Gives each test databases of its own, in a server that others use at the same time."""

    def __init__(self, url: str) -> None:
        """Connect.

        Args:
            url: the server's, with its database "postgres".
        """
        self._server = url.removesuffix("/postgres")
        self._admin: Connection = psycopg.connect(url, autocommit=True)
        self._empty: list[str] = []
        self._count = 0

    def take(self) -> str:
        """Return the URL of an empty database that nobody else uses."""
        if self._empty:
            return self._url(self._empty.pop())
        self._count += 1
        name = f"tests_{self._admin.info.backend_pid}_{self._count}"
        self._run("CREATE DATABASE {}", name)
        return self._url(name)

    def give_back(self, url: str) -> None:
        """Take a database back, whoever is still connected to it."""
        name = url.rpartition("/")[2]
        # A session that ends rolls back: nobody writes any more once this has returned.
        self._admin.execute("SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE datname = %s", [name])
        try:
            self._run("ALTER DATABASE {} RESET ALL", name)
            with psycopg.connect(url, autocommit=True) as connection:
                _empty(connection)
        except psycopg.Error:
            # Held by a slot, say.
            self._run("DROP DATABASE IF EXISTS {} WITH (FORCE)", name)
        else:
            self._empty.append(name)

    def close(self) -> None:
        """Leave; the databases go with the server."""
        self._admin.close()

    def _run(self, statement: LiteralString, name: str) -> None:
        self._admin.execute(sql.SQL(statement).format(sql.Identifier(name)))

    def _url(self, name: str) -> str:
        return f"{self._server}/{name}"


def _empty(connection: Connection) -> None:
    for (prepared,) in connection.execute("SELECT gid FROM pg_prepared_xacts WHERE database = current_database()"):
        connection.execute(sql.SQL("ROLLBACK PREPARED {}").format(prepared))
    schemas = connection.execute(
        "SELECT nspname FROM pg_namespace WHERE nspname <> 'information_schema' AND NOT starts_with(nspname, 'pg_')"
    ).fetchall()
    with connection.transaction():
        for (schema,) in schemas:
            connection.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(sql.Identifier(schema)))
        connection.execute("CREATE SCHEMA public")
