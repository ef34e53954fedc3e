"""The URL of a SQLite store."""

from __future__ import annotations

from datetime import timedelta
from urllib.parse import unquote, urlsplit

from retrysafe.errors import ConfigurationError
from retrysafe.stores.sqlite.driver import SQLiteStore
from retrysafe.stores.urls import parse_options, read_flag, read_seconds

_SYNCHRONOUS = ("full", "normal")


def from_url(url: str) -> SQLiteStore:
    """Make a store from ``sqlite:///relative.db`` or ``sqlite:////absolute/path.db``.

    Options: ``synchronous=full|normal``, ``busy_timeout=5s``, ``migrate=true|false``; see
    :class:`~retrysafe.stores.sqlite.SQLiteStore`.

    Raises:
        ConfigurationError: the path or an option is wrong; every problem is listed.
    """
    parts = urlsplit(url)
    options, problems = parse_options(
        parts.query,
        {
            "synchronous": _read_synchronous,
            "busy_timeout": lambda text: timedelta(seconds=read_seconds(text)),
            "migrate": read_flag,
        },
    )
    path = unquote(parts.path).removeprefix("/")
    if parts.netloc or parts.fragment:
        problems.append(
            "a path follows three slashes, without a # in it: write sqlite:///orders.db, or sqlite:////srv/orders.db"
        )
    elif not path:
        problems.append("the path is missing: write sqlite:///orders.db, or sqlite:////srv/orders.db")
    elif path.startswith((":memory:", "file:")):
        problems.append(
            "SQLite's own memory and file: names are seen by one connection only, so threads and processes would not "
            "share checkpoints: write memory:// for a store in memory, or the path of a file"
        )
    if problems:
        raise ConfigurationError(problems)
    return SQLiteStore(path, **options)


def _read_synchronous(text: str) -> str:
    if text not in _SYNCHRONOUS:
        raise ValueError("write full or normal")
    return text
