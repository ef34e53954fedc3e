"""``retrysafe migrate``: bring a store's schema up to this code's."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from retrysafe.cli.complaints import Complaint, Misuse
from retrysafe.cli.opening import given, named, shown, sqlite_file, store_argument
from retrysafe.cli.terminal import say, say_json
from retrysafe.cli.words import counted
from retrysafe.errors import RetrySafeError

if TYPE_CHECKING:
    from retrysafe.stores.sqlite import Migration


@click.command()
@store_argument
@click.option("--sql", "as_sql", is_flag=True, help="Print what would be run; change nothing.")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def migrate(*, store_url: str | None, as_sql: bool, as_json: bool) -> None:
    """Bring a store's schema up to this code's.

    A store that is missing is made. Several processes may do so at once, and doing it again changes nothing.
    """
    from retrysafe.stores import sqlite  # noqa: PLC0415 - help must not load a driver

    url = given(store_url)
    path = _path(url)
    try:
        lacking = sqlite.pending(path)
        if as_sql:
            _print_sql(lacking, sqlite.migrations_sql(), as_json=as_json)
            return
        is_new = not Path(path).exists()
        if is_new and not Path(path).parent.is_dir():
            raise Complaint(
                f"the folder {Path(path).parent} does not exist",
                where=shown(url),
                fixes=[f"mkdir -p {Path(path).parent}", "correct the path"],
            )
        applied = sqlite.migrate(path)
    except RetrySafeError as error:
        raise Complaint.about(error, where=shown(url)) from error
    _report(path, applied, sqlite.migrations()[-1].number, is_new=is_new, as_json=as_json)


def _path(url: str) -> str:
    store = named(url)
    sqlite = sqlite_file(store)
    if sqlite is None:
        raise Misuse(
            f"this command knows no migrations of the store {store.traits.name}",
            where=shown(url),
            fixes=["read the documentation of the package that brings this store"],
        )
    return sqlite.path


def _print_sql(lacking: tuple[Migration, ...], everything: str, *, as_json: bool) -> None:
    names = [step.name for step in lacking]
    if as_json:
        say_json({"pending": names, "sql": everything if names else ""})
    elif names:
        say(everything.rstrip("\n"))
    else:
        say("-- nothing to apply")


def _report(path: str, applied: tuple[Migration, ...], version: int, *, is_new: bool, as_json: bool) -> None:
    if as_json:
        steps = [{"number": step.number, "name": step.name} for step in applied]
        say_json({"file": path, "made": is_new, "applied": steps, "schema_version": version})
        return
    if is_new:
        say(f"made {path}")
    for step in applied:
        say(f"applied {step.name}")
    did = counted(len(applied), "migration") if applied else "nothing to apply"
    say(f"{did}: schema version {version}")
