"""What a database's error says, whatever driver, framework or author's exception it is wrapped in.

Drivers are not imported: their errors carry a SQLSTATE (``sqlstate``, ``pgcode``), SQLite's ``sqlite_errorcode`` or, as
first argument, MySQL's number; and wrappers keep them in ``orig`` (SQLAlchemy) or as the cause (Django, SQLAlchemy over
asyncpg).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

_CONFLICTS = frozenset({"40001", "40P01"})
_UNDEFINED_TABLE = "42P01"
# An answer that is no answer: connection errors, a commit that nobody knows about, a server that ends the session.
_NO_ANSWERS = ("08", "40003", "57P")
# SQLite's primary result codes.
_BUSY, _LOCKED, _CONSTRAINT = 5, 6, 19
_PRIMARY_CODE = 0xFF
_MYSQL_DRIVERS = frozenset({"pymysql", "asyncmy", "MySQLdb"})
# A deadlock, a lock that was waited for in vain, a snapshot that is too old, another transaction that was certified.
_MYSQL_CONFLICTS = frozenset({1213, 1205, 1020, 3101})
_MYSQL_NO_TABLE = 1146
# The client's own, and a server that ends the session: it may have committed before.
_MYSQL_CLIENT = range(2000, 3000)
_MYSQL_ENDED = frozenset({0, 1053, 1077, 1152, 1158, 1159, 1160, 1161, 1184, 1317, 1927, 4031})


def conflicted(error: BaseException) -> bool:
    """Tell whether a database rolled back because of another transaction, so that running again may succeed.

    Followed are wrappers, causes, contexts that were not suppressed, and the members of groups: frameworks and authors
    raise errors of their own over those of a database.
    """
    return any(
        _sqlstate(found) in _CONFLICTS
        or _sqlite_code(found) in {_BUSY, _LOCKED}
        or _mysql_code(found) in _MYSQL_CONFLICTS
        for found in _causes(error, contexts=True)
    )


def refused(error: BaseException) -> bool:
    """Tell whether the error is a live server's answer to the statement, so that a commit was certainly rolled back.

    A server that ends the session may have committed before: that is not an answer. Contexts are not followed: a commit
    may run while the author's code handles another error, which says nothing about the commit.
    """
    for found in _causes(error, contexts=False):
        if _sqlite_code(found) in {_BUSY, _LOCKED, _CONSTRAINT}:
            return True
        state = _sqlstate(found)
        number = _mysql_code(found)
        if number is not None and number not in _MYSQL_CLIENT and number not in _MYSQL_ENDED:
            return True
        if state is not None and not state.startswith(_NO_ANSWERS) and _severity(found) == "ERROR":
            return True
    return False


def lacks_table(error: BaseException) -> bool:
    """Tell whether a statement failed because a table is not there."""
    return any(
        _sqlstate(found) == _UNDEFINED_TABLE
        or _mysql_code(found) == _MYSQL_NO_TABLE
        or (_sqlite_code(found) is not None and str(found).startswith("no such table"))
        for found in _causes(error, contexts=False)
    )


def _causes(error: BaseException, *, contexts: bool) -> Iterator[BaseException]:
    waiting, seen = [error], set[int]()
    while waiting:
        found = waiting.pop()
        if id(found) in seen:
            continue
        seen.add(id(found))
        yield found
        before: list[object] = [getattr(found, "orig", None), found.__cause__]
        if contexts and not found.__suppress_context__:
            before.append(found.__context__)
        members: Iterable[object] = getattr(found, "exceptions", ())
        before.extend(members)
        waiting.extend(one for one in before if isinstance(one, BaseException))


def _sqlstate(error: BaseException) -> str | None:
    state = getattr(error, "sqlstate", None) or getattr(error, "pgcode", None)
    return state if isinstance(state, str) else None


def _severity(error: BaseException) -> str | None:
    """Return the server's word that is not translated, as psycopg and asyncpg keep it."""
    diagnosis = getattr(error, "diag", None)
    found: str | None = getattr(diagnosis, "severity_nonlocalized", None) or getattr(error, "severity_en", None)
    return found


def _sqlite_code(error: BaseException) -> int | None:
    code = getattr(error, "sqlite_errorcode", None)
    return code & _PRIMARY_CODE if isinstance(code, int) else None


def _mysql_code(error: BaseException) -> int | None:
    if not error.args or type(error).__module__.partition(".")[0] not in _MYSQL_DRIVERS:
        return None
    number = error.args[0]
    return number if isinstance(number, int) else None
