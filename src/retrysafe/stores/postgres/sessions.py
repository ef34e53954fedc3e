"""What a pool lends: a session of the server, whatever the driver, with statements answered in the store's words."""

from __future__ import annotations

import select
from functools import cache
from typing import Protocol

from retrysafe.stores.postgres.connect import AsyncConnection, Connection, Settings, aconnect, connect
from retrysafe.stores.program import Answer, Statement


class Ending(Protocol):
    """A session as a shelf sees it."""

    @property
    def closed(self) -> bool:
        """Tell whether it has certainly ended."""
        ...

    @property
    def socket(self) -> int:
        """Return the number of its socket."""
        ...

    def end(self) -> None:
        """Close it at once, without waiting for anybody."""
        ...


class LoopSession(Ending, Protocol):
    """A session for one event loop."""

    async def fetch(self, statement: Statement) -> Answer:
        """Run a statement; outside of a transaction it is durable when this returns."""
        ...

    async def command(self, text: str) -> None:
        """Run statements without parameters, in one message."""
        ...


class ThreadSession:
    """A session of psycopg, for threads.

    Attributes:
        connection: the driver's.
    """

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    @classmethod
    def connect(cls, settings: Settings) -> ThreadSession:
        """Connect in this thread."""
        return cls(connect(settings))

    @property
    def closed(self) -> bool:
        """Tell whether it has certainly ended."""
        return self.connection.closed

    @property
    def socket(self) -> int:
        """Return the number of its socket."""
        return self.connection.pgconn.socket

    def end(self) -> None:
        """Close it at once."""
        self.connection.pgconn.finish()

    def fetch(self, statement: Statement) -> Answer:
        """Run a statement; outside of a transaction it is durable when this returns."""
        cursor = self.connection.execute(
            worded(statement.text), statement.parameters, prepare=_prepare(statement, self.connection), binary=True
        )
        if cursor.description is None:
            return Answer(changed=cursor.rowcount)
        return Answer(rows=cursor.fetchall())

    def command(self, text: str) -> None:
        """Run statements without parameters, in one message."""
        self.connection.execute(text.encode(), prepare=False)


class PsycopgSession:
    """A session of psycopg, for one event loop."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    @classmethod
    async def connect(cls, settings: Settings) -> PsycopgSession:
        """Connect without blocking the loop."""
        return cls(await aconnect(settings))

    @property
    def closed(self) -> bool:
        """Tell whether it has certainly ended."""
        return self._connection.closed

    @property
    def socket(self) -> int:
        """Return the number of its socket."""
        return self._connection.pgconn.socket

    def end(self) -> None:
        """Close it at once."""
        self._connection.pgconn.finish()

    async def fetch(self, statement: Statement) -> Answer:
        """Run a statement; outside of a transaction it is durable when this returns."""
        cursor = await self._connection.execute(
            worded(statement.text), statement.parameters, prepare=_prepare(statement, self._connection), binary=True
        )
        if cursor.description is None:
            return Answer(changed=cursor.rowcount)
        return Answer(rows=await cursor.fetchall())

    async def command(self, text: str) -> None:
        """Run statements without parameters, in one message."""
        await self._connection.execute(text.encode(), prepare=False)


def is_quiet(session: Ending) -> bool:
    """Tell whether a resting session is still there: a server has nothing to say to it but that it has ended."""
    if session.closed:
        return False
    look = select.poll()
    look.register(session.socket, select.POLLIN)
    return not look.poll(0)


@cache
def worded(text: str) -> bytes:
    """Rewrite placeholders as psycopg has them."""
    return text.replace("?", "%s").encode()


def _prepare(statement: Statement, connection: Connection | AsyncConnection) -> bool | None:
    """Prepare at once what comes with every request, and the rest when it has come a few times."""
    return True if statement.batch is not None and connection.prepare_threshold is not None else None
