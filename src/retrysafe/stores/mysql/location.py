"""The URL of a MySQL or MariaDB store."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import unquote, urlsplit

from retrysafe.errors import ConfigurationError
from retrysafe.stores.mysql.connect import TLS, Settings
from retrysafe.stores.mysql.driver import MySQLStore
from retrysafe.stores.urls import parse_options, read_flag, read_seconds

_WRITE = "write mysql://user:password@host:3306/database, or mysql://user@/database?socket=/run/mysqld/mysqld.sock"


def from_url(url: str) -> MySQLStore:
    """Make a store from ``mysql://user:password@host:3306/database`` or ``mariadb://...``, which mean the same.

    Options: ``pool=8``, ``timeout=10s``, ``migrate=true|false``, ``socket=/path``, ``tls=off|required|verify``,
    ``tls_ca``, ``tls_cert``, ``tls_key``; see :class:`~retrysafe.stores.mysql.connect.Settings`. Characters of names
    and passwords that have a meaning in URLs are written as ``%40`` and the like.

    Raises:
        ConfigurationError: an option is wrong, or the URL is none; every problem is listed.
    """
    return MySQLStore(settings_of(url))


def settings_of(url: str) -> Settings:
    """Read a URL; see :func:`from_url`.

    Raises:
        ConfigurationError: an option is wrong, or the URL is none; every problem is listed, and no password.
    """
    place, _, query = url.partition("?")
    options, problems = parse_options(query, _READERS)
    found: dict[str, Any] = {}
    try:
        parts = urlsplit(place)
        found = {
            "host": parts.hostname or "localhost",
            "port": parts.port or 3306,
            "account": unquote(parts.username) if parts.username else None,
            "password": unquote(parts.password or ""),
            "database": unquote(parts.path.removeprefix("/")),
        }
    except ValueError:
        # Not its message, which may repeat a password.
        problems.append(f"the address is none: {_WRITE}")
    else:
        if not found["database"] or "/" in found["database"] or "#" in place:
            problems.append(f"the database is missing: {_WRITE}")
    if options.get("tls_key") and not options.get("tls_cert"):
        problems.append("option 'tls_key' needs the certificate that it belongs to: add tls_cert")
    if options.get("tls", TLS.OFF) is TLS.OFF and any(option.startswith("tls_") for option in options):
        problems.append("the options of certificates do nothing while tls is off: add tls=verify")
    if options.get("socket") and options.get("tls", TLS.OFF) is not TLS.OFF:
        problems.append("a socket of this host is not encrypted: leave tls away")
    if problems:
        raise ConfigurationError(problems)
    if "timeout" in options:
        options["timeout_seconds"] = options.pop("timeout")
    settings = Settings(**found, **options)
    try:
        settings.context()
    except OSError as error:
        raise ConfigurationError([f"a certificate of the store can't be read: {error}"]) from error
    return settings


def _read_number(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise ValueError("write a whole number from 1")
    return int(text)


def _read_timeout(text: str) -> float:
    seconds = read_seconds(text)
    if seconds <= 0:
        raise ValueError("write a time that is not over at once, such as 10s")
    return seconds


def _read_path(text: str) -> str:
    if not text.startswith("/"):
        raise ValueError("write a path from the root, such as /run/mysqld/mysqld.sock")
    return text


def _read_tls(text: str) -> TLS:
    try:
        return TLS(text)
    except ValueError:
        raise ValueError("write off, required or verify") from None


_READERS: dict[str, Callable[[str], Any]] = {
    "pool": _read_number,
    "timeout": _read_timeout,
    "migrate": read_flag,
    "socket": _read_path,
    "tls": _read_tls,
    "tls_ca": _read_path,
    "tls_cert": _read_path,
    "tls_key": _read_path,
}
