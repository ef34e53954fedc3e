"""Sessions of asyncpg: the same for half of psycopg's time, where it is installed and can do what the URL asks."""

from __future__ import annotations

import os
import re
import socket
from contextlib import suppress
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from psycopg.conninfo import conninfo_to_dict

from retrysafe.stores.postgres.connect import Settings, libpq_default
from retrysafe.stores.program import Answer, Statement

_CARRIED = frozenset(
    {
        "application_name",
        "client_encoding",
        "connect_timeout",
        "dbname",
        "host",
        "options",
        "passfile",
        "password",
        "port",
        "sslmode",
        "target_session_attrs",
        "user",
    }
)
_MOST_PREPARED = 100
_GIVES_ROWS = re.compile(r"\s*(SELECT|WITH|VALUES)\b|.*\bRETURNING\b", re.DOTALL | re.IGNORECASE)


def is_there() -> bool:
    """Tell whether asyncpg is installed."""
    return find_spec("asyncpg") is not None


def problems(settings: Settings) -> list[str]:
    """List what a URL asks that only libpq can do."""
    asked = set(conninfo_to_dict(settings.conninfo)) - _CARRIED
    if libpq_default("service"):
        asked.add("service")
    return [f"asyncpg cannot do what {name!r} asks: write driver=psycopg" for name in sorted(asked)]


class AsyncpgSession:
    """A session of asyncpg, for one event loop; a server that does not answer is given up.

    Args:
        connection: the driver's, which has no types.
        settings: how the server is reached.
    """

    def __init__(self, connection: Any, settings: Settings) -> None:  # noqa: ANN401 - asyncpg has no types of its own
        self._connection = connection
        self._patience_seconds = settings.patience_seconds
        # A pooler forgets what was prepared.
        self._prepared: dict[str, Any] | None = None if settings.pgbouncer else {}

    @classmethod
    async def connect(cls, settings: Settings) -> AsyncpgSession:
        """Connect without blocking the loop.

        Raises:
            ConnectionError: the server is not there.
            asyncpg.PostgresError: it refuses us.
        """
        said = settings.parameters()
        driver: Any = import_module("asyncpg")
        try:
            connection = await driver.connect(**_arguments(said), statement_cache_size=0)
        except TimeoutError:
            raise ConnectionError("connection timeout expired") from None
        except OSError as error:
            raise ConnectionError(f"could not connect: {error.strerror or error}: {_reason(error)}") from error
        return cls(connection, settings)

    @property
    def closed(self) -> bool:
        """Tell whether it has certainly ended."""
        return bool(self._connection.is_closed())

    @property
    def socket(self) -> int:
        """Return the number of its socket."""
        return int(self._connection._transport.get_extra_info("socket").fileno())  # noqa: SLF001 - it has no other door

    def end(self) -> None:
        """Close it at once, also when its loop is closed."""
        if not self.closed:
            # The transport itself closes only in a turn of its loop, which may never come.
            with suppress(OSError), socket.socket(fileno=os.dup(self.socket)) as own:
                own.shutdown(socket.SHUT_RDWR)
            with suppress(RuntimeError):
                self._connection.terminate()

    async def fetch(self, statement: Statement) -> Answer:
        """Run a statement; outside of a transaction it is durable when this returns."""
        text, patience = _worded(statement.text), self._patience_seconds
        if self._prepared is None:
            return await self._fetch_unprepared(text, statement)
        prepared = self._prepared.get(text)
        if prepared is None:
            if len(self._prepared) >= _MOST_PREPARED:
                self._prepared.clear()
            prepared = self._prepared[text] = await self._connection.prepare(text, timeout=patience)
        rows = await prepared.fetch(*statement.parameters, timeout=patience)
        return Answer(rows) if _gives_rows(text) else Answer(changed=_count(prepared.get_statusmsg()))

    async def _fetch_unprepared(self, text: str, statement: Statement) -> Answer:
        patience = self._patience_seconds
        if _gives_rows(text):
            return Answer(await self._connection.fetch(text, *statement.parameters, timeout=patience))
        return Answer(changed=_count(await self._connection.execute(text, *statement.parameters, timeout=patience)))

    async def command(self, text: str) -> None:
        """Run statements without parameters, in one message."""
        await self._connection.execute(text, timeout=self._patience_seconds)


def _arguments(said: dict[str, Any]) -> dict[str, Any]:
    """Translate what libpq connects with."""
    settings = {name: str(said[name]) for name in ("application_name", "options") if said.get(name)}
    hosts, ports = str(said.get("host") or ""), str(said.get("port") or "")
    given: dict[str, Any] = {
        "host": hosts.split(",") if hosts else None,
        "port": [int(port) for port in ports.split(",")] if ports else None,
        "user": said.get("user"),
        "password": said.get("password"),
        "passfile": said.get("passfile"),
        "database": said.get("dbname"),
        "ssl": said.get("sslmode"),
        "target_session_attrs": said.get("target_session_attrs"),
        "timeout": float(said["connect_timeout"]) or None,
    }
    return {name: value for name, value in given.items() if value is not None} | {"server_settings": settings}


def _reason(error: OSError) -> str:
    return os.strerror(error.errno) if error.errno else type(error).__name__


def _count(status: str) -> int:
    """Read how many rows were changed, from an answer such as "UPDATE 1" or "INSERT 0 1"."""
    last = status.rpartition(" ")[2]
    return int(last) if last.isdigit() else 0


@cache
def _worded(text: str) -> str:
    """Rewrite placeholders as asyncpg has them."""
    first, *rest = text.split("?")
    return first + "".join(f"${number}{part}" for number, part in enumerate(rest, 1))


@cache
def _gives_rows(text: str) -> bool:
    return _GIVES_ROWS.match(text) is not None
