"""Dropping repeats, and refusing what was undone, in whatever transaction the application has open."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial
from inspect import isawaitable
from typing import Any

import psycopg
import pytest
import sqlalchemy
from sqlalchemy.orm import Session

from retrysafe import Call
from retrysafe.adapters.transactions import consuming
from retrysafe.adapters.transactions.consuming import Passage
from retrysafe.errors import KeyMalformed, KeyMissing
from retrysafe.protocol.model import Claim, Mode
from tests.adapters.transactions.conftest import Found
from tests.adapters.transactions.places import EVERY, FOR_LOOPS, PATIENCE_SECONDS, Opened, Place

every_binding = pytest.mark.parametrize("place", EVERY, indirect=True)

FORWARD = {"Idempotency-Key": "forward"}
UNDO = {"Idempotency-Key": "undo", "Idempotency-Undoes": "forward"}


def _do(place: Place, name: str, *args: Any) -> Any:
    """Call one of the functions, or its twin where the binding is for event loops."""
    return place.do(getattr(consuming, f"a{name}" if place.kind in FOR_LOOPS else name)(*args))


def _first_time(place: Place, *args: Any, keep: bool = True) -> bool:
    transaction = place.begin()
    answer: bool = _do(place, "first_time", transaction.inner, *args)
    _end(transaction, keep=keep)
    return answer


def _passes(place: Place, headers: dict[str, str], *, keep: bool = True) -> Passage:
    transaction = place.begin()
    passage: Passage = _do(place, "barrier", transaction.inner, headers)
    _end(transaction, keep=keep)
    return passage


def _end(transaction: Opened, *, keep: bool) -> None:
    if keep:
        transaction.commit()
    else:
        transaction.rollback()


@every_binding
def test_a_message_is_new_until_what_it_did_is_durable_and_never_after(place: Place) -> None:
    """R12: the note is in the consumer's own transaction."""
    assert _first_time(place, "operation:1", keep=False)
    assert _first_time(place, "operation:1")
    assert not _first_time(place, "operation:1")
    assert _first_time(place, "operation:2")
    assert _first_time(place, "operation:1", "another consumer")


@every_binding
def test_a_call_passes_once_and_its_undo_once(place: Place) -> None:
    """R7, I4."""
    assert _passes(place, FORWARD, keep=False) is Passage.APPLY
    assert [_passes(place, call) for call in (FORWARD, FORWARD, UNDO, UNDO, FORWARD)] == [
        Passage.APPLY,
        Passage.REPEATED,
        Passage.APPLY,
        Passage.REPEATED,
        Passage.REFUSED,
    ]


@every_binding
def test_an_undo_that_comes_first_leaves_a_tombstone(place: Place) -> None:
    """R7, I6: the late call is refused, and the repeated undo is answered as before."""
    assert [_passes(place, call) for call in (UNDO, UNDO, FORWARD, UNDO)] == [
        Passage.NOTHING_TO_UNDO,
        Passage.NOTHING_TO_UNDO,
        Passage.REFUSED,
        Passage.NOTHING_TO_UNDO,
    ]


def test_the_headers_are_those_that_steps_send(found: Found) -> None:
    """R4, R7."""
    place = found("sqlite3")
    claim = Claim(b"d" * 16, "01900000-0000-7000-8000-000000000001", 1, 1, Mode.STEPS, "order", 15.0)
    forward, undo = Call(claim, ("pay", 0), 10.0), Call(claim, ("undo:pay", 0), 10.0, undoes=("pay", 0))
    shouting = {name.upper(): f'"{value}"' for name, value in forward.headers.items()}
    assert [_passes(place, headers) for headers in (forward.headers, shouting, undo.headers)] == [
        Passage.APPLY,
        Passage.REPEATED,
        Passage.APPLY,
    ]
    transaction = place.begin()
    with pytest.raises(KeyMissing):
        consuming.barrier(transaction.inner, {"Content-Type": "text/plain"})
    with pytest.raises(KeyMalformed):
        consuming.barrier(transaction.inner, {"Idempotency-Key": "a key"})
    transaction.rollback()


