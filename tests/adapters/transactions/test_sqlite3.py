"""What is particular to SQLite's own driver."""

from __future__ import annotations

import asyncio
import gc
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from retrysafe import SHARED, ConfigurationError, Response, RetrySafe
from retrysafe.adapters.transactions.sqlite3 import SQLite3Transactions
from tests.adapters.transactions.conftest import Found


def test_with_connection_does_not_commit_before_the_outcome(found: Found, caplog: pytest.LogCaptureFixture) -> None:
    """R11: the usual way to end a transaction is refused, and the log says what to do instead."""
    place = found("sqlite3")

    def careless(op: Any) -> Response:
        with op.session:
            place.insert(op.session)
        return Response(201)

    with pytest.raises(sqlite3.DatabaseError, match="not authorized"):
        place.call(careless, "transaction")
    assert place.effects == 0
    assert "leave commit and rollback to retrysafe" in caplog.text


def test_the_applications_connections_may_have_rows_of_any_kind(found: Found) -> None:
    place = found("sqlite3")

    def connect(path: str) -> sqlite3.Connection:
        connection = sqlite3.connect(path, isolation_level=None)
        connection.row_factory = lambda cursor, row: {"row": row}
        return connection

    place.rebind(SQLite3Transactions(place.url.removeprefix("sqlite:///"), connect=connect))

    def transfer(op: Any) -> Response:
        place.insert(op.session)
        return Response(201, op.session.execute("SELECT count(*) FROM effects").fetchone())

    assert place.call(transfer, "transaction").body == b'{"row":[1]}'
    assert place.call(transfer, "transaction").status == 201
    assert place.effects == 1


def test_a_connection_with_a_transaction_of_its_own_is_refused(found: Found) -> None:
    place = found("sqlite3")
    made: list[sqlite3.Connection] = []

    def connect(path: str) -> sqlite3.Connection:
        made.append(sqlite3.connect(path, isolation_level=None))
        made[-1].execute("BEGIN")
        return made[-1]

    with pytest.raises(ConfigurationError, match="isolation_level=None"):
        SQLite3Transactions(place.url.removeprefix("sqlite:///"), connect=connect).begin(1.0)
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        made[0].execute("SELECT 1")


def test_a_transaction_that_sqlite_itself_rolled_back_records_nothing(found: Found) -> None:
    """R11: what comes behind it would commit on its own."""
    place = found("sqlite3")
    claim = place.claim()
    transaction = place.begin()
    transaction.insert()
    with pytest.raises(sqlite3.IntegrityError):
        transaction.execute("INSERT OR ROLLBACK INTO counters VALUES ('a', 0)")
    with pytest.raises(ConfigurationError, match="ended the transaction"):
        transaction.run(place.record(claim))
    transaction.rollback()
    assert place.effects == 0


def test_a_deferred_constraint_is_a_certain_answer_to_the_commit(tmp_path: Path, found: Found) -> None:
    """D4."""
    place = found("sqlite3")
    place.execute("CREATE TABLE refers (name TEXT REFERENCES counters DEFERRABLE INITIALLY DEFERRED)")

    def connect(path: str) -> sqlite3.Connection:
        connection = sqlite3.connect(path, isolation_level=None)
        connection.execute("PRAGMA foreign_keys = ON")
        return connection

    place.rebind(SQLite3Transactions(place.url.removeprefix("sqlite:///"), connect=connect))
    transaction = place.begin()
    transaction.insert()
    transaction.execute("INSERT INTO refers VALUES ('nobody')")
    with pytest.raises(sqlite3.IntegrityError):
        transaction.commit()
    transaction.rollback()
    assert place.effects == 0


def test_a_transaction_that_is_forgotten_lets_go_of_the_file_at_once(found: Found) -> None:
    """R11: and not when the garbage is collected next."""
    place = found("sqlite3")
    gc.disable()
    try:
        place.binding.begin(10.0)
        place.execute("UPDATE counters SET value = 1")
    finally:
        gc.enable()


def test_coroutines_use_it_in_threads_and_wait_for_the_file_there(found: Found) -> None:
    """R11: while one operation awaits inside its transaction, the loop is free, and the other one's turn comes."""
    place = found("sqlite3")
    guard = RetrySafe(place.store, principal=SHARED, transactions=place.binding, scan=None, sinks=())

    @guard.operation("add", mode="transaction")
    async def add(op: Any) -> Response:
        [(value,)] = op.session.execute("SELECT value FROM counters WHERE name = 'a'").fetchall()
        await asyncio.sleep(0.05)
        op.session.execute("UPDATE counters SET value = ? WHERE name = 'a'", (value + 1,))
        return Response(201)

    async def both() -> list[Response]:
        return list(await asyncio.gather(*(add(key=f"k{number}") for number in range(3))))

    assert [answer.status for answer in asyncio.run(both())] == [201] * 3
    assert place.execute("SELECT value FROM counters WHERE name = 'a'") == [(3,)]
