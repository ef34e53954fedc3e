"""Connections of both drivers, with the few things that a store does with them."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from importlib import import_module
from typing import Any, Final, TypeVar

from retrysafe.errors import StoreError
from retrysafe.stores.mysql.connect import Settings, is_mariadb
from retrysafe.stores.mysql.failures import told_of_duplicate
from retrysafe.stores.program import Answer, Program, Statement, arun, run

T = TypeVar("T")

# Neither has types of its own that hold for every version.
pymysql: Any = import_module("pymysql")
asyncmy: Any = import_module("asyncmy")

# A fenced write is judged by the rows that it matched, whether or not it found them as it wanted them: a postponement
# that says the same again is made, and not refused.
_FLAGS: int = pymysql.constants.CLIENT.FOUND_ROWS

_SNAPSHOT = ("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ", "START TRANSACTION READ ONLY")
_BEGIN = ("START TRANSACTION",)
_PACKET = "SELECT @@max_allowed_packet"
# A little less than the whole packet: the command's own byte.
_HEADER = 1


_PLACEHOLDER = re.compile(r"\?(\d*)")


@cache
def worded(text: str) -> tuple[str, tuple[int, ...] | None]:
    """Rewrite placeholders as both drivers have them.

    Returns:
        The text, and, when its placeholders are numbered, which parameter stands at each.
    """
    numbers = _PLACEHOLDER.findall(text)
    numbered = tuple(int(number) - 1 for number in numbers if number)
    return _PLACEHOLDER.sub("%s", text), numbered or None


def placed(statement: Statement) -> tuple[str, tuple[Any, ...] | None]:
    """Return a statement as both drivers take it."""
    text, places = worded(statement.text)
    given = statement.parameters
    if places is not None:
        return text, tuple(given[place] for place in places)
    return text, tuple(given) or None


class StoreTooLarge(StoreError):
    """A statement is larger than the server takes."""


class Session:
    """A connection of PyMySQL.

    Attributes:
        is_open: whether a transaction is.
        version: what the server says of itself.
    """

    def __init__(self, settings: Settings) -> None:
        """Connect.

        Raises:
            pymysql.MySQLError: the server is not there, or refuses us.
            OSError: a certificate cannot be read.
        """
        context = settings.context()
        parameters = settings.parameters() | {
            "write_timeout": settings.patience_seconds,
            "client_flag": _FLAGS,
            # By itself it would encrypt where the server can, and send everything in the clear where it can't.
            **({"ssl_disabled": True} if context is None else {"ssl": context}),
        }
        self._connection: Final[Any] = pymysql.connect(**parameters)
        self.is_open = False
        try:
            self.version: Final[str] = self._connection.get_server_info()
            for text in settings.greeting(self.version):
                self.say(text)
            [(self._most_bytes,)] = self.execute(Statement(_PACKET)).rows
        except BaseException:
            self.finish()
            raise

    def fileno(self) -> int:
        """Return its socket's descriptor, -1 when it is closed."""
        found = self._connection._sock  # noqa: SLF001 - the driver has no public name for it
        return -1 if found is None else int(found.fileno())

    def finish(self) -> None:
        """Close it without waiting for the server."""
        self._connection._force_close()  # noqa: SLF001 - its close() says goodbye first, to whoever does not listen

    def begin(self, *, reads: bool) -> None:
        """Begin a transaction, which sees one moment if it only reads."""
        self.is_open = True
        for text in _SNAPSHOT if reads else _BEGIN:
            self.say(text)

    def commit(self) -> None:
        """Commit, if a transaction is open."""
        if self.is_open:
            self.say("COMMIT")
            self.is_open = False

    def rollback(self) -> None:
        """Roll back, if a transaction is open."""
        if self.is_open:
            self.say("ROLLBACK")
            self.is_open = False

    def execute(self, statement: Statement) -> Answer:
        """Run one statement; a key that is there already means that nothing was inserted."""
        with self._connection.cursor() as cursor:
            text = cursor.mogrify(*placed(statement))
            _check_size(text, getattr(self, "_most_bytes", None))
            try:
                cursor.execute(text)
            except pymysql.err.IntegrityError as error:
                if told_of_duplicate(error):
                    return Answer()
                raise
            if cursor.description is None:
                return Answer(changed=cursor.rowcount)
            return Answer(rows=cursor.fetchall())

    def say(self, text: str) -> None:
        """Run a statement that has no answer."""
        self._connection.query(text)

    def run(self, program: Program[T], first: Statement | None = None) -> T:
        """Run a program, from its first statement on, if somebody has asked it for that already."""
        return run(program, self.execute, first)

    @contextmanager
    def patient(self, seconds: int) -> Generator[None]:
        """Wait for an answer for as long as a change of a large table takes."""
        connection = self._connection
        patience_seconds = connection._read_timeout  # noqa: SLF001 - is set with a connection, and for all its life
        connection._read_timeout = seconds + patience_seconds  # noqa: SLF001
        limit = "max_statement_time" if is_mariadb(self.version) else "max_execution_time"
        before = self.execute(Statement(f"SELECT @@{limit}")).rows[0][0]
        self.say(f"SET SESSION {limit} = 0")
        try:
            yield
        finally:
            connection._read_timeout = patience_seconds  # noqa: SLF001
            self.say(f"SET SESSION {limit} = {before}")


