"""The store's schema: numbered files of SQL, applied under a lock of the server, each statement safe to repeat.

Neither server can take a change of a table back with its transaction. So a step that was interrupted is run again from
its beginning, and is noted as applied at its end.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Generator, Iterator
from contextlib import contextmanager

from retrysafe.errors import ConfigurationError, SchemaMismatch, StoreUnavailable
from retrysafe.stores.base import Meta
from retrysafe.stores.mysql.connect import Settings, is_mariadb
from retrysafe.stores.mysql.dialect import statements
from retrysafe.stores.mysql.failures import DRIVER_ERRORS, translated
from retrysafe.stores.mysql.sessions import Session
from retrysafe.stores.program import Program, Statement
from retrysafe.stores.sql.migrations import Migration, lacking, migrations_of

_BOOKKEEPING = """\
CREATE TABLE IF NOT EXISTS retrysafe_migration (
    number INTEGER PRIMARY KEY,
    name VARCHAR(200) CHARACTER SET ascii NOT NULL,
    digest CHAR(64) CHARACTER SET ascii NOT NULL
) ENGINE = InnoDB"""
_IS_THERE = (
    "SELECT 1 FROM information_schema.tables WHERE table_schema = database() AND table_name = 'retrysafe_migration'"
)
# Locks are the whole server's, and their names short.
_LOCK_NAME = "concat('retrysafe migrate ', md5(database()))"
_OLDEST_MARIADB, _OLDEST_MYSQL = (10, 6), (8, 0)
_VERSION = re.compile(r"(\d+)\.(\d+)")
# MariaDB says so first, for replicas of old.
_MARIADB_PREFIX = "5.5.5-"
_MOST_PATIENCE_SECONDS = 3600


def migrations() -> tuple[Migration, ...]:
    """Return every migration this code knows, in order."""
    return migrations_of("retrysafe.stores.mysql")


def migrations_sql() -> str:
    """Return everything ``migrate`` would run on an empty database, for people who apply schemas by hand."""
    # The clients' own word, because some statements have statements inside.
    parts = ["DELIMITER //", f"{_BOOKKEEPING} //"]
    for step in migrations():
        parts += [f"-- {step.name}", *(f"{text} //" for text in _parts(step)), f"{step.note} //"]
    return "\n\n".join([*parts, "DELIMITER ;"]) + "\n"


def pending(settings: Settings) -> tuple[Migration, ...]:
    """Tell which migrations a database lacks.

    Raises:
        SchemaMismatch: the schema is newer than this code.
        ConfigurationError: a migration was changed after it had been applied, or the server is too old.
        StoreUnavailable: the database cannot be reached.
    """
    with _connected(settings) as session:
        return _lacking(session)


def migrate(settings: Settings) -> tuple[Migration, ...]:
    """Bring a database's schema up to this code's, and return what was applied; several processes may do so at once.

    Raises:
        SchemaMismatch: the schema is newer than this code.
        ConfigurationError: a migration was changed after it had been applied, or the server is too old.
        StoreUnavailable: the database cannot be reached or written.
    """
    with _connected(settings) as session:
        return apply(session)


def prepare(session: Session, *, may_migrate: bool) -> None:
    """Make sure that the schema is this code's and that the meta row is there (K4).

    Raises:
        SchemaMismatch: the schema is newer, or older and may not be migrated here.
        ConfigurationError: a migration was changed after it had been applied, or the server is too old.
        Exception: the database cannot be read or written.
    """
    missing = _lacking(session)
    if missing:
        if not may_migrate:
            raise SchemaMismatch(found=missing[0].number - 1, needed=migrations()[-1].number)
        apply(session)
    if not session.execute(Statement("SELECT 1 FROM retrysafe_meta")).rows:
        # Compare-and-set: whoever comes second keeps what the first made.
        secret = (secrets.token_bytes(32), secrets.token_bytes(32))
        session.execute(Statement(statements()["make_meta"], secret))


def apply(session: Session) -> tuple[Migration, ...]:
    """Apply what the database lacks, while nobody else does.

    Raises:
        StoreUnavailable: another process has been at it for an hour.
    """
    with session.patient(_MOST_PATIENCE_SECONDS):
        taken = session.execute(Statement(f"SELECT GET_LOCK({_LOCK_NAME}, {_MOST_PATIENCE_SECONDS})")).rows
        if taken[0][0] != 1:
            raise StoreUnavailable("another process has been changing the store's tables for too long")
        try:
            missing = _lacking(session)
            if missing:
                session.say(_BOOKKEEPING)
            for step in missing:
                for text in _parts(step):
                    session.say(text)
                session.say(step.note)
        finally:
            session.execute(Statement(f"SELECT RELEASE_LOCK({_LOCK_NAME})"))
    return missing


def meta() -> Program[Meta]:
    """Read what the store keeps for ever (K4)."""
    answer = yield Statement(statements()["meta"])
    [(pepper, secret, version)] = answer.rows
    return Meta(pepper, secret, version)


def _parts(step: Migration) -> Iterator[str]:
    """Split a step into statements, which end with a semicolon and an empty line."""
    for text in step.text.strip().split(";\n\n"):
        yield text.removesuffix(";") if "END IF" not in text else f"{text.removesuffix(';')};"


@contextmanager
def _connected(settings: Settings) -> Generator[Session]:
    try:
        session = Session(settings)
        try:
            yield session
        finally:
            session.finish()
    except DRIVER_ERRORS as error:
        raise translated(error) from error


def _lacking(session: Session) -> tuple[Migration, ...]:
    _check_server(session.version)
    if not session.execute(Statement(_IS_THERE)).rows:
        return migrations()
    found = session.execute(Statement("SELECT number, digest FROM retrysafe_migration")).rows
    return lacking(migrations(), {row[0]: row[1] for row in found})


def _check_server(version: str) -> None:
    met = _VERSION.match(version.removeprefix(_MARIADB_PREFIX))
    if met is None:
        return
    major, minor = int(met[1]), int(met[2])
    name, oldest = ("MariaDB", _OLDEST_MARIADB) if is_mariadb(version) else ("MySQL", _OLDEST_MYSQL)
    if (major, minor) < oldest:
        needed = ".".join(map(str, oldest))
        raise ConfigurationError([f"this server is {name} {major}.{minor}: retrysafe needs {needed} or later"])
