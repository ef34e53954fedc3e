"""What one transaction of each binding promises, whoever uses it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

import psycopg
import pytest

from retrysafe import ConfigurationError, Response, State
from retrysafe.protocol import effects as fx
from retrysafe.runtime.transactions import CommitUnknown
from tests.adapters.transactions.conftest import Found
from tests.adapters.transactions.places import (
    EVERY,
    LOOPS_ON_MYSQL,
    LOOPS_ON_POSTGRES,
    ON_POSTGRES,
    ON_SQLITE,
    PATIENCE_SECONDS,
    Place,
)
from tests.adapters.transactions.wire import Wire
from tests.services.service import Service

POSTGRES = ON_POSTGRES + LOOPS_ON_POSTGRES
every_binding = pytest.mark.parametrize("place", EVERY, indirect=True)
on_postgres = pytest.mark.parametrize("place", POSTGRES, indirect=True)


@contextmanager
def an_error() -> Iterator[list[Exception]]:
    """Expect an error; which one is the driver's affair."""
    caught: list[Exception] = []
    try:
        yield caught
    except Exception as error:  # noqa: BLE001 - as it says
        caught.append(error)
    else:
        pytest.fail("nothing was raised")


@every_binding
def test_an_effect_and_the_stores_own_write_are_committed_together(place: Place) -> None:
    """R11, I10: and before the commit nobody sees either."""
    claim = place.claim()
    transaction = place.begin()
    transaction.insert()
    assert transaction.run(place.record(claim)) == fx.Written()
    assert (place.effects, place.state) == (0, State.RUNNING)
    transaction.commit()
    assert (place.effects, place.state) == (1, State.DONE)
    # Safe to repeat, whatever happened.
    transaction.rollback()
    assert (place.effects, place.state) == (1, State.DONE)


@every_binding
def test_a_rollback_leaves_neither_and_the_connection_is_as_good_as_before(place: Place) -> None:
    claim = place.claim()
    for _ in range(5):
        # More often than there are connections in a pool.
        transaction = place.begin()
        transaction.insert()
        transaction.run(place.record(claim))
        transaction.rollback()
        transaction.rollback()
    assert (place.effects, place.state) == (0, State.RUNNING)
    transaction = place.begin()
    transaction.insert()
    transaction.commit()
    assert place.effects == 1


@every_binding
def test_a_superseded_write_is_a_value_and_the_effect_can_be_rolled_back(place: Place) -> None:
    """C4, R11."""
    old = place.claim(lease_seconds=0.001)
    place.store.run(partial(place.store.verbs.release, old))
    transaction = place.begin()
    transaction.insert()
    assert transaction.run(place.record(old)) == fx.Superseded()
    transaction.rollback()
    assert (place.effects, place.state) == (0, State.RELEASED)


@every_binding
def test_bytes_numbers_and_rows_come_back_as_the_store_reads_them(place: Place) -> None:
    """Whatever rows the application has its driver make."""
    claim = place.claim()
    transaction = place.begin()
    met = transaction.run(partial(place.store.verbs.read, claim.digest))
    assert met is not None
    assert (met.digest, met.fence, met.state) == (claim.digest, 1, State.RUNNING)
    assert type(met.digest) is bytes
    transaction.rollback()


@on_postgres
def test_the_server_limits_this_transaction_and_no_other(place: Place) -> None:
    """R11: a frozen session is evicted before its lease ends."""
    settings = "current_setting('idle_in_transaction_session_timeout') AS a, current_setting('statement_timeout') AS b"
    transaction = place.begin(limit_seconds=12.5)
    found = transaction.select(f"SELECT {settings}, current_setting('transaction_timeout', true) AS c")
    version = int(place.execute("SHOW server_version_num")[0][0])
    assert found == [("12500ms", "12500ms", "12500ms" if version >= 170_000 else None)]
    transaction.commit()
    transaction = place.begin(limit_seconds=3.0)
    transaction.rollback()
    assert "12500ms" not in str(_plain_select(place, f"SELECT {settings}"))


