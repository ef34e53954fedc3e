"""PostgreSQL's errors in the words of the store's contract."""

from __future__ import annotations

import psycopg

from retrysafe.errors import StoreCorrupt, StoreError, StoreUnavailable

_CONFLICTS = frozenset({"40001", "40P01"})
# A statement that was ended, a lock that did not come.
_HARMLESS = _CONFLICTS | {"57014", "55P03"}
# By class: connection, no such database, resources; and a session that was ended.
_OF_SERVER = ("08", "3D", "53", "57P")
_DAMAGED = frozenset({"XX001", "XX002"})
_OTHER_SCHEMA = frozenset({"3F000", "42P01", "42703", "42883"})
# By class: connection, transaction state, authorization, rollback, resources, not in its state, operator, system.
_PASSING_CLASSES = frozenset({"08", "25", "28", "40", "53", "55", "57", "58"})
# A database that is missing, a right that was taken away, a plan from before a migration.
_PASSING = frozenset({"3D000", "42501", "0A000"}) | _OTHER_SCHEMA


def is_of_driver(error: BaseException) -> bool:
    """Tell whether an error comes from a driver, or from the wire, and not from a program of ours."""
    if isinstance(error, psycopg.Error | OSError):
        return True
    # Known by its name, because it may not be installed.
    return any(kind.__module__.partition(".")[0] == "asyncpg" for kind in type(error).__mro__)


def conflicts(error: BaseException) -> bool:
    """Tell whether an error goes away when the same program is run again."""
    return _sqlstate(error) in _CONFLICTS


def tells_of_server(error: BaseException) -> bool:
    """Tell whether an error is the server's and not one statement's, so that other statements will meet it as well."""
    state = _sqlstate(error)
    if state is not None:
        return state.startswith(_OF_SERVER)
    # What a driver cannot even send is the fault of one row: psycopg's DataError, and asyncpg's, which is a ValueError.
    return _is_of_wire(error) and not isinstance(error, ValueError)


def translated(error: Exception) -> StoreError:
    """Say what an error of the driver means for whoever asked.

    Returns:
        ``StoreUnavailable`` when it may pass: the server is away, starting, full, read-only, in the way of itself, or
        its tables are missing; ``StoreCorrupt`` when data is damaged; a plain ``StoreError`` for a defect of ours.
    """
    silent = isinstance(error, TimeoutError) and not str(error)
    said = "the server has not answered in time" if silent else " ".join(str(error).split())
    message = f"PostgreSQL: {said or type(error).__name__}"
    state = _sqlstate(error)
    if state in _DAMAGED:
        return StoreCorrupt(message)
    if state in _PASSING or (state is not None and state[:2] in _PASSING_CLASSES):
        return StoreUnavailable(message)
    if state is None and _is_of_wire(error):
        return StoreUnavailable(message)
    return StoreError(message)


def tells_of_another_schema(error: BaseException) -> bool:
    """Tell whether tables are not what they were when the store was opened, so that it should look again."""
    return _sqlstate(error) in _OTHER_SCHEMA


def spares_session(error: BaseException) -> bool:
    """Tell whether the session is as good as before, once it has rolled back."""
    return isinstance(error, Exception) and (not is_of_driver(error) or _sqlstate(error) in _HARMLESS)


def _is_of_wire(error: BaseException) -> bool:
    if isinstance(error, psycopg.OperationalError | psycopg.InterfaceError | OSError):
        return True
    # Of asyncpg: a connection that has ended in the middle, or is used after its end.
    return any(kind.__name__ == "InterfaceError" for kind in type(error).__mro__)


def _sqlstate(error: BaseException) -> str | None:
    state = getattr(error, "sqlstate", None)
    return state if isinstance(state, str) else None
