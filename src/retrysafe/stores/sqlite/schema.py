"""The store's schema: numbered files of SQL, each applied once, in one transaction, and never changed afterwards."""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from retrysafe.errors import SchemaMismatch
from retrysafe.stores.base import Meta
from retrysafe.stores.program import Program, Statement
from retrysafe.stores.sql.migrations import Migration, lacking, migrations_of
from retrysafe.stores.sqlite.connect import Settings, connect_reader, connect_writer
from retrysafe.stores.sqlite.failures import translated

_BOOKKEEPING = """\
CREATE TABLE IF NOT EXISTS retrysafe_migration (
    number INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    digest TEXT NOT NULL
);
"""


def migrations() -> tuple[Migration, ...]:
    """Return every migration this code knows, in order."""
    return migrations_of("retrysafe.stores.sqlite")


def migrations_sql() -> str:
    """Return everything ``migrate`` would run on an empty file, for people who apply schemas by hand."""
    parts = ["BEGIN IMMEDIATE;", _BOOKKEEPING.rstrip()]
    for step in migrations():
        parts += [f"-- {step.name}", step.text.rstrip(), f"{step.note};"]
    return "\n\n".join([*parts, "COMMIT;"]) + "\n"


def pending(path: str | Path) -> tuple[Migration, ...]:
    """Tell which migrations a file lacks; all of them when there is no such file.

    Raises:
        SchemaMismatch: the file's schema is newer than this code.
        ConfigurationError: a migration was changed after it had been applied.
        StoreUnavailable: the file can't be read.
        StoreCorrupt: the file is damaged or no database.
    """
    if not Path(path).exists():
        return migrations()
    try:
        connection = connect_reader(Settings(path=str(path)))
        try:
            return _lacking(connection)
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise translated(error, str(path)) from error


def migrate(path: str | Path) -> tuple[Migration, ...]:
    """Bring a file's schema up to this code's, and return what was applied; the file is made if it is missing.

    Several processes may do so at once.

    Raises:
        SchemaMismatch: the file's schema is newer than this code.
        ConfigurationError: a migration was changed after it had been applied.
        StoreUnavailable: the file can't be written.
        StoreCorrupt: the file is damaged or no database.
    """
    try:
        connection = connect_writer(Settings(path=str(path)))
        try:
            return apply(connection)
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise translated(error, str(path)) from error


def prepare(connection: sqlite3.Connection, *, may_migrate: bool) -> None:
    """Make sure that the schema is this code's and that the meta row is there (K4).

    Raises:
        SchemaMismatch: the schema is newer, or older and may not be migrated here.
        ConfigurationError: a migration was changed after it had been applied.
        sqlite3.Error: the file can't be read or written.
    """
    missing = _lacking(connection)
    if missing:
        if not may_migrate:
            raise SchemaMismatch(found=missing[0].number - 1, needed=migrations()[-1].number)
        apply(connection)
    if connection.execute("SELECT NOT EXISTS (SELECT 1 FROM retrysafe_meta)").fetchone()[0]:
        # Compare-and-set: whoever comes second keeps what the first made.
        connection.execute(
            "INSERT INTO retrysafe_meta VALUES (1, ?, ?, 0, 0) ON CONFLICT (only) DO NOTHING",
            (secrets.token_bytes(32), secrets.token_bytes(32)),
        )


def apply(connection: sqlite3.Connection) -> tuple[Migration, ...]:
    """Apply what the file lacks; nothing is applied when one step fails."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        missing = _lacking(connection)
        for step in missing:
            for statement in _statements(_BOOKKEEPING + step.text + step.note + ";"):
                connection.execute(statement)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return missing


def meta() -> Program[Meta]:
    """Read what the store keeps for ever (K4)."""
    answer = yield Statement(
        "SELECT pepper, fingerprint_secret, (SELECT max(number) FROM retrysafe_migration) FROM retrysafe_meta"
    )
    [(pepper, secret, version)] = answer.rows
    return Meta(pepper, secret, version)


def _lacking(connection: sqlite3.Connection) -> tuple[Migration, ...]:
    """Compare what was applied with what this code knows."""
    known = migrations()
    made = "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'retrysafe_migration'"
    if connection.execute(made).fetchone() is None:
        return known
    applied = dict(connection.execute("SELECT number, digest FROM retrysafe_migration").fetchall())
    return lacking(known, applied)


def _statements(text: str) -> Iterator[str]:
    """Split SQL into statements; ``executescript`` would commit first."""
    statement = ""
    for line in text.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