def _plain_select(place: Place, text: str) -> list[Any]:
    """Select on a new transaction that has no limit of the one before."""
    transaction = place.begin(limit_seconds=60.0)
    try:
        return transaction.select(text)
    finally:
        transaction.rollback()


@pytest.mark.parametrize("place", ["psycopg", "asyncpg", "async sqlalchemy asyncpg", "django psycopg"], indirect=True)
def test_a_session_that_is_idle_for_too_long_is_evicted_and_commits_nothing(place: Place) -> None:
    """R11: what a frozen process looks like to the server."""
    claim = place.claim()
    transaction = place.begin(limit_seconds=1.0)
    with suppress(Exception):
        # On a busy machine that may be too late already.
        transaction.insert()
    pause = threading.Event()
    while place.execute(_IN_TRANSACTION):
        pause.wait(0.05)
    with an_error() as caught:
        transaction.run(place.record(claim))
    assert not place.binding.conflicted(caught[0])
    transaction.rollback()
    assert (place.effects, place.state) == (0, State.RUNNING)


_IN_TRANSACTION = (
    "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() "
    "AND state LIKE 'idle in transaction%'"
)


@on_postgres
def test_of_two_transactions_that_conflict_one_is_told_to_run_again(place: Place) -> None:
    """R11."""
    name = place.url.rpartition("/")[2]
    place.execute(f"ALTER DATABASE {name} SET default_transaction_isolation = 'serializable'")
    place.rebind()
    with psycopg.connect(place.url) as other:
        transaction = place.begin()
        for each in (other.execute, transaction.select):
            each("SELECT value FROM counters WHERE name = 'a'")
        other.execute("UPDATE counters SET value = 1 WHERE name = 'a'")
        other.commit()
        with pytest.raises(Exception, match="serialize") as caught:
            transaction.execute("UPDATE counters SET value = 2 WHERE name = 'a'")
        transaction.rollback()
    assert place.binding.conflicted(caught.value)
    assert place.execute("SELECT value FROM counters WHERE name = 'a'") == [(1,)]


@on_postgres
def test_a_deadlock_is_told_to_run_again(place: Place) -> None:
    """R11."""
    with psycopg.connect(place.url) as other, ThreadPoolExecutor(1) as thread:
        # So that it is ours that notices.
        other.execute("SET deadlock_timeout = '1h'")
        other.execute("UPDATE counters SET value = 1 WHERE name = 'a'")
        transaction = place.begin()
        transaction.execute("UPDATE counters SET value = 2 WHERE name = 'b'")
        waiting = thread.submit(other.execute, "UPDATE counters SET value = 3 WHERE name = 'b'")
        with pytest.raises(Exception, match="deadlock") as caught:
            transaction.execute("UPDATE counters SET value = 4 WHERE name = 'a'")
        transaction.rollback()
        waiting.result(PATIENCE_SECONDS)
    assert place.binding.conflicted(caught.value)


@pytest.mark.parametrize("place", LOOPS_ON_MYSQL, indirect=True)
def test_bytes_that_the_driver_would_let_out_of_their_quotes_are_refused(place: Place) -> None:
    """An outcome holds what clients see and send: without their escapes its bytes would be SQL."""
    claim = place.claim()
    transaction = place.begin()
    transaction.execute("SET SESSION sql_mode = 'NO_BACKSLASH_ESCAPES'")
    with pytest.raises(ConfigurationError, match="NO_BACKSLASH_ESCAPES out of its sql_mode"):
        transaction.run(place.record(claim))
    transaction.rollback()
    assert place.state is State.RUNNING


@pytest.mark.parametrize("place", ON_SQLITE, indirect=True)
def test_readers_that_want_to_write_wait_for_each_other_and_are_not_refused(place: Place) -> None:
    """R11: SQLite would refuse, at once, who read before another wrote; a store's file is written all the time."""

    def add() -> None:
        transaction = place.begin()
        [(value,)] = transaction.select("SELECT value FROM counters WHERE name = 'a'")
        transaction.execute(f"UPDATE counters SET value = {value + 1} WHERE name = 'a'")  # noqa: S608 - ours
        transaction.commit()
        place.leave_thread()

    with ThreadPoolExecutor(4) as threads:
        for done in [threads.submit(add) for _ in range(20)]:
            done.result(PATIENCE_SECONDS)
    assert place.execute("SELECT value FROM counters WHERE name = 'a'") == [(20,)]


