"""PostgreSQL's errors in the words of the store's contract."""

from __future__ import annotations

import psycopg
from psycopg import errors

from retrysafe.errors import StoreCorrupt, StoreError, StoreUnavailable

CONFLICTS = (errors.SerializationFailure, errors.DeadlockDetected)
"""What goes away when the same program is run again."""

_HARMLESS = (*CONFLICTS, errors.QueryCanceled, errors.LockNotAvailable)

_DAMAGED = frozenset({"XX001", "XX002"})
_OTHER_SCHEMA = frozenset({"3F000", "42P01", "42703", "42883"})
# By class: connection, transaction state, authorization, rollback, resources, not in its state, operator, system.
_PASSING_CLASSES = frozenset({"08", "25", "28", "40", "53", "55", "57", "58"})
# A database that is missing, a right that was taken away, a plan from before a migration.
_PASSING = frozenset({"3D000", "42501", "0A000"}) | _OTHER_SCHEMA


def translated(error: Exception) -> StoreError:
    """Say what an error of the driver means for whoever asked.

    Returns:
        ``StoreUnavailable`` when it may pass: the server is away, starting, full, read-only, in the way of itself, or
        its tables are missing; ``StoreCorrupt`` when data is damaged; a plain ``StoreError`` for a defect of ours.
    """
    message = f"PostgreSQL: {' '.join(str(error).split()) or type(error).__name__}"
    state = getattr(error, "sqlstate", None)
    if state in _DAMAGED:
        return StoreCorrupt(message)
    if state in _PASSING or (state is not None and state[:2] in _PASSING_CLASSES):
        return StoreUnavailable(message)
    if state is None and isinstance(error, psycopg.OperationalError | psycopg.InterfaceError | OSError):
        return StoreUnavailable(message)
    return StoreError(message)


def tells_of_another_schema(error: Exception) -> bool:
    """Tell whether tables are not what they were when the store was opened, so that it should look again."""
    return getattr(error, "sqlstate", None) in _OTHER_SCHEMA


def spares_connection(error: BaseException) -> bool:
    """Tell whether the connection is as good as before, once it has rolled back."""
    return isinstance(error, _HARMLESS) or (isinstance(error, Exception) and not isinstance(error, psycopg.Error))
