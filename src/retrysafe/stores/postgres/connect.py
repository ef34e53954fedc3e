"""How a PostgreSQL server is reached, and psycopg's connections to it, which give up when it does not answer."""

from __future__ import annotations

import select
from collections.abc import Generator
from dataclasses import dataclass, field
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
# What our own connections are told once. Every statement of ours finds its rows by an index; with the statistics of a
# table that was empty a moment ago the planner would rather read all of it, and keep that plan. A statement outside of
# a transaction does not wait long for a row that a transaction has locked: its batch would wait with it.
_PLANNED = {
    "enable_seqscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "plan_cache_mode": "force_generic_plan",
    "jit": "off",
}
_LONGEST_LOCK_MILLISECONDS = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How the server is reached.

    Attributes:
        conninfo: URL or key-value string, as libpq takes it.
        pool: most connections for threads, and for each event loop.
        timeout_seconds: after so long the server ends a statement, and a transaction that does nothing.
        pgbouncer: whether connections go through a pooler, which keeps nothing from one transaction to the next.
        migrate: whether this process may create and change tables.
        driver: ``asyncpg`` or ``psycopg``, for event loops; None is the first that is there and can do it.
    """

    conninfo: str = field(repr=False)
    pool: int = 8
    timeout_seconds: float = 10.0
    pgbouncer: bool = False
    migrate: bool = True
    driver: str | None = None

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
            told = " ".join(f"-c {name}={value}" for name, value in (self._limits | self._outside).items())
            ours["options"] = f"{told} {said.get('options') or libpq_default('options')}".rstrip()
        return ours

    def begin(self, *, reads: bool, patient: bool = True) -> str:
        """Return the statements that begin a transaction, in one message.

        A pooler refuses settings at the start of a connection, so there they are told each time.

        Args:
            reads: whether it only reads, all of it as of one moment.
            patient: whether it waits for a row that another has locked for as long as a statement may take.
        """
        # Said with each, at no cost, because a database or a role may have another default.
        how = "REPEATABLE READ READ ONLY" if reads else "READ COMMITTED"
        told: dict[str, str] = {"lock_timeout": "0" if patient else self._longest_lock}
        if self.pgbouncer:
            told |= self._limits | _PLANNED
        settings = "".join(f"; SET LOCAL {name} = {value}" for name, value in told.items())
        return f"BEGIN ISOLATION LEVEL {how}{settings}"

    @property
    def prepare_threshold(self) -> int | None:
        """After how many uses the driver prepares a statement."""
        return None if self.pgbouncer else _PREPARE_THRESHOLD

    @property
    def patience_seconds(self) -> float:
        """How long we wait for an answer to one statement."""
        return self.timeout_seconds + _GRACE_SECONDS

    @property
    def _limits(self) -> dict[str, str]:
        names = ("statement_timeout", "idle_in_transaction_session_timeout")
        return dict.fromkeys(names, str(self._milliseconds))

    @property
    def _outside(self) -> dict[str, str]:
        """What holds outside of transactions."""
        isolation = {"default_transaction_isolation": "read\\ committed"}
        return _PLANNED | isolation | {"lock_timeout": self._longest_lock}

    @property
    def _longest_lock(self) -> str:
        return str(min(_LONGEST_LOCK_MILLISECONDS, max(1, self._milliseconds // 2)))

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
    """Connect in this thread; transactions are begun and ended by statements.

    Raises:
        psycopg.OperationalError: the server is not there, or refuses us.
        ConfigurationError: nobody can tell where it should be.
    """
    connection = Connection.connect(
        **settings.parameters(), prepare_threshold=settings.prepare_threshold, autocommit=True
    )
    connection.patience_seconds = settings.patience_seconds
    return connection


async def aconnect(settings: Settings) -> AsyncConnection:
    """Connect without blocking the loop; see :func:`connect`."""
    connection = await AsyncConnection.connect(
        **settings.parameters(), prepare_threshold=settings.prepare_threshold, autocommit=True
    )
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


def libpq_default(keyword: str) -> str:
    """Return what libpq would use by itself, such as from its environment variables."""
    for option in pq.Conninfo.get_defaults():
        if option.keyword == keyword.encode() and option.val is not None:
            return option.val.decode()
    return ""
