"""Which store a command means, and opening it without making or changing anything."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Generator
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from retrysafe.cli.complaints import Complaint, Misuse
from retrysafe.errors import ConfigurationError, RetrySafeError
from retrysafe.stores.urls import AnyStore, open_store

if TYPE_CHECKING:
    from retrysafe.stores.mysql import MySQLStore
    from retrysafe.stores.postgres import PostgresStore
    from retrysafe.stores.redis import RedisStore
    from retrysafe.stores.sqlite import SQLiteStore

STORE_URL = "RETRYSAFE_STORE_URL"
_PASSWORD = re.compile(r"(?<=://)([^/@:]*):[^/@]*@")
_PASSWORD_OPTION = re.compile(r"(?<=[?&])((?:ssl|sentinel_)?password)=[^&#]*")
_OURS = ("sqlite:", "postgresql:", "postgres:", "mysql:", "mariadb:")
_MIGRATE_OPTION = re.compile(r"(?<=[?&])migrate=[^&#]*&?")

F = TypeVar("F", bound=Callable[..., None])


def store_argument(command: F) -> F:
    """Give a command its ``STORE_URL``; :func:`given` reads the environment where it is left out."""
    return click.argument("store_url", required=False, metavar="[STORE_URL]")(command)


def given(store_url: str | None) -> str:
    """Return the URL that was given on the command line or in the environment, or say how to give one."""
    if url := store_url or os.environ.get(STORE_URL):
        return url
    near = get_close_matches(STORE_URL, [name for name in os.environ if name != STORE_URL], n=1, cutoff=0.85)
    raise Misuse(
        "which store?",
        facts=[f"{near[0]} is set: did you mean {STORE_URL}?"] if near else [],
        fixes=["give its URL, such as sqlite:///orders.db", f"set {STORE_URL}"],
    )


def shown(store_url: str) -> str:
    """Write a store's URL without its password."""
    return _PASSWORD_OPTION.sub(r"\1=***", _PASSWORD.sub(r"\1:***@", store_url))


def named(store_url: str) -> AnyStore:
    """Make the store that a URL names, forbidden to make a file or to change tables; nothing is connected yet.

    A store that lives in one process is refused: whatever another process opened by that name would be empty.
    """
    if store_url.lower().startswith("memory:"):
        raise Misuse(
            "a memory store lives inside the process that serves, and no other process can look into it",
            where=shown(store_url),
            fixes=["use sqlite:///orders.db in the service, then give that URL here"],
        )
    try:
        return open_store(_unmigrated(store_url))
    except ConfigurationError as error:
        raise Misuse.about(error, where=shown(store_url)) from error
    except ImportError as error:
        raise Misuse("a driver is missing", where=shown(store_url), facts=[str(error)]) from error


def sqlite_file(store: AnyStore) -> SQLiteStore | None:
    """Return the store if it is one of SQLite's files, whose schema and file this package knows how to look at."""
    if store.traits.name != "sqlite":
        return None
    from retrysafe.stores.sqlite import SQLiteStore  # noqa: PLC0415 - help must not load a driver

    return store if isinstance(store, SQLiteStore) else None


def postgres_database(store: AnyStore) -> PostgresStore | None:
    """Return the store if it is in a PostgreSQL database, whose schema this package knows how to look at."""
    if store.traits.name != "postgresql":
        return None
    from retrysafe.stores.postgres import PostgresStore  # noqa: PLC0415 - help must not load a driver

    return store if isinstance(store, PostgresStore) else None


def mysql_database(store: AnyStore) -> MySQLStore | None:
    """Return the store if it is in a database of MySQL or MariaDB, whose schema this package knows how to look at."""
    if store.traits.name != "mysql":
        return None
    from retrysafe.stores.mysql import MySQLStore  # noqa: PLC0415 - help must not load a driver

    return store if isinstance(store, MySQLStore) else None


def redis_server(store: AnyStore) -> RedisStore | None:
    """Return the store if it is in Redis, whose server this package knows how to look at."""
    if store.traits.name != "redis":
        return None
    from retrysafe.stores.redis import RedisStore  # noqa: PLC0415 - help must not load a driver

    return store if isinstance(store, RedisStore) else None


def missing_file(store_url: str, path: str) -> Complaint:
    """Say that a store has not been made yet, or is somewhere else."""
    folder = Path(path).parent
    near = (
        get_close_matches(Path(path).name, [entry.name for entry in folder.glob("*")], n=1) if folder.is_dir() else []
    )
    facts = [f"did you mean {folder / near[0]}?"] if near else []
    if not folder.is_dir():
        facts = [f"the folder {folder} does not exist"]
    elif not store_url.lower().startswith("sqlite:////"):
        facts.append(f"three slashes are relative to {Path.cwd()}; an absolute path has four")
    return Complaint(
        f"there is no file {path}",
        where=shown(store_url),
        facts=facts,
        fixes=["correct the path", f"retrysafe migrate {shown(store_url)}   (makes it)"],
    )


@contextmanager
def opened(store_url: str | None) -> Generator[AnyStore]:
    """Open a store to look into it, and close it afterwards."""
    url = given(store_url)
    store = named(url)
    sqlite = sqlite_file(store)
    if sqlite is not None and not Path(sqlite.path).exists():
        raise missing_file(url, sqlite.path)
    try:
        store.open()
        yield store
    except RetrySafeError as error:
        raise Complaint.about(error, where=shown(url)) from error
    finally:
        store.close()


def _unmigrated(store_url: str) -> str:
    """Return the URL of the same store, forbidden to make a file or to change tables: looking must not do that."""
    if not store_url.lower().startswith(_OURS):
        return store_url
    rest = _MIGRATE_OPTION.sub("", store_url).rstrip("?&")
    return f"{rest}{'&' if '?' in rest else '?'}migrate=false"
