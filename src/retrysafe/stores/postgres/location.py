"""The URL of a PostgreSQL store."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from retrysafe.errors import ConfigurationError
from retrysafe.stores.postgres.driver import PostgresStore
from retrysafe.stores.urls import parse_options, read_flag, read_seconds

_READERS: dict[str, Callable[[str], Any]] = {
    "pool": int,
    "migrate": read_flag,
    "pgbouncer": read_flag,
    "timeout": lambda text: timedelta(seconds=read_seconds(text)),
}


def from_url(url: str) -> PostgresStore:
    """Make a store from ``postgresql://user@host/database``.

    Options of ours: ``pool=8``, ``migrate=true|false``, ``pgbouncer=true|false``, ``timeout=10s``; see
    :class:`~retrysafe.stores.postgres.PostgresStore`. Others, such as ``sslmode``, are PostgreSQL's.

    Raises:
        ConfigurationError: an option of ours is wrong; every problem is listed.
    """
    parts = urlsplit(url)
    pairs = parse_qsl(parts.query, keep_blank_values=True)
    ours = urlencode([pair for pair in pairs if pair[0] in _READERS])
    theirs = urlencode([pair for pair in pairs if pair[0] not in _READERS])
    options, problems = parse_options(ours, _READERS)
    if problems:
        raise ConfigurationError(problems)
    conninfo = urlunsplit(("postgresql", parts.netloc, parts.path, theirs, ""))
    return PostgresStore(conninfo, **options)
