"""``retrysafe migrate``: bring a store's schema up to this code's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from retrysafe.cli.complaints import Complaint, Misuse
from retrysafe.cli.opening import given, mysql_database, named, postgres_database, shown, sqlite_file, store_argument
from retrysafe.cli.terminal import say, say_json
from retrysafe.cli.words import counted
from retrysafe.errors import RetrySafeError

if TYPE_CHECKING:
    from retrysafe.stores.mysql import MySQLStore
    from retrysafe.stores.postgres import PostgresStore
    from retrysafe.stores.postgres.schema import Phase
    from retrysafe.stores.sql.migrations import Migration


@dataclass(frozen=True)
class _Schema:
    """A store's schema, as each database brings it.

    Attributes:
        kind: what the store is in: a file or a database.
        place: which one.
        known: every migration of this code.
        pending: tells what it lacks.
        migrate: applies that.
        sql: writes everything that would be run on an empty one.
    """

    kind: str
    place: str
    known: Sequence[Migration]
    pending: Callable[[], Sequence[Migration]]
    migrate: Callable[[], Sequence[Migration]]
    sql: Callable[[], str]

    @property
    def is_missing(self) -> bool:
        """Whether the file is still to be made; a database never is, by us."""
        return self.kind == "file" and not Path(self.place).exists()


@click.command()
@store_argument
@click.option(
    "--phase",
    type=click.Choice(["pre", "post"]),
    help="PostgreSQL: pre adds what new code needs while old code runs; post is for when none is left. Default: both.",
)
@click.option("--sql", "as_sql", is_flag=True, help="Print what would be run; change nothing.")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def migrate(*, store_url: str | None, phase: Phase | None, as_sql: bool, as_json: bool) -> None:
    """Bring a store's schema up to this code's.

    A file that is missing is made. Several processes may do so at once, and doing it again changes nothing.
    """
    url = given(store_url)
    schema = _schema(url, phase)
    try:
        lacking = schema.pending()
        if as_sql:
            _print_sql(lacking, schema.sql(), as_json=as_json)
            return
        is_new = schema.is_missing
        if is_new and not Path(schema.place).parent.is_dir():
            raise Complaint(
                f"the folder {Path(schema.place).parent} does not exist",
                where=shown(url),
                fixes=[f"mkdir -p {Path(schema.place).parent}", "correct the path"],
            )
        applied = schema.migrate()
    except RetrySafeError as error:
        raise Complaint.about(error, where=shown(url)) from error
    _report(schema, applied, is_new=is_new, as_json=as_json)


def _schema(url: str, phase: Phase | None) -> _Schema:
    store = named(url)
    file, database, mysql = sqlite_file(store), postgres_database(store), mysql_database(store)
    if database is not None:
        return _of_database(database, shown(url), phase)
    if store.traits.name == "redis":
        raise Misuse(
            "a store in Redis has no tables: what it needs is made at first use", where=shown(url), fixes=["go on"]
        )
    if phase is not None:
        raise Misuse(
            f"the store {store.traits.name} is migrated in one go",
            where=shown(url),
            fixes=["leave --phase out, and stop every process that uses the store before"],
        )
    if file is not None:
        return _of_file(file.path)
    if mysql is not None:
        return _of_mysql(mysql, shown(url))
    raise Misuse(
        f"this command knows no migrations of the store {store.traits.name}",
        where=shown(url),
        fixes=["read the documentation of the package that brings this store"],
    )


def _of_file(path: str) -> _Schema:
    from retrysafe.stores.sqlite import schema  # noqa: PLC0415 - help must not load a driver

    return _Schema(
        kind="file",
        place=path,
        known=schema.migrations(),
        pending=partial(schema.pending, path),
        migrate=partial(schema.migrate, path),
        sql=schema.migrations_sql,
    )


def _of_database(store: PostgresStore, place: str, phase: Phase | None) -> _Schema:
    from retrysafe.stores.postgres import schema  # noqa: PLC0415 - as above

    return _Schema(
        kind="database",
        place=place,
        known=schema.migrations(),
        pending=partial(schema.pending, store.settings),
        migrate=partial(schema.migrate, store.settings, phase),
        sql=schema.migrations_sql,
    )


def _of_mysql(store: MySQLStore, place: str) -> _Schema:
    from retrysafe.stores.mysql import schema  # noqa: PLC0415 - as above

    return _Schema(
        kind="database",
        place=place,
        known=schema.migrations(),
        pending=partial(schema.pending, store.settings),
        migrate=partial(schema.migrate, store.settings),
        sql=schema.migrations_sql,
    )


def _print_sql(lacking: Sequence[Migration], everything: str, *, as_json: bool) -> None:
    names = [step.name for step in lacking]
    if as_json:
        say_json({"pending": names, "sql": everything if names else ""})
    elif names:
        say(everything.rstrip("\n"))
    else:
        say("-- nothing to apply")


def _report(schema: _Schema, applied: Sequence[Migration], *, is_new: bool, as_json: bool) -> None:
    version = schema.known[-1].number
    if as_json:
        steps = [{"number": step.number, "name": step.name} for step in applied]
        say_json({schema.kind: schema.place, "made": is_new, "applied": steps, "schema_version": version})
        return
    if is_new:
        say(f"made {schema.place}")
    for step in applied:
        say(f"applied {step.name}")
    did = counted(len(applied), "migration") if applied else "nothing to apply"
    say(f"{did}: schema version {version}")