# Two at once.


@pytest.mark.parametrize("first_commits", [True, False])
@pytest.mark.parametrize("place", ["psycopg", "asyncpg", "sqlalchemy psycopg", "sqlite3"], indirect=True)
def test_of_two_equal_messages_at_once_the_second_waits_for_the_first(place: Place, first_commits: bool) -> None:
    """R12: it is dropped if the first one commits, and new if it does not."""
    transaction = place.begin()
    assert _do(place, "first_time", transaction.inner, "operation:1")
    with ThreadPoolExecutor(1) as thread:
        second = thread.submit(_first_time, place, "operation:1")
        _until_somebody_waits(place)
        assert not second.done()
        _end(transaction, keep=first_commits)
        assert second.result(PATIENCE_SECONDS) is not first_commits


@pytest.mark.parametrize("forward_is_first", [True, False])
@pytest.mark.parametrize("place", ["psycopg", "async psycopg", "sqlite3"], indirect=True)
def test_a_call_and_its_undo_at_once_come_to_one_of_the_two_orders(place: Place, forward_is_first: bool) -> None:
    """R7, I6: never does the effect of the call stay."""
    first, second = (FORWARD, UNDO) if forward_is_first else (UNDO, FORWARD)
    transaction = place.begin()
    passages = [_do(place, "barrier", transaction.inner, first)]
    with ThreadPoolExecutor(1) as thread:
        waiting = thread.submit(_passes, place, second)
        _until_somebody_waits(place)
        transaction.commit()
        passages.append(waiting.result(PATIENCE_SECONDS))
    assert passages == (
        [Passage.APPLY, Passage.APPLY] if forward_is_first else [Passage.NOTHING_TO_UNDO, Passage.REFUSED]
    )


def _until_somebody_waits(place: Place) -> None:
    pause = threading.Event()
    if place.url.startswith("sqlite"):
        # Nobody can be asked who waits for a file.
        pause.wait(0.3)
        return
    text = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    while not place.execute(text):
        pause.wait(0.02)


# What the application has in hand.


def _sqlite3(place: Place) -> tuple[Any, Callable[[], object], Callable[[], object]]:
    connection = sqlite3.connect(place.url.removeprefix("sqlite:///"))
    connection.row_factory = sqlite3.Row
    return connection, connection.commit, connection.close


def _psycopg(place: Place) -> tuple[Any, Callable[[], object], Callable[[], object]]:
    connection = psycopg.connect(place.url, row_factory=psycopg.rows.dict_row)
    return connection, connection.commit, connection.close


def _core(place: Place) -> tuple[Any, Callable[[], object], Callable[[], object]]:
    connection = _engine(place).connect()
    return connection, connection.commit, partial(_close, connection, connection.engine)


def _orm(place: Place) -> tuple[Any, Callable[[], object], Callable[[], object]]:
    class Mine(Session):
        pass

    engine = _engine(place)
    session = Mine(engine)
    return session, session.commit, partial(_close, session, engine)


def _close(opened: sqlalchemy.Connection | Session, engine: sqlalchemy.Engine) -> None:
    opened.close()
    engine.dispose()


def _engine(place: Place) -> sqlalchemy.Engine:
    if place.url.startswith("sqlite"):
        return sqlalchemy.create_engine(place.url)
    return sqlalchemy.create_engine(f"postgresql+psycopg://{place.url.partition('://')[2]}")


def _django(place: Place) -> tuple[Any, Callable[[], object], Callable[[], object]]:
    from django.db import connections, transaction

    alias: str = place.binding._using
    block = transaction.atomic(using=alias)
    block.__enter__()
    return connections[alias], lambda: block.__exit__(None, None, None), lambda: None


