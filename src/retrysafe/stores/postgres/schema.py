"""The store's schema in PostgreSQL: numbered files of SQL, applied under an advisory lock, all or nothing."""

from __future__ import annotations

import secrets
from collections.abc import Generator
from contextlib import contextmanager
from math import inf

import psycopg

from retrysafe.errors import ConfigurationError, SchemaMismatch
from retrysafe.stores.base import Meta
from retrysafe.stores.postgres.connect import Connection, Settings, connect
from retrysafe.stores.postgres.dialect import statements
from retrysafe.stores.postgres.failures import translated
from retrysafe.stores.program import Program, Statement
from retrysafe.stores.sql.migrations import Migration, lacking, migrations_of

_BOOKKEEPING = """\
CREATE TABLE IF NOT EXISTS retrysafe_migration (
    number INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    digest TEXT NOT NULL
)"""
_IS_THERE = (
    "SELECT EXISTS (SELECT FROM pg_catalog.pg_tables "
    "WHERE tablename = 'retrysafe_migration' AND schemaname = ANY (current_schemas(false)))"
)
# Any number will do, so long as it is always the same: who migrates holds it.
_LOCK = 7_268_473_001
_OLDEST_SERVER = 140_000


def migrations() -> tuple[Migration, ...]:
    """Return every migration this code knows, in order."""
    return migrations_of("retrysafe.stores.postgres")


def migrations_sql() -> str:
    """Return everything ``migrate`` would run on an empty database, for people who apply schemas by hand."""
    parts = ["BEGIN;", f"{_BOOKKEEPING};"]
    for step in migrations():
        parts += [f"-- {step.name}", step.text.rstrip(), f"{step.note};"]
    return "\n\n".join([*parts, "COMMIT;"]) + "\n"


def pending(settings: Settings) -> tuple[Migration, ...]:
    """Tell which migrations a database lacks.

    Raises:
        SchemaMismatch: the schema is newer than this code.
        ConfigurationError: a migration was changed after it had been applied, or the server is older than 14.
        StoreUnavailable: the database cannot be reached.
    """
    with _connected(settings) as connection:
        return _lacking(connection)


def migrate(settings: Settings) -> tuple[Migration, ...]:
    """Bring a database's schema up to this code's, and return what was applied; several processes may do so at once.

    Raises:
        SchemaMismatch: the schema is newer than this code.
        ConfigurationError: a migration was changed after it had been applied, or the server is older than 14.
        StoreUnavailable: the database cannot be reached or written.
    """
    with _connected(settings) as connection:
        return apply(connection)


def prepare(connection: Connection, *, may_migrate: bool) -> None:
    """Make sure that the schema is this code's and that the meta row is there (K4).

    Raises:
        SchemaMismatch: the schema is newer, or older and may not be migrated here.
        ConfigurationError: a migration was changed after it had been applied, or the server is older than 14.
        psycopg.Error: the database cannot be read or written.
    """
    missing = _lacking(connection)
    if missing:
        if not may_migrate:
            raise SchemaMismatch(found=missing[0].number - 1, needed=migrations()[-1].number)
        apply(connection)
    if connection.execute("SELECT FROM retrysafe_meta").fetchone() is None:
        # Compare-and-set: whoever comes second keeps what the first made.
        made = statements()["make_meta"].replace("?", "%s")
        connection.execute(made.encode(), (secrets.token_bytes(32), secrets.token_bytes(32)))


def apply(connection: Connection) -> tuple[Migration, ...]:
    """Apply what the database lacks, in the connection's transaction."""
    connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
    missing = _lacking(connection)
    if not missing:
        return missing
    # A large table takes its time, and so does the answer.
    patience_seconds, connection.patience_seconds = connection.patience_seconds, inf
    connection.execute("SET LOCAL statement_timeout = 0")
    connection.execute(_BOOKKEEPING)
    for step in missing:
        connection.execute(step.text.encode())
        connection.execute(step.note.encode())
    connection.patience_seconds = patience_seconds
    return missing


def meta() -> Program[Meta]:
    """Read what the store keeps for ever (K4)."""
    answer = yield Statement(statements()["meta"])
    [(pepper, secret, version)] = answer.rows
    return Meta(bytes(pepper), bytes(secret), version)


@contextmanager
def _connected(settings: Settings) -> Generator[Connection]:
    try:
        with connect(settings) as connection, connection.transaction():
            connection.execute("SET TRANSACTION ISOLATION LEVEL READ COMMITTED")
            connection.execute("SET LOCAL lock_timeout = 0")
            yield connection
    except (psycopg.Error, OSError) as error:
        raise translated(error) from error


def _lacking(connection: Connection) -> tuple[Migration, ...]:
    version = connection.info.server_version
    if version < _OLDEST_SERVER:
        problem = f"this server is PostgreSQL {version // 10_000}: retrysafe needs 14 or later"
        raise ConfigurationError([problem])
    # Asked of a table: `to_regclass` alone may answer from what it knew before the lock that we have waited for.
    made = connection.execute(_IS_THERE).fetchone()
    if made is None or not made[0]:
        return migrations()
    return lacking(migrations(), dict(connection.execute("SELECT number, digest FROM retrysafe_migration").fetchall()))