class AsyncSession:
    """A connection of asyncmy, on the event loop on which it was made.

    Attributes:
        is_open: whether a transaction is.
        most_bytes: how long a statement may be; None until the server was asked.
    """

    def __init__(self, connection: Any) -> None:  # noqa: ANN401 - it has no types of its own
        """Take over a connection; see :func:`connect`."""
        self._connection: Final[Any] = connection
        self._transport: Final[Any] = connection._transport  # noqa: SLF001 - the driver has no public name for it
        self._loop: Final = asyncio.get_running_loop()
        self._descriptor: int = self._transport.get_extra_info("socket").fileno()
        self.is_open = False
        self.most_bytes: int | None = None

    def fileno(self) -> int:
        """Return its socket's descriptor, -1 when it is closed."""
        return -1 if self._transport.is_closing() else self._descriptor

    def finish(self) -> None:
        """Close it without waiting for the server, from whatever thread, and even when its loop is over."""
        if self._transport.is_closing():
            return
        try:
            here = asyncio.get_running_loop()
        except RuntimeError:
            here = None
        if here is self._loop:
            self._transport.abort()
            return
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._transport.abort)
            return
        # The loop is closed, and did not close it: at least the server hears of it.
        with suppress(OSError):
            self._transport.get_extra_info("socket").shutdown(socket.SHUT_RDWR)

    async def begin(self, *, reads: bool) -> None:
        """Begin a transaction; see :meth:`Session.begin`."""
        self.is_open = True
        for text in _SNAPSHOT if reads else _BEGIN:
            await self.say(text)

    async def commit(self) -> None:
        """Commit, if a transaction is open."""
        if self.is_open:
            await self.say("COMMIT")
            self.is_open = False

    async def rollback(self) -> None:
        """Roll back, if a transaction is open."""
        if self.is_open:
            await self.say("ROLLBACK")
            self.is_open = False

    async def execute(self, statement: Statement) -> Answer:
        """Run one statement; see :meth:`Session.execute`."""
        cursor = self._connection.cursor()
        text = cursor.mogrify(*placed(statement))
        _check_size(text, self.most_bytes)
        try:
            await cursor.execute(text)
        except asyncmy.errors.IntegrityError as error:
            if told_of_duplicate(error):
                return Answer()
            raise
        if cursor.description is None:
            return Answer(changed=cursor.rowcount)
        rows: Sequence[Any] = await cursor.fetchall()
        return Answer(rows=rows)

    async def say(self, text: str) -> None:
        """Run a statement that has no answer."""
        await self._connection.query(text)

    async def run(self, program: Program[T], first: Statement | None = None) -> T:
        """Run a program; see :meth:`Session.run`."""
        return await arun(program, self.execute, first)


async def aconnect(settings: Settings) -> AsyncSession:
    """Connect without blocking the loop.

    Raises:
        asyncmy.errors.MySQLError: the server is not there, or refuses us.
        OSError: a certificate cannot be read.
    """
    connection = await asyncmy.connect(**settings.parameters(), client_flag=_FLAGS, ssl=settings.context())
    session = AsyncSession(connection)
    try:
        for text in settings.greeting(connection.get_server_info()):
            await session.say(text)
        [(session.most_bytes,)] = (await session.execute(Statement(_PACKET))).rows
    except BaseException:
        session.finish()
        raise
    return session


def _check_size(text: str, most_bytes: int | None) -> None:
    """Refuse what the server would cut the connection for.

    Raises:
        StoreTooLarge: it is more than the server takes.
    """
    # A character is at most four bytes.
    if most_bytes is not None and len(text) * 4 >= most_bytes:
        size = len(text.encode("utf-8", "surrogateescape")) + _HEADER
        if size > most_bytes:
            raise StoreTooLarge(
                f"a statement of {size} bytes is more than the server's max_allowed_packet of {most_bytes} takes: "
                "raise that, or let operations keep less of their requests and responses"
            )
