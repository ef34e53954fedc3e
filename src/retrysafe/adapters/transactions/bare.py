"""Programs of ours on whatever the application has in hand: a binding's transaction, or a connection of a driver."""

from __future__ import annotations

from importlib import import_module
from typing import Any, TypeVar, cast

from retrysafe.runtime.transactions import AsyncTransaction, Transaction
from retrysafe.stores.program import Factory

T = TypeVar("T")

Place = Any
"""A transaction of a binding; or a connection (SQLAlchemy: also a session) of sqlite3, psycopg, asyncpg, PyMySQL,
asyncmy, SQLAlchemy or Django, with a transaction open that the caller commits."""

_DRIVERS = frozenset({"asyncmy", "asyncpg", "django", "psycopg", "pymysql", "sqlalchemy", "sqlite3"})


def run_on(place: Place, program: Factory[T]) -> T:
    """Run a program in the transaction that ``place`` has open.

    Raises:
        TypeError: it is nothing of the kind, or for event loops.
    """
    if _is_binding(place):
        return cast(Transaction, place).run(program)
    runs = getattr(_driver(place), "run_on", None)
    if runs is None:
        raise TypeError(
            f"{type(place).__name__} is for event loops: await the function's twin, whose name begins with a"
        )
    reply: T = runs(place, program)
    return reply


async def arun_on(place: Place, program: Factory[T]) -> T:
    """Run a program in the transaction that ``place`` has open, without blocking the loop.

    Raises:
        TypeError: it is nothing of the kind, or for threads.
    """
    if _is_binding(place):
        return await cast(AsyncTransaction, place).run(program)
    runs = getattr(_driver(place), "arun_on", None)
    if runs is None:
        raise TypeError(f"{type(place).__name__} is for threads: call the function without an a before its name")
    reply: T = await runs(place, program)
    return reply


def dialect_of(place: Place) -> str:
    """Name the SQL of the database: ``sqlite``, ``postgresql`` or ``mysql``.

    Raises:
        TypeError: it is nothing of the kind.
    """
    connection = place.handle if _is_binding(place) else place
    name: str = _driver(connection).dialect_of(connection)
    return name


def _is_binding(place: Place) -> bool:
    return type(place).__module__.startswith("retrysafe.")


def _driver(place: Place) -> Any:  # noqa: ANN401 - a module
    """Return the module for a driver's connection; the driver is there, because the connection is."""
    for kind in type(place).__mro__:
        driver = kind.__module__.partition(".")[0]
        if driver in _DRIVERS:
            return import_module(f"retrysafe.adapters.transactions.{driver}")
    raise TypeError(f"{type(place).__name__} is no transaction, and no connection of {', '.join(sorted(_DRIVERS))}")
