"""PostgreSQL's errors in the words of the store's contract."""

from __future__ import annotations

import psycopg
from psycopg import errors
from psycopg_pool import PoolClosed, PoolTimeout, TooManyRequests

from retrysafe.errors import StoreCorrupt, StoreError, StoreUnavailable

_PASSING = (
    psycopg.OperationalError,
    psycopg.InterfaceError,
    errors.ReadOnlySqlTransaction,
    errors.UndefinedTable,
    errors.InFailedSqlTransaction,
    PoolTimeout,
    PoolClosed,
    TooManyRequests,
)
_DAMAGED = (errors.DataCorrupted, errors.IndexCorrupted)
CONFLICTS = (errors.SerializationFailure, errors.DeadlockDetected)
"""What goes away when the same program is run again."""


def translated(error: Exception) -> StoreError:
    """Say what an error of the driver means for whoever asked; a plain ``StoreError`` is a defect of ours."""
    message = f"PostgreSQL: {type(error).__name__}: {str(error).strip()}"
    if isinstance(error, _DAMAGED):
        return StoreCorrupt(message)
    if isinstance(error, _PASSING):
        return StoreUnavailable(message)
    return StoreError(message)
