"""How much a store takes: on disk for tables, in the server's memory for Redis."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import psycopg

from bench.stores import Kind, connect_mariadb

_TABLES = "SELECT sum(pg_total_relation_size(oid)) FROM pg_class WHERE relkind = 'r' AND relname LIKE 'retrysafe%'"

_MARIADB_TABLES = (
    "SELECT sum(data_length + index_length) FROM information_schema.tables WHERE table_schema = database()"
)


class Sizes(NamedTuple):
    """How one kind of store is asked.

    Attributes:
        of: takes its URL and returns bytes, indexes included.
        rewrite: has the database write its tables anew, without what was freed; None where that means nothing.
    """

    of: Callable[[str], int]
    rewrite: Callable[[str], None] | None = None


def sizes_of(kind: Kind) -> Sizes | None:
    """Return how this kind is asked; None where nobody has said it."""
    return _KNOWN.get(kind.server)


def sqlite_path(url: str) -> Path:
    """Return the file that a URL names."""
    return Path(url.removeprefix("sqlite:///").partition("?")[0])


def connect_postgres(url: str) -> psycopg.Connection[Any]:
    """Connect to the database that a store's URL names; each statement is a transaction of its own."""
    return psycopg.connect(url.partition("?")[0], autocommit=True)


def _postgres(url: str) -> int:
    with connect_postgres(url) as connection:
        connection.execute("VACUUM")
        [(size,)] = connection.execute(_TABLES)
    return int(size)


def _postgres_rewrite(url: str) -> None:
    with connect_postgres(url) as connection:
        connection.execute("VACUUM FULL")


def _sqlite(url: str) -> int:
    """Return the size of the file, into which the log is folded first."""
    connection = sqlite3.connect(sqlite_path(url), isolation_level=None)
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    return sqlite_path(url).stat().st_size


def _sqlite_rewrite(url: str) -> None:
    connection = sqlite3.connect(sqlite_path(url), isolation_level=None)
    connection.execute("VACUUM")
    connection.close()


def _redis(url: str) -> int:
    redis: Any = import_module("redis")
    with redis.Redis.from_url(url.partition("?")[0]) as client:
        return sum(client.memory_usage(key, samples=0) for key in client.scan_iter(count=1000))


def _mariadb(url: str) -> int:
    with connect_mariadb(url) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT table_name FROM information_schema.tables WHERE table_schema = database()")
        cursor.execute(f"ANALYZE TABLE {', '.join(name for (name,) in cursor.fetchall())}")
        cursor.execute(_MARIADB_TABLES)
        [(size,)] = cursor.fetchall()
    return int(size)


def _mariadb_rewrite(url: str) -> None:
    with connect_mariadb(url) as connection, connection.cursor() as cursor:
        cursor.execute("OPTIMIZE TABLE retrysafe_checkpoint")


def _nats(url: str) -> int:
    return asyncio.run(_nats_streams(url))


async def _nats_streams(url: str) -> int:
    """Return what JetStream says that the bucket's streams take."""
    server, _, bucket = url.partition("?")[0].rpartition("/")
    connection = await import_module("nats").connect(server)
    try:
        streams = await connection.jetstream().streams_info()
        return sum(each.state.bytes for each in streams if each.config.name.split("_")[1] == bucket)
    finally:
        await connection.close()


_KNOWN = {
    "": Sizes(_sqlite, _sqlite_rewrite),
    "postgres": Sizes(_postgres, _postgres_rewrite),
    "redis": Sizes(_redis),
    "nats": Sizes(_nats),
    "mariadb": Sizes(_mariadb, _mariadb_rewrite),
}