@pytest.mark.parametrize(
    ("kind", "take"),
    [
        ("sqlite3", _sqlite3),
        ("sqlite3", _core),
        ("sqlite3", _orm),
        ("psycopg", _psycopg),
        ("psycopg", _core),
        ("psycopg", _orm),
        ("django sqlite", _django),
        ("django psycopg", _django),
    ],
)
def test_a_connection_of_the_applications_does_as_well(kind: str, take: Any, found: Found) -> None:
    """R12, R7: of any driver, with any kind of rows."""
    place = found(kind)
    answers: list[Any] = []
    for _ in range(2):
        connection, commit, close = take(place)
        answers += [
            consuming.first_time(connection, "operation:1"),
            consuming.barrier(connection, FORWARD),
        ]
        commit()
        close()
    assert answers == [True, Passage.APPLY, False, Passage.REPEATED]


@pytest.mark.parametrize("kind", ["asyncpg", "async psycopg", "async sqlalchemy asyncpg", "async sqlalchemy aiosqlite"])
def test_on_event_loops_it_does_as_well(kind: str, found: Found) -> None:
    """R12, R7."""
    place = found(kind)
    assert place.loop is not None

    async def consume() -> list[Any]:
        answers: list[Any] = []
        for _ in range(2):
            transaction = await place.binding.begin(30.0)
            answers += [
                await consuming.afirst_time(transaction.handle, "operation:1"),
                await consuming.abarrier(transaction.handle, FORWARD),
            ]
            await transaction.commit()
        return answers

    assert place.loop.run(consume()) == [True, Passage.APPLY, False, Passage.REPEATED]


def test_what_cannot_be_used_is_named(found: Found) -> None:
    with pytest.raises(TypeError, match="no transaction"):
        consuming.first_time(object(), "operation:1")
    with pytest.raises(TypeError, match="no transaction"):
        consuming.forget(object(), timedelta(days=1))
    loops = found("asyncpg")
    assert loops.loop is not None

    async def plain_on_a_loop() -> None:
        transaction = await loops.binding.begin(30.0)
        with pytest.raises(TypeError, match="begins with a"):
            consuming.first_time(transaction.handle, "operation:1")
        await transaction.rollback()

    loops.loop.run(plain_on_a_loop())
    threads = found("sqlite3")
    transaction = threads.begin()
    awaited = consuming.afirst_time(transaction.inner.handle, "operation:1")
    assert isawaitable(awaited)
    with pytest.raises(TypeError, match="is for threads"):
        awaited.send(None)
    transaction.rollback()


# Tables.


@every_binding
def test_a_database_that_is_no_store_gets_the_tables(place: Place) -> None:
    """R12: and making them again changes nothing; in a store they are there."""
    for table in ("retrysafe_inbox", "retrysafe_barrier"):
        place.execute(f"DROP TABLE {table}")
    for _ in range(2):
        if place.url.startswith("mariadb"):
            # Whose transactions end with it.
            with place.connect() as connection:
                consuming.create_tables(connection)
        else:
            transaction = place.begin()
            _do(place, "create_tables", transaction.inner)
            transaction.commit()
    assert _first_time(place, "operation:1")
    assert _passes(place, FORWARD) is Passage.APPLY
    assert not _first_time(place, "operation:1")
    _check_forgetting(place)


@every_binding
def test_what_cannot_come_any_more_is_forgotten(place: Place) -> None:
    """In the tables that a store brings."""
    _first_time(place, "operation:1")
    _passes(place, FORWARD)
    _check_forgetting(place)


def _check_forgetting(place: Place) -> None:
    def forget(older_than: timedelta) -> int:
        transaction = place.begin()
        gone: int = _do(place, "forget", transaction.inner, older_than)
        transaction.commit()
        return gone

    assert forget(timedelta(days=1)) == 0
    assert not _first_time(place, "operation:1")
    assert forget(timedelta(days=-1)) == 2
    assert _first_time(place, "operation:1")
