"""Connections to a PostgreSQL server that give up when it does not answer."""

from __future__ import annotations

import select
from collections.abc import Generator
from dataclasses import dataclass
from math import inf
from select import POLLIN, POLLOUT
from time import monotonic
from typing import Any, TypeVar

import psycopg
from psycopg import pq
from psycopg.abc import PQGen
from psycopg.conninfo import conninfo_to_dict
from psycopg.waiting import Ready, Wait

from retrysafe.errors import ConfigurationError

RV = TypeVar("RV")

# The server itself ends a statement first, and says why; only one that is frozen, or cut off, says nothing.
_GRACE_SECONDS = 2.0
_PREPARE_THRESHOLD = 5
_LIMITS = (
    "SELECT set_config('statement_timeout', %s, true), set_config('idle_in_transaction_session_timeout', %s, true)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How the server is reached.

    Attributes:
        conninfo: URL or key-value string, as libpq takes it.
        pool: most connections for threads, and for each event loop.
        timeout_seconds: after so long the server ends a statement, and a transaction that does nothing.
        pgbouncer: whether connections go through a pooler, which keeps nothing from one transaction to the next.
        migrate: whether this process may create and change tables.
    """

    conninfo: str
    pool: int = 8
    timeout_seconds: float = 10.0
    pgbouncer: bool = False
    migrate: bool = True

    def parameters(self) -> dict[str, Any]:
        """Return what libpq connects with; what the URL says wins over what we would like.

        Raises:
            ConfigurationError: it is no such URL or string.
        """
        try:
            said = conninfo_to_dict(self.conninfo)
        except psycopg.ProgrammingError:
            # Not its message, which may repeat a password.
            problem = "libpq does not understand where to connect to: write postgresql://user@host:5432/database"
            raise ConfigurationError([problem]) from None
        ours: dict[str, Any] = {
            "application_name": "retrysafe",
            "connect_timeout": max(2, int(self.timeout_seconds)),
            **said,
            "client_encoding": "UTF8",
        }
        if not self.pgbouncer:
            milliseconds = self._milliseconds
            ours["options"] = (
                f"-c statement_timeout={milliseconds} -c idle_in_transaction_session_timeout={milliseconds} "
                f"{said.get('options') or _default('options')}"
            ).rstrip()
        return ours

    @property
    def prepare_threshold(self) -> int | None:
        """After how many uses the driver prepares a statement."""
        return None if self.pgbouncer else _PREPARE_THRESHOLD

    @property
    def limits(self) -> tuple[bytes, tuple[str, ...]] | None:
        """The statement that sets the limits of one transaction; None where they are set with the connection.

        A pooler refuses settings at the start of a connection.
        """
        return (_LIMITS.encode(), (str(self._milliseconds),) * 2) if self.pgbouncer else None

    @property
    def patience_seconds(self) -> float:
        """How long we wait for an answer to one statement."""
        return self.timeout_seconds + _GRACE_SECONDS

    @property
    def _milliseconds(self) -> int:
        return max(1, int(self.timeout_seconds * 1000))


class Connection(psycopg.Connection[Any]):
    """A connection that waits for an answer for ``patience_seconds``, and no longer."""

    patience_seconds: float = inf

    def wait(self, gen: PQGen[RV], *_: Any, **__: Any) -> RV:  # noqa: ANN401 - each version's own
        """Wait for the server.

        Raises:
            psycopg.OperationalError: it does not answer.
        """
        return _wait(gen, self.pgconn.socket, self.patience_seconds)


class AsyncConnection(psycopg.AsyncConnection[Any]):
    """The same for event loops."""

    patience_seconds: float = inf

    async def wait(self, gen: PQGen[RV], *args: Any, **options: Any) -> RV:  # noqa: ANN401 - as above
        """Wait for the server like :meth:`Connection.wait`."""
        return await super().wait(_patiently(gen, self.patience_seconds), *args, **options)


def connect(settings: Settings) -> Connection:
    """Connect in this thread.

    Raises:
        psycopg.OperationalError: the server is not there, or refuses us.
        ConfigurationError: nobody can tell where it should be.
    """
    connection = Connection.connect(**settings.parameters(), prepare_threshold=settings.prepare_threshold)
    connection.patience_seconds = settings.patience_seconds
    return connection


async def aconnect(settings: Settings) -> AsyncConnection:
    """Connect without blocking the loop; see :func:`connect`."""
    connection = await AsyncConnection.connect(**settings.parameters(), prepare_threshold=settings.prepare_threshold)
    connection.patience_seconds = settings.patience_seconds
    return connection


def _wait(gen: PQGen[RV], socket: int, seconds: float) -> RV:
    """Drive a generator of the driver's; older versions' own way to do so knows no end."""
    look = select.poll()
    give_up_at = monotonic() + seconds
    try:
        wanted = next(gen)
        while True:
            look.register(socket, (POLLIN if wanted & Wait.R else 0) | (POLLOUT if wanted & Wait.W else 0))
            found = look.poll(None if seconds == inf else max(0.0, give_up_at - monotonic()) * 1000)
            if not found:
                raise _silent(seconds)
            # An error can be read, too.
            [(_, events)] = found
            wanted = gen.send((Ready.R if events & ~POLLOUT else 0) | (Ready.W if events & POLLOUT else 0))
    except StopIteration as end:
        value: RV = end.value
        return value


def _patiently(gen: PQGen[RV], seconds: float) -> Generator[Any, Any, RV]:
    """Wrap a generator for the driver's loop, which looks in ten times a second when nothing comes."""
    give_up_at = monotonic() + seconds
    try:
        wanted = next(gen)
        while True:
            ready = yield wanted
            if not ready and monotonic() > give_up_at:
                raise _silent(seconds)
            wanted = gen.send(ready)
    except StopIteration as end:
        value: RV = end.value
        return value


def _silent(seconds: float) -> psycopg.OperationalError:
    return psycopg.OperationalError(f"the server has not answered for {seconds:.0f} s")


def _default(keyword: str) -> str:
    """Return what libpq would use by itself, such as from its environment variables."""
    for option in pq.Conninfo.get_defaults():
        if option.keyword == keyword.encode() and option.val is not None:
            return option.val.decode()
    return ""
