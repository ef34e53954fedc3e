"""What all bindings say to a database: statements as its driver has them, and limits that it keeps by itself (R11)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import cache
from typing import Any, TypeVar

from retrysafe.errors import ConfigurationError
from retrysafe.runtime.sqlstates import lacks_table
from retrysafe.stores.program import Answer, Factory, Program, Statement

T = TypeVar("T")

_MOST_MILLISECONDS = 2**31 - 1
_ENDS_WHAT_IS_FROZEN = ("idle_in_transaction_session_timeout", "statement_timeout")
_ENDS_WHAT_IS_LONG = "transaction_timeout"

ENDED = (
    "the operation's code ended the transaction that its outcome belongs to, so that a crash could keep one without "
    "the other: leave commit and rollback to retrysafe, and raise NoEffect to have everything rolled back"
)


@cache
def worded(text: str, style: str) -> str:
    """Write the placeholders of a statement of ours as a driver has them.

    Args:
        text: with ``?`` for each parameter, and nowhere else.
        style: ``qmark``, ``format``, ``pyformat`` or ``numeric_dollar``, as drivers call theirs.
    """
    match style:
        case "qmark":
            return text
        case "numeric_dollar":
            parts = text.split("?")
            return parts[0] + "".join(f"${number}{part}" for number, part in enumerate(parts[1:], 1))
        case "format" | "pyformat":
            return text.replace("%", "%%").replace("?", "%s")
        case _:
            raise NotImplementedError(f"statements are not written for drivers with placeholders of style {style!r}")


def limit_postgres(version: int, limit_seconds: float) -> Program[None]:
    """Have PostgreSQL itself end this transaction, so that a frozen process cannot keep rows from its successor (R11).

    Args:
        version: the server's major version; from 17 on it also ends a transaction that is only long.
        limit_seconds: how long it may be idle, run one statement, or, from 17 on, be open.
    """
    milliseconds = str(min(max(1, int(limit_seconds * 1000)), _MOST_MILLISECONDS))
    names = (*_ENDS_WHAT_IS_FROZEN, _ENDS_WHAT_IS_LONG) if version >= 17 else _ENDS_WHAT_IS_FROZEN
    settings = ", ".join(f"set_config('{name}', ?, true)" for name in names)
    yield Statement(f"SELECT {settings}", (milliseconds,) * len(names))


def limit_mysql(version: str, limit_seconds: float) -> Program[Callable[[], Program[None]]]:
    """Have MySQL or MariaDB itself end what is frozen, for as long as a transaction is open (R11).

    Their limits are a session's, and not a transaction's.

    Args:
        version: what the server says of itself.
        limit_seconds: how long a transaction may be idle, or run one statement. MySQL ends a session that is idle, and
            of statements only those that read.

    Returns:
        The program that sets the limits back to what they were.
    """
    seconds = max(1, int(limit_seconds))
    limits: Mapping[str, float] = (
        {"idle_transaction_timeout": seconds, "max_statement_time": limit_seconds}
        if "mariadb" in version.lower()
        else {"wait_timeout": seconds, "max_execution_time": max(1, int(limit_seconds * 1000))}
    )
    answer = yield Statement(f"SELECT {', '.join(f'@@SESSION.{name}' for name in limits)}")
    before = dict(zip(limits, answer.rows[0], strict=True))
    yield _set_session(limits)

    def set_back() -> Program[None]:
        yield _set_session(before)

    return set_back


def _set_session(values: Mapping[str, Any]) -> Statement:
    return Statement(f"SET {', '.join(f'SESSION {name} = {value}' for name, value in values.items())}")


def hold_sqlite(run: Callable[[Factory[None]], object]) -> None:
    """Take SQLite's one write lock now, while nothing was read: a reader that wants to write later is refused at once.

    Args:
        run: runs a program in the transaction.
    """
    try:
        run(_write_nothing)
    except Exception as error:
        # A database that is no store; that is said better by who asks for its pepper.
        if not lacks_table(error):
            raise


def _write_nothing() -> Program[None]:
    # Inside whatever transaction a driver or an application has begun, where BEGIN IMMEDIATE comes too late.
    yield Statement("UPDATE retrysafe_meta SET only = only WHERE FALSE")


def plain(row: Iterable[Any]) -> tuple[Any, ...]:
    """Return a row with bytes as bytes; some drivers give views of memory."""
    return tuple(value.tobytes() if hasattr(value, "tobytes") else value for value in row)


async def arun(program: Program[T], fetch: Callable[[Statement], Awaitable[Answer]]) -> T:
    """Run a program to its end with a ``fetch`` that is awaited."""
    try:
        statement = next(program)
        while True:
            statement = program.send(await fetch(statement))
    except StopIteration as end:
        reply: T = end.value
        return reply


_NO_BACKSLASH_ESCAPES = 512


def refuse_unsafe_escapes(connection: Any) -> None:  # noqa: ANN401 - asyncmy has no types of its own
    """Refuse a connection of asyncmy on which bytes would leave their quotes: it escapes them with backslashes anyway.

    Raises:
        ConfigurationError: the session's ``sql_mode`` has ``NO_BACKSLASH_ESCAPES``.
    """
    if connection.server_status & _NO_BACKSLASH_ESCAPES:
        problem = "asyncmy escapes bytes by backslashes, which are plain characters in this session: "
        raise ConfigurationError([problem + "take NO_BACKSLASH_ESCAPES out of its sql_mode"])
