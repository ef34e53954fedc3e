"""The URL of a NATS store."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from retrysafe.errors import ConfigurationError
from retrysafe.stores.nats.driver import NatsStore
from retrysafe.stores.urls import parse_options, read_flag, read_seconds


def from_url(url: str) -> NatsStore:
    """Make a store from ``nats://user:password@host:4222,host:4223/bucket``, or ``tls://`` in place of ``nats://``.

    Options: ``replicas=3``, ``synced=true|false``, ``timeout=5s``, ``creds=/path/of/user.creds``,
    ``nkey=/path/of/seed``, ``tls_ca=/path/of/ca.pem``; a token stands where a user would. See
    :class:`~retrysafe.stores.nats.NatsStore`.

    Raises:
        ConfigurationError: an option is wrong, or the URL names no server; every problem is listed.
    """
    place, _, query = url.partition("?")
    scheme, _, rest = place.partition("://")
    hosts, _, bucket = rest.partition("/")
    values, problems = parse_options(query, _READERS)
    servers = _servers(scheme.lower(), hosts)
    if not servers:
        problems.append("a NATS store needs a server: write nats://127.0.0.1:4222")
    if problems:
        raise ConfigurationError(problems)
    options = {ours: values.pop(theirs) for theirs, ours in _OPTIONS.items() if theirs in values}
    return NatsStore(servers, bucket=bucket or "retrysafe", options=options, **values)


def _servers(scheme: str, hosts: str) -> list[str]:
    """Give each host of a list the credentials that stand in front of the first."""
    credentials, at, names = hosts.rpartition("@")
    return [f"{scheme}://{credentials}{at}{name}" for name in names.split(",") if name]


def _read_number(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise ValueError("write a whole number from 1")
    return int(text)


def _read_timeout(text: str) -> timedelta:
    seconds = read_seconds(text)
    if seconds <= 0:
        raise ValueError("write a time that is not over at once, such as 5s")
    return timedelta(seconds=seconds)


def _read_path(text: str) -> str:
    if not text:
        raise ValueError("write the path of a file")
    return text


def _read_authority(text: str) -> object:
    import ssl  # noqa: PLC0415 - only where it is asked for

    try:
        return ssl.create_default_context(cafile=_read_path(text))
    except (OSError, ssl.SSLError) as error:
        raise ValueError(f"no certificates can be read there: {error}") from None


_READERS: dict[str, Callable[[str], Any]] = {
    "replicas": _read_number,
    "synced": read_flag,
    "timeout": _read_timeout,
    "creds": _read_path,
    "nkey": _read_path,
    "tls_ca": _read_authority,
}
# What nats.connect calls them.
_OPTIONS = {"creds": "user_credentials", "nkey": "nkeys_seed", "tls_ca": "tls"}
