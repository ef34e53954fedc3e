"""Errors of MySQL and MariaDB in the words of the store's contract, whichever driver raised them."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from retrysafe.errors import StoreCorrupt, StoreError, StoreUnavailable

# Neither has types of its own that hold for every version.
_pymysql: Any = import_module("pymysql.err")
_asyncmy: Any = import_module("asyncmy.errors")

_NUMBERED: tuple[type[Exception], ...] = (_pymysql.MySQLError, _asyncmy.MySQLError)
DRIVER_ERRORS: tuple[type[Exception], ...] = (*_NUMBERED, OSError)
"""What either driver raises; asyncmy also lets time-outs of its own through."""

# Those without a number tell of a connection.
_SILENT = (
    OSError,
    *(getattr(each, name) for each in (_pymysql, _asyncmy) for name in ("OperationalError", "InterfaceError")),
)

_DUPLICATE = 1062
_DEADLOCK, _LOCK_WAIT = 1213, 1205
# A snapshot that is too old for what it wants to lock (MariaDB); a group that certified another transaction (MySQL).
_CONFLICTS = frozenset({_DEADLOCK, _LOCK_WAIT, 1020, 3101})
# A statement that took too long, or was ended by somebody, on a connection that is as good as before.
_HARMLESS = _CONFLICTS | {_DUPLICATE, 1317, 1969, 3024, 3572}
_OTHER_SCHEMA = frozenset({1049, 1051, 1054, 1146, 1412, 1305, 1360})
_DAMAGED = frozenset({1034, 1194, 1195, 1712, 1877, 1907})
# By what stands in the way: no room, no memory, no more connections, no rights, nothing but reading, not ready, gone.
_PASSING = (
    _HARMLESS
    | _OTHER_SCHEMA
    | {1021, 1037, 1038, 1041, 1114, 1135, 3675, 1040, 1203, 1226, 1129, 1130, 1132}
    | {1044, 1045, 1142, 1143, 1227, 1370, 1698, 1820, 1862, 3118, 4151, 1290, 1792, 1836, 3902}
    | {1047, 1053, 1077, 1078, 1079, 1080, 1152, 1158, 1159, 1160, 1161, 1184, 1180, 1181, 1196, 1206, 1927, 4031}
)
_CLIENT_ERRORS = range(2000, 3000)
_TRIGGERS_NEED_RIGHTS = 1419


def code_of(error: BaseException) -> int | None:
    """Return the number of an error of either driver; None when it has none."""
    said = error.args[0] if error.args and isinstance(error, _NUMBERED) else None
    return said if isinstance(said, int) else None


def conflicted(error: BaseException) -> bool:
    """Tell whether it goes away when the same program is run again."""
    return code_of(error) in _CONFLICTS


def tells_of_server(error: Exception) -> bool:
    """Tell whether an error concerns every statement alike, such as that the server is gone."""
    return not conflicted(error) and isinstance(translated(error), StoreUnavailable | StoreCorrupt)


def told_of_duplicate(error: BaseException) -> bool:
    """Tell whether a row was not inserted because its key is there already."""
    return code_of(error) == _DUPLICATE


def tells_of_another_schema(error: BaseException) -> bool:
    """Tell whether tables are not what they were when the store was opened, so that it should look again."""
    return code_of(error) in _OTHER_SCHEMA


def spares_connection(error: BaseException) -> bool:
    """Tell whether the connection is as good as before, once it has rolled back."""
    return code_of(error) in _HARMLESS or (isinstance(error, Exception) and not isinstance(error, DRIVER_ERRORS))


def translated(error: Exception) -> StoreError:
    """Say what an error of a driver means for whoever asked.

    Returns:
        ``StoreUnavailable`` when it may pass: the server is away, starting, full, read-only, in the way of itself, or
        its tables are missing; ``StoreCorrupt`` when data is damaged; a plain ``StoreError`` for a defect of ours.
    """
    code = code_of(error)
    said = " ".join(str(part) for part in error.args[-1:]) or type(error).__name__
    message = f"MySQL: {' '.join(said.split())}" + (f" ({code})" if code else "")
    if code in _DAMAGED:
        return StoreCorrupt(message)
    if code == _TRIGGERS_NEED_RIGHTS:
        return StoreUnavailable(
            f"{message}: its tables have triggers, and this server keeps a binary log, so that it wants SUPER or "
            "log_bin_trust_function_creators = 1 of whoever makes them"
        )
    if code is None and isinstance(error, _SILENT):
        return StoreUnavailable(message)
    # What a driver calls 0 is its own: the connection is closed.
    if code == 0 or code in _PASSING or code in _CLIENT_ERRORS:
        return StoreUnavailable(message)
    return StoreError(message)
