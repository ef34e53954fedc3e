"""The store's schema in PostgreSQL: numbered files of SQL, applied under an advisory lock, all or nothing.

A migration has two phases, so that an application need not stop for it: ``pre`` only adds, and is all that new code
needs; once no process of the old code is left, ``post`` takes away what is not used any more, and notes the migration
as done. Between them old code may even start: it does not see that there is a new schema.
"""

from __future__ import annotations

import secrets
from collections.abc import Generator
from contextlib import contextmanager
from math import inf
from typing import Literal

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
);
-- What has had its first phase; old code does not know this table.
CREATE TABLE IF NOT EXISTS retrysafe_expansion (
    number INTEGER PRIMARY KEY
)"""
_ARE_THERE = (
    "SELECT tablename FROM pg_catalog.pg_tables "
    "WHERE tablename = ANY (%s) AND schemaname = ANY (current_schemas(false))"
)
_EXPANDED = "INSERT INTO retrysafe_expansion VALUES (%s)"
# Any number will do, so long as it is always the same: who migrates holds it.
_LOCK = 7_268_473_001
_OLDEST_SERVER = 140_000

Phase = Literal["pre", "post"]


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


def migrate(settings: Settings, phase: Phase | None = None) -> tuple[Migration, ...]:
    """Bring a database's schema up to this code's, and return what was applied; several processes may do so at once.

    Args:
        settings: how the server is reached.
        phase: ``pre`` while processes of the old code run, ``post`` when there are none; None is both, one after the
            other.

    Raises:
        SchemaMismatch: the schema is newer than this code.
        ConfigurationError: a migration was changed after it had been applied, or the server is older than 14.
        StoreUnavailable: the database cannot be reached or written.
    """
    with _connected(settings) as connection:
        return apply(connection, phase)


def prepare(connection: Connection, *, may_migrate: bool) -> None:
    """Make sure that the schema is this code's and that the meta row is there (K4).

    Raises:
        SchemaMismatch: the schema is newer, or older and may not be migrated here.
        ConfigurationError: a migration was changed after it had been applied, or the server is older than 14.
        psycopg.Error: the database cannot be read or written.
    """
    missing = _unexpanded(connection)
    if missing:
        if not may_migrate:
            raise SchemaMismatch(found=missing[0].number - 1, needed=migrations()[-1].number)
        # Processes of the code before may still be there, unless there was none.
        apply(connection, None if len(missing) == len(migrations()) else "pre")
    if connection.execute("SELECT FROM retrysafe_meta").fetchone() is None:
        # Compare-and-set: whoever comes second keeps what the first made.
        made = statements()["make_meta"].replace("?", "%s")
        connection.execute(made.encode(), (secrets.token_bytes(32), secrets.token_bytes(32)))


def apply(connection: Connection, phase: Phase | None = None) -> tuple[Migration, ...]:
    """Apply what the database lacks, in the connection's transaction."""
    connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
    missing, unexpanded = _lacking(connection), _unexpanded(connection)
    if not missing:
        return missing
    # A large table takes its time, and so does the answer.
    patience_seconds, connection.patience_seconds = connection.patience_seconds, inf
    connection.execute("SET LOCAL statement_timeout = 0")
    connection.execute(_BOOKKEEPING.encode())
    for step in unexpanded:
        connection.execute(step.pre.encode())
        connection.execute(_EXPANDED, (step.number,))
    if phase != "pre":
        for step in missing:
            connection.execute(step.post.encode())
            connection.execute(step.note.encode())
    connection.patience_seconds = patience_seconds
    return unexpanded if phase == "pre" else missing


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
    if "retrysafe_migration" not in _tables(connection):
        return migrations()
    return lacking(migrations(), dict(connection.execute("SELECT number, digest FROM retrysafe_migration").fetchall()))


def _unexpanded(connection: Connection) -> tuple[Migration, ...]:
    """Tell which migrations have not even had their first phase."""
    missing = _lacking(connection)
    if not missing or "retrysafe_expansion" not in _tables(connection):
        return missing
    expanded = {number for (number,) in connection.execute("SELECT number FROM retrysafe_expansion")}
    return tuple(step for step in missing if step.number not in expanded)


def _tables(connection: Connection) -> set[str]:
    """Tell which tables of our bookkeeping are there.

    Asked of a table: `to_regclass` may answer from what it knew before the lock that we have waited for.
    """
    names = ["retrysafe_migration", "retrysafe_expansion"]
    return {name for (name,) in connection.execute(_ARE_THERE, (names,))}