@pytest.mark.parametrize("place", ON_SQLITE, indirect=True)
def test_a_locked_file_is_told_to_run_again(place: Place) -> None:
    other = place.connect()
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(Exception, match="locked") as caught:
        place.begin(limit_seconds=0.3)
    other.close()
    assert place.binding.conflicted(caught.value)
    place.begin().rollback()


# Commits whose connection dies.


@on_postgres
def test_a_connection_that_was_cut_before_the_commit_commits_nothing(place: Place) -> None:
    """D4: whether that is certain or not, nothing is said to be durable."""
    claim = place.claim()
    transaction = place.begin()
    transaction.insert()
    transaction.run(place.record(claim))
    _terminate(place)
    with an_error():
        transaction.commit()
    transaction.rollback()
    assert (place.effects, place.state) == (0, State.RUNNING)
    place.begin_again().rollback()


def _terminate(place: Place) -> None:
    place.execute(_IN_TRANSACTION.replace("pid", "pg_terminate_backend(pid, 10000)", 1))


@on_postgres
def test_a_connection_that_was_cut_in_the_middle_of_the_commit_is_said_to_be_unknown(place: Place) -> None:
    """D4: the server says that it ends the session, and not whether it has committed before."""
    _slow_commits(place, "PERFORM pg_sleep(60)")
    transaction = place.begin()
    transaction.insert()
    with ThreadPoolExecutor(1) as other:
        cut = other.submit(_terminate_commit, place)
        with pytest.raises(CommitUnknown):
            transaction.commit()
        cut.result(PATIENCE_SECONDS)
    assert place.effects == 0


def _terminate_commit(place: Place) -> None:
    waiting = threading.Event()
    with psycopg.connect(place.url, autocommit=True) as connection:
        while not connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() "
            "AND wait_event = 'PgSleep'"
        ).fetchall():
            waiting.wait(0.05)


def _slow_commits(place: Place, what: str) -> None:
    """Have each commit of an effect do something more."""
    place.execute(
        f"CREATE FUNCTION at_commit() RETURNS trigger LANGUAGE plpgsql AS $body$ BEGIN {what}; RETURN NULL; END $body$"
    )
    place.execute(
        "CREATE CONSTRAINT TRIGGER at_commit AFTER INSERT ON effects DEFERRABLE INITIALLY DEFERRED "
        "FOR EACH ROW EXECUTE FUNCTION at_commit()"
    )


@on_postgres
def test_a_commit_that_the_server_refuses_certainly_rolled_back(place: Place) -> None:
    """D4: such as a constraint that is checked last; it is the driver's own error."""
    _slow_commits(place, "RAISE EXCEPTION 'no'")
    claim = place.claim()
    transaction = place.begin()
    transaction.insert()
    transaction.run(place.record(claim))
    with pytest.raises(Exception, match="no") as caught:
        transaction.commit()
    assert not isinstance(caught.value, CommitUnknown)
    assert not place.binding.conflicted(caught.value)
    transaction.rollback()
    assert (place.effects, place.state) == (0, State.RUNNING)
    place.begin().rollback()


@pytest.mark.parametrize("kind", POSTGRES)
def test_an_answer_that_is_lost_behind_a_commit_is_read_back(kind: str, found: Found) -> None:
    """D4, R11: the client gets the answer, and the effect is there once."""
    place = found(kind)
    with Wire(place.url) as wire:
        place.rebind(place.bind(wire.url))

        def transfer(op: Any) -> Response:
            place.insert(op.session)
            wire.armed = op.attempt == 1
            return Response(201, {"ok": True})

        async def atransfer(op: Any) -> Response:
            await place.insert(op.session)
            wire.armed = op.attempt == 1
            return Response(201, {"ok": True})

        answer = place.call(atransfer if place.loop else transfer, "transaction")
        assert wire.cut.is_set()
        assert (answer.status, place.effects, place.state) == (201, 1, State.DONE)
        place.close_bindings()


