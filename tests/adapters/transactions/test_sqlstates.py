"""What a database's error says, however it is wrapped."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from retrysafe.runtime.sqlstates import conflicted, lacks_table, refused


class _Answer(Exception):
    """As psycopg and asyncpg make them: with a SQLSTATE and the server's severity."""

    def __init__(self, sqlstate: str, severity: str = "ERROR") -> None:
        self.sqlstate, self.severity_en = sqlstate, severity


class _Wrapped(Exception):
    """As SQLAlchemy does."""

    def __init__(self, orig: Exception) -> None:
        self.orig = orig


def _raised(error: Exception, *, cause: Exception | None = None, context: Exception | None = None) -> Exception:
    if cause is not None:
        error.__cause__ = cause
    error.__context__ = context
    return error


CONFLICT = _Answer("40001")


@pytest.mark.parametrize(
    "error",
    [
        CONFLICT,
        _Answer("40P01"),
        _Wrapped(CONFLICT),
        _raised(ValueError(), cause=CONFLICT),
        _raised(ValueError(), context=CONFLICT),
        _raised(ValueError(), cause=_Wrapped(CONFLICT)),
        ExceptionGroup("tasks", [ValueError(), ExceptionGroup("more", [CONFLICT])]),
    ],
)
def test_a_conflict_is_found_below_whatever_the_author_or_the_framework_raised(error: Exception) -> None:
    """R11: otherwise a transaction would not be run again."""
    assert conflicted(error)


def test_a_conflict_that_the_author_hid_on_purpose_is_none() -> None:
    hidden = _raised(ValueError(), context=CONFLICT)
    # As `raise ... from None` does.
    hidden.__suppress_context__ = True
    assert not conflicted(hidden)
    assert not conflicted(_Answer("23505"))
    assert not conflicted(ValueError())


def test_errors_that_lead_in_a_circle_are_looked_at_once() -> None:
    first, second = ValueError(), TypeError()
    first.__context__, second.__context__ = second, first
    assert not conflicted(first)


@pytest.mark.parametrize(
    ("error", "is_certain"),
    [
        (_Answer("23505"), True),
        (_Answer("40001"), True),
        (_Wrapped(_Answer("23505")), True),
        (_raised(_Answer("23505", ""), cause=_Answer("23505")), True),
        # The server ends the session, perhaps after it has committed.
        (_Answer("57P01", "FATAL"), False),
        (_Answer("57P01", "ERROR"), False),
        (_Answer("08006", "ERROR"), False),
        (_Answer("40003", "ERROR"), False),
        (_Answer("25P03", "FATAL"), False),
        (ConnectionError(), False),
        (TimeoutError(), False),
        # What went wrong before, and is being handled, says nothing about the commit.
        (_raised(ConnectionError(), context=_Answer("23505")), False),
    ],
)
def test_only_an_answer_of_a_live_server_is_certain(error: Exception, is_certain: bool) -> None:
    """D4."""
    assert refused(error) is is_certain


def test_sqlite_says_the_same_in_numbers(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    connection, other = (sqlite3.connect(path, isolation_level=None, timeout=0) for _ in range(2))
    connection.execute("CREATE TABLE a (n INTEGER UNIQUE)")
    connection.execute("INSERT INTO a VALUES (1)")
    other.execute("BEGIN IMMEDIATE")
    errors = {}
    for text in ("BEGIN IMMEDIATE", "INSERT INTO a VALUES (1)", "SELECT * FROM b"):
        if "INSERT" in text:
            other.execute("ROLLBACK")
        with pytest.raises(sqlite3.Error) as caught:
            connection.execute(text)
        errors[text] = caught.value
    connection.close()
    other.close()
    assert [conflicted(error) for error in errors.values()] == [True, False, False]
    assert [refused(error) for error in errors.values()] == [True, True, False]
    assert [lacks_table(error) for error in errors.values()] == [False, False, True]
    assert lacks_table(_Wrapped(_Answer("42P01")))
