"""Which stores are measured, and the servers behind them, started for the run on loopback and removed after it.

A store joins by a row. What this checkout has no store for, or this machine no server, is skipped with a line.
"""

from __future__ import annotations

import json
import socket
from collections import defaultdict
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from itertools import count
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

import pytest

from retrysafe.errors import RetrySafeError
from retrysafe.stores.urls import AnyStore, open_store
from tests.services import servers
from tests.services.service import Service


@dataclass(frozen=True, slots=True)
class Kind:
    """A store, over one driver.

    Attributes:
        name: in every table.
        server: which of ``SERVERS`` it needs; empty for none.
        options: what its URL has behind the question mark.
        on_web: whether whole servers are measured on it; else it is measured alone only.
    """

    name: str
    server: str = ""
    options: str = ""
    on_web: bool = True

    @property
    def base(self) -> str:
        """The store, whatever its driver and settings."""
        return self.name.partition(",")[0]


MEMORY = Kind("memory")
SQLITE = Kind("sqlite", options="synchronous=full")
KINDS = (
    MEMORY,
    SQLITE,
    Kind("redis", "redis", "persistence=everysec"),
    Kind("redis, synced always", "redis, synced always", "persistence=always", on_web=False),
    Kind("postgresql, asyncpg", "postgres", "driver=asyncpg"),
    Kind("postgresql, psycopg", "postgres", "driver=psycopg"),
    Kind("mariadb", "mariadb"),
    Kind("nats", "nats"),
    Kind("nats, synced always", "nats, synced always", "synced=true"),
)


def _postgres() -> Service:
    return servers.postgres(durable=True, shared_buffers="1GB")


def _later(name: str) -> Callable[[], Service]:
    """Return how the tests' harness starts a server that it may not know."""

    def start() -> Service:
        if not hasattr(servers, name):
            raise LookupError(f"the harness knows no server {name}")
        service: Service = getattr(servers, name)(durable=True)
        return service

    return start


SERVERS: dict[str, Callable[[], Service]] = {
    "redis": servers.redis,
    "redis, synced always": servers.redis,
    "postgres": _postgres,
    "mariadb": _later("mariadb"),
    "nats": partial(servers.nats, synced=False),
    "nats, synced always": servers.nats,
}


@dataclass(slots=True)
class Stores:
    """The stores of one run; starts their servers when it is entered.

    Attributes:
        directory: where SQLite's files lie; its file system's speed is part of what is measured.
        wanted: which kinds; those that are not to be had are taken out.
        skipped: a line for each of these.
    """

    directory: Path
    wanted: list[Kind]
    skipped: list[str] = field(default_factory=list)
    services: dict[str, Service] = field(default_factory=dict)
    _stack: ExitStack = field(default_factory=ExitStack)
    _places: dict[str, count[int]] = field(default_factory=lambda: defaultdict(count))

    def __enter__(self) -> Self:
        with self._stack:
            for name in dict.fromkeys(kind.server for kind in self.wanted if kind.server):
                self._start(name)
            self.wanted = [kind for kind in self.wanted if self._is_there(kind)]
            self._stack = self._stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def place(self, kind: Kind) -> str:
        """Return the URL of an empty store that nobody else uses."""
        number = next(self._places[kind.server])
        mark = f"?{kind.options}" if kind.options else ""
        match kind.server:
            case "":
                return "memory://" if kind is MEMORY else f"sqlite:///{self.directory}/place-{number}.db{mark}"
            case "postgres":
                return _new_postgres(self.services["postgres"].url, f"place_{number}") + mark
            case "redis" | "redis, synced always" as name:
                # It has 16 databases, and a run never uses as many at once.
                return _new_redis(self.services[name].url, number % 16, always=name != "redis") + mark
            case "mariadb":
                return _new_mariadb(self.services["mariadb"].url, f"place_{number}") + mark
            case name:
                return f"{self.services[name].url}/place-{number}{mark}"

    def one_of_each(self) -> list[Kind]:
        """Return the first kind of each store: drivers of one database write the same rows."""
        kinds: dict[str, Kind] = {}
        for kind in self.wanted:
            kinds.setdefault(kind.base, kind)
        return list(kinds.values())

    def versions(self) -> dict[str, str]:
        """Ask each server what it is."""
        return {name: _VERSIONS[name](service.url) for name, service in self.services.items() if name in _VERSIONS}

    def _start(self, name: str) -> None:
        try:
            self.services[name] = self._stack.enter_context(SERVERS[name]())
        except (LookupError, pytest.skip.Exception, pytest.fail.Exception) as error:
            self.skipped.append(f"{name}: {error}")

    def _is_there(self, kind: Kind) -> bool:
        if kind.server and kind.server not in self.services:
            return False
        try:
            store = open_store(self.place(kind))
            try:
                store.open()
            finally:
                store.close()
        except (RetrySafeError, ImportError) as error:
            self.skipped.append(f"{kind.name}: {' '.join(str(error).split())}")
            return False
        return True


def opened(url: str) -> AnyStore:
    """Open a store; whoever asks closes it."""
    store = open_store(url)
    store.open()
    return store


def _new_postgres(url: str, name: str) -> str:
    import psycopg  # noqa: PLC0415 - as the server needs it

    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return f"{url.rpartition('/')[0]}/{name}"


def _new_mariadb(url: str, name: str) -> str:
    with connect_mariadb(url) as connection, connection.cursor() as cursor:
        cursor.execute(f"CREATE DATABASE {name}")
    return f"{url.rpartition('/')[0]}/{name}"


def connect_mariadb(url: str) -> Any:
    """Connect to the database that a URL names, by the driver itself; each statement is a transaction of its own."""
    parts = urlsplit(url)
    return import_module("pymysql").connect(
        host=parts.hostname, port=parts.port, user=parts.username, database=parts.path[1:], autocommit=True
    )


def _new_redis(url: str, number: int, *, always: bool) -> str:
    """Empty one of the server's databases, and sync as people run it, once a second, unless it is to be always."""
    redis: Any = import_module("redis")
    url = f"{url.rpartition('/')[0]}/{number}"
    with redis.Redis.from_url(url) as client:
        client.config_set("appendfsync", "always" if always else "everysec")
        client.flushdb()
    return url


def _postgres_version(url: str) -> str:
    import psycopg  # noqa: PLC0415 - as the server needs it

    with psycopg.connect(url) as connection:
        [(said,)] = connection.execute("SHOW server_version")
    return f"PostgreSQL {said}"


def _redis_version(url: str) -> str:
    redis: Any = import_module("redis")
    with redis.Redis.from_url(url) as client:
        told = client.info("server")
    return f"Valkey {told['valkey_version']}" if "valkey_version" in told else f"Redis {told['redis_version']}"


def _nats_version(url: str) -> str:
    parts = urlsplit(url)
    with socket.create_connection((parts.hostname, parts.port)) as connection, connection.makefile("rb") as said:
        return f"NATS {json.loads(said.readline().removeprefix(b'INFO '))['version']}"


def _mariadb_version(url: str) -> str:
    with connect_mariadb(url) as connection:
        return f"MariaDB {connection.get_server_info().partition('-MariaDB')[0]}"


_VERSIONS: dict[str, Callable[[str], str]] = {
    "postgres": _postgres_version,
    "redis": _redis_version,
    "mariadb": _mariadb_version,
    "nats": _nats_version,
}