@pytest.mark.parametrize("kind", ["psycopg", "django psycopg", "asyncpg", "async sqlalchemy psycopg"])
def test_a_server_that_is_killed_in_the_middle_leaves_all_or_nothing(kind: str, own_postgres: Service) -> None:
    """R11, D4: killed, not asked to stop; and the binding works again when the server does."""
    place = Place(kind, own_postgres.url)
    try:
        claim = place.claim()
        transaction = place.begin()
        transaction.insert()
        transaction.run(place.record(claim))
        own_postgres.restart()
        with an_error():
            transaction.commit()
        transaction.rollback()
        assert (place.effects, place.state) == (0, State.RUNNING)
        transaction = place.begin_again()
        transaction.insert()
        transaction.commit()
        assert place.effects == 1
    finally:
        place.close()


# Whoever else might end the transaction.


_COMMITS = {
    "sqlite3": lambda handle: handle.commit(),
    "sqlalchemy sqlite": lambda handle: handle.commit(),
    "psycopg": lambda handle: handle.commit(),
    "psycopg pool": lambda handle: handle.commit(),
    "sqlalchemy psycopg": lambda handle: handle.connection().commit(),
    "django psycopg": lambda handle: handle.commit(),
    "async psycopg": lambda handle: handle.commit(),
    "async sqlalchemy asyncpg": lambda handle: handle.commit(),
}


@pytest.mark.parametrize("place", list(_COMMITS), indirect=True)
def test_the_authors_code_cannot_commit_before_the_outcome(place: Place) -> None:
    """R11: what it wrote would be durable without it."""
    transaction = place.begin()
    transaction.insert()
    with pytest.raises(Exception, match=r"not authorized|retrysafe|forbidden|atomic"):
        place.do(_COMMITS[place.kind](transaction.inner.handle))
    transaction.rollback()
    assert place.effects == 0


@pytest.mark.parametrize("place", ["psycopg", "async psycopg", "asyncpg"], indirect=True)
def test_a_commit_as_a_statement_is_noticed(place: Place) -> None:
    """R11: nobody can prevent it, but no outcome is recorded for it."""
    claim = place.claim()
    transaction = place.begin()
    transaction.execute("COMMIT")
    with pytest.raises(ConfigurationError, match="leave commit and rollback"):
        transaction.run(place.record(claim))
    transaction.rollback()
    assert place.state is State.RUNNING
    place.begin().rollback()


@every_binding
def test_a_part_of_the_work_may_fail_inside_a_savepoint(place: Place) -> None:
    transaction = place.begin()
    transaction.insert()
    transaction.execute("SAVEPOINT part")
    transaction.insert()
    transaction.execute("ROLLBACK TO SAVEPOINT part")
    transaction.commit()
    assert place.effects == 1


# Event loops.


@pytest.mark.parametrize("place", LOOPS_ON_POSTGRES, indirect=True)
def test_a_commit_goes_on_when_whoever_waits_for_it_is_cancelled(place: Place) -> None:
    """C7, R11: and the connection is given back."""
    _slow_commits(place, "PERFORM pg_sleep(0.5)")
    assert place.loop is not None

    async def cancelled() -> None:
        for _ in range(3):
            # One more than there are in the pool.
            transaction = await place.binding.begin(30.0)
            await place.insert(transaction.handle)
            waiting = asyncio.ensure_future(transaction.commit())
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting

    place.loop.run(cancelled())
    waiting = threading.Event()
    while place.effects < 3:
        waiting.wait(0.05)
    place.begin().rollback()


@on_postgres
def test_a_transaction_that_cannot_begin_gives_its_connection_back(place: Place) -> None:
    for _ in range(3):
        # One more than there are in the pool.
        with pytest.raises(OverflowError):
            place.begin(limit_seconds=float("inf"))
    place.begin().rollback()
