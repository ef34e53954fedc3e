"""SQLite's errors in the words of the store's contract."""

from __future__ import annotations

import sqlite3

from retrysafe.errors import StoreCorrupt, StoreError, StoreUnavailable

_TRANSIENT = frozenset(
    {
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_INTERRUPT,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_PROTOCOL,
        sqlite3.SQLITE_SCHEMA,
        sqlite3.SQLITE_AUTH,
    }
)
_DAMAGED = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_FORMAT})
_HARMLESS = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_FULL})
_PRIMARY_CODE = 0xFF


def _code(error: sqlite3.Error) -> int | None:
    """Return the primary result code; the driver's own errors, such as a parameter of a wrong type, have none."""
    code: int | None = getattr(error, "sqlite_errorcode", None)
    return None if code is None else code & _PRIMARY_CODE


def translated(error: sqlite3.Error, path: str) -> StoreError:
    """Say what an error of SQLite means for whoever asked.

    Args:
        error: what SQLite raised.
        path: the file, for the message.

    Returns:
        ``StoreUnavailable`` when it may pass: locked, full, read-only, missing, or a failing disk; ``StoreCorrupt``
        when the file is damaged or is no database; a plain ``StoreError`` for a defect of ours.
    """
    message = f"{path}: {error}"
    code = _code(error)
    if code in _TRANSIENT:
        return StoreUnavailable(message)
    if code in _DAMAGED:
        return StoreCorrupt(message)
    if "no such table" in message:
        # Somebody replaced the file or dropped the tables; the next connection looks at the schema again.
        return StoreUnavailable(message)
    return StoreError(message)


def spares_connection(error: BaseException) -> bool:
    """Tell whether the connection is as good as before, so that it need not be opened anew."""
    return not isinstance(error, sqlite3.Error) or _code(error) in _HARMLESS
