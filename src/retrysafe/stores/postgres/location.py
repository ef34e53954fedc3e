"""The URL of a PostgreSQL store."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from retrysafe.errors import ConfigurationError
from retrysafe.stores.postgres.driver import PostgresStore
from retrysafe.stores.urls import parse_options, read_flag, read_seconds


def from_url(url: str) -> PostgresStore:
    """Make a store from ``postgresql://user@host/database``.

    Options of ours: ``pool=8``, ``timeout=10s``, ``migrate=true|false``, ``pgbouncer=true|false``,
    ``driver=asyncpg|psycopg``; see
    :class:`~retrysafe.stores.postgres.PostgresStore`. Others, such as ``sslmode``, are libpq's.

    Raises:
        ConfigurationError: an option is wrong, or the URL is none; every problem is listed.
    """
    place, mark, query = url.partition("?")
    pairs = query.split("&")
    # Taken apart as text, so that what is libpq's stays as it was written.
    ours = "&".join(pair for pair in pairs if pair.partition("=")[0] in _READERS)
    theirs = "&".join(pair for pair in pairs if pair.partition("=")[0] not in _READERS)
    options, problems = parse_options(ours, _READERS)
    if problems:
        raise ConfigurationError(problems)
    return PostgresStore(f"{place}{mark}{theirs}".rstrip("?"), **options)


def _read_number(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise ValueError("write a whole number from 1")
    return int(text)


def _read_timeout(text: str) -> timedelta:
    seconds = read_seconds(text)
    if seconds <= 0:
        raise ValueError("write a time that is not over at once, such as 10s")
    return timedelta(seconds=seconds)


def _read_driver(text: str) -> str:
    if text not in {"asyncpg", "psycopg"}:
        raise ValueError("write asyncpg or psycopg")
    return text


_READERS: dict[str, Callable[[str], Any]] = {
    "pool": _read_number,
    "timeout": _read_timeout,
    "migrate": read_flag,
    "pgbouncer": read_flag,
    "driver": _read_driver,
}
