"""The store's schema: numbered files of SQL, each applied once, in one transaction, and never changed afterwards."""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from importlib.resources import files
from pathlib import Path

from retrysafe.errors import ConfigurationError, SchemaMismatch
from retrysafe.stores.base import Meta
from retrysafe.stores.program import Program, Statement
from retrysafe.stores.sqlite.connect import Settings, connect_reader, connect_writer
from retrysafe.stores.sqlite.failures import translated

_BOOKKEEPING = """\
CREATE TABLE IF NOT EXISTS retrysafe_migration (
    number INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    digest TEXT NOT NULL
);
"""


@dataclass(frozen=True, slots=True)
class Migration:
    """One step of the schema.

    Attributes:
        number: counted from 1.
        name: its file's name without ``.sql``.
        text: its statements.
        digest: SHA-256 of the text, in hexadecimal; recorded when it is applied.
    """

    number: int
    name: str
    text: str
    digest: str


@cache
def migrations() -> tuple[Migration, ...]:
    """Return every migration this code knows, in order."""
    folder = files("retrysafe.stores.sqlite").joinpath("migrations")
    found = sorted((entry for entry in folder.iterdir() if entry.name.endswith(".sql")), key=lambda entry: entry.name)
    texts = [(entry.name.removesuffix(".sql"), entry.read_text("utf-8")) for entry in found]
    return tuple(
        Migration(int(name.partition("_")[0]), name, text, sha256(text.encode()).hexdigest()) for name, text in texts
    )


def migrations_sql() -> str:
    """Return everything ``migrate`` would run on an empty file, for people who apply schemas by hand."""
    parts = ["BEGIN IMMEDIATE;", _BOOKKEEPING.rstrip()]
    for step in migrations():
        parts += [f"-- {step.name}", step.text.rstrip(), f"{_note(step)};"]
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
    lacking = _lacking(connection)
    if lacking:
        if not may_migrate:
            raise SchemaMismatch(found=lacking[0].number - 1, needed=migrations()[-1].number)
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
        lacking = _lacking(connection)
        for step in lacking:
            for statement in _statements(_BOOKKEEPING + step.text + _note(step) + ";"):
                connection.execute(statement)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return lacking


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
    found, needed = max(applied, default=0), known[-1].number
    if found > needed:
        raise SchemaMismatch(found, needed)
    changed = [step.name for step in known if applied.get(step.number, step.digest) != step.digest]
    if changed:
        raise ConfigurationError(
            [
                f"migration {name} is not the one that was applied to this store: "
                "install the release that made the store, or restore its file"
                for name in changed
            ]
        )
    return tuple(step for step in known if step.number not in applied)


def _note(step: Migration) -> str:
    """Write the statement that notes a migration as applied; its texts are ours and hold no quotes."""
    return f"INSERT INTO retrysafe_migration VALUES ({step.number}, '{step.name}', '{step.digest}')"  # noqa: S608


def _statements(text: str) -> Iterator[str]:
    """Split SQL into statements; ``executescript`` would commit first."""
    statement = ""
    for line in text.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
