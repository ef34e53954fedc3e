"""What keeps the way of a request short: plans, statements and sessions; nothing here is measured."""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial
from typing import Any

import psycopg
import pytest
from msgspec.structs import replace

from retrysafe.errors import StoreError
from retrysafe.protocol.effects import Superseded, Written
from retrysafe.protocol.model import Ask
from retrysafe.protocol.states import State
from retrysafe.protocol.verdicts import Claimed, Finished, InFlight
from retrysafe.stores.postgres import PostgresStore
from retrysafe.stores.postgres.asyncpg import AsyncpgSession
from retrysafe.stores.postgres.dialect import BATCHES, many
from retrysafe.stores.postgres.driver import Driver
from retrysafe.stores.postgres.sessions import PsycopgSession, ThreadSession
from retrysafe.stores.program import Program, Statement
from retrysafe.testing.asks import an_ask
from retrysafe.testing.runner import Face, Runner
from tests.stores.postgres.conftest import Sight
from tests.stores.postgres.tools import claimed, locked, one_statement, read, recording, until

ROUNDS: list[tuple[Face, Driver]] = [("sync", "psycopg"), ("async", "psycopg"), ("async", "asyncpg")]


@pytest.mark.parametrize(("face", "driver"), ROUNDS)
def test_a_claim_its_record_and_a_replay_are_one_statement_each(
    database: str, face: Face, driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A round trip each: no BEGIN, no COMMIT, and the time is told by the statement itself (C2)."""
    runner = Runner(PostgresStore(database, driver=driver), face)
    runner.open()
    said: list[str] = []
    session = {"sync": ThreadSession, "async": AsyncpgSession if driver == "asyncpg" else PsycopgSession}[face]
    fetch, command = session.fetch, session.command

    def fetching(self: Any, statement: Statement) -> Any:
        said.append(statement.text.split()[0])
        return fetch(self, statement)

    def commanding(self: Any, text: str) -> Any:
        said.append(text.split(maxsplit=1)[0])
        return command(self, text)

    monkeypatch.setattr(session, "fetch", fetching)
    monkeypatch.setattr(session, "command", commanding)
    runner.record(runner.claimed(an_ask("key")))
    assert isinstance(runner.claim(an_ask("key")), Finished)
    assert said in (["WITH", "UPDATE", "WITH"], ["--", "UPDATE", "--"])
    runner.close()


def test_nothing_is_read_from_end_to_end_though_the_table_was_empty(store: PostgresStore, sight: Sight) -> None:
    """The planner has the statistics of an empty table, by which it would read all of it, and keep that plan."""
    sight.execute("ANALYZE retrysafe_checkpoint")

    def plans() -> Program[list[str]]:
        found = []
        for batch in BATCHES:
            text = many(batch)
            arrays = [[None]] * text.count("?")
            answer = yield Statement(f"EXPLAIN {text}", arrays)
            found.append("\n".join(str(row[0]) for row in answer.rows))
        return found

    for plan in store.run(plans):
        assert "Index" in plan
        for slow in ("Seq Scan on retrysafe_checkpoint", "Hash Join", "Merge Join"):
            assert slow not in plan, plan


@pytest.mark.parametrize("ahead", [-60.0, 60.0])
def test_the_clocks_of_applications_decide_nothing(
    store: PostgresStore, ahead: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """C2: a lease that is made by a host whose clock is wrong is as long as any other, alone and in a batch."""
    its_time = time.time
    monkeypatch.setattr(time, "time", lambda: its_time() + ahead)
    claim = claimed(store, an_ask("alone", lease_seconds=30))
    met = read(store, claim)
    assert 29 < met.lease_until - met.created_at < 31
    assert 0 < met.lease_remaining_seconds < 30.5
    assert isinstance(store.run(partial(store.verbs.claim, an_ask("alone"))), InFlight)

    async def together() -> list[object]:
        asks = [an_ask(f"key-{number}", lease_seconds=30) for number in range(5)]
        verdicts = await asyncio.gather(*(store.arun(partial(store.verbs.claim, ask)) for ask in asks))
        await store.aclose()
        return list(verdicts)

    for verdict in asyncio.run(together()):
        assert isinstance(verdict, Claimed)
        met = read(store, verdict.claim)
        assert 0 < met.lease_remaining_seconds < 30.5


@pytest.mark.parametrize("pgbouncer", [False, True])
@pytest.mark.parametrize(("face", "driver"), ROUNDS)
def test_a_row_that_is_locked_does_not_hold_its_batch(
    database: str, face: Face, driver: Driver, *, pgbouncer: bool
) -> None:
    """C4: the transaction that has it locked ends when it will; the neighbours have their answers before."""
    # Were the lock waited for as long as a statement may take, nobody would see the end of this.
    store = PostgresStore(database, driver=driver, pgbouncer=pgbouncer, timeout=timedelta(minutes=10))
    runner = Runner(store, face)
    claims = [runner.claimed(an_ask(f"key-{number}")) for number in range(12)]
    answers: list[object] = []

    def record_all() -> None:
        answers.extend(runner.together([recording(store, claim) for claim in claims]))

    with locked(database, claims[5]):
        recorder = threading.Thread(target=record_all)
        recorder.start()
        others = [claim for claim in claims if claim is not claims[5]]
        until(lambda: all(_state(database, claim.operation_id) == State.DONE for claim in others))
        assert recorder.is_alive()
    recorder.join()
    assert answers == [Written()] * 12
    runner.close()


@pytest.mark.parametrize(("face", "driver"), ROUNDS)
def test_a_row_that_cannot_be_written_fails_none_of_its_batch(database: str, face: Face, driver: Driver) -> None:
    """C1: a principal with a character that PostgreSQL has no place for."""
    store = PostgresStore(database, driver=driver)
    asks = [an_ask(f"key-{number}") for number in range(20)]
    asks[7] = replace(asks[7], identity=replace(asks[7].identity, principal="al\x00ice"))

    def one(ask: Ask) -> object:
        try:
            return store.run(partial(store.verbs.claim, ask))
        except StoreError as error:
            return error

    async def all_at_once() -> list[object]:
        claims = [store.arun(partial(store.verbs.claim, ask)) for ask in asks]
        answers = await asyncio.gather(*claims, return_exceptions=True)
        await store.aclose()
        return list(answers)

    if face == "sync":
        with ThreadPoolExecutor(len(asks)) as threads:
            answers = list(threads.map(one, asks))
        store.close()
    else:
        answers = asyncio.run(all_at_once())
    assert [isinstance(answer, Claimed) for answer in answers] == [number != 7 for number in range(20)]
    assert isinstance(answers[7], StoreError)


def _state(database: str, operation_id: str) -> object:
    with psycopg.connect(database) as connection:
        row = connection.execute(
            "SELECT state FROM retrysafe_checkpoint WHERE operation_id = %s", (operation_id,)
        ).fetchone()
    return row[0] if row else None


def test_of_two_records_with_different_fences_in_one_batch_each_has_its_own_verdict(store: PostgresStore) -> None:
    """C4: the late attempt is refused, and its successor is not."""
    claim = claimed(store, an_ask())
    late = replace(claim, fence=7)

    async def both() -> list[object]:
        answers = await asyncio.gather(*(store.arun(recording(store, each)) for each in (late, claim)))
        await store.aclose()
        return list(answers)

    assert asyncio.run(both()) == [Superseded(), Written()]


@pytest.mark.parametrize("driver", ["psycopg", "asyncpg"])
def test_a_session_goes_to_who_has_waited_longest(database: str, driver: Driver) -> None:
    """D1: whoever gives it back and wants it again comes last, on loops and in threads."""
    store = PostgresStore(database, pool=1, driver=driver)
    store.open()
    order: list[int] = []

    async def work() -> None:
        pool = store._pools.loop(asyncio.get_running_loop()).pool
        first = await pool.take()

        async def one(number: int) -> None:
            session = await pool.take()
            order.append(number)
            pool.give_back(session)

        waiting = [asyncio.ensure_future(one(number)) for number in range(5)]
        await asyncio.sleep(0)
        # Gone before its turn came: it keeps nobody from theirs.
        waiting[2].cancel()
        pool.give_back(first)
        again = await pool.take()
        order.append(9)
        pool.give_back(again)
        await asyncio.gather(*waiting, return_exceptions=True)
        await store.aclose()

    asyncio.run(work())
    assert order == [0, 1, 3, 4, 9]


def test_threads_get_a_session_in_their_turn(database: str) -> None:
    """D1."""
    store = PostgresStore(database, pool=1)
    store.open()
    pool = store._pools.threads().pool
    order: list[int] = []

    def one(number: int) -> None:
        with pool.session():
            order.append(number)

    with ThreadPoolExecutor(5) as threads:
        with pool.session():
            asked = []
            for number in range(5):
                asked.append(threads.submit(one, number))
                until(lambda number=number: len(pool._waiting) == number + 1)  # type: ignore[misc]
        for each in asked:
            each.result()
    assert order == [0, 1, 2, 3, 4]
    assert store.run(one_statement("SELECT 1")) == [(1,)]
    store.close()


def test_a_purge_across_midnight_keeps_the_key_and_whatever_is_open(store: PostgresStore, sight: Sight) -> None:
    """S10: a key is unique across days; open and parked operations are never purged, however old."""
    yesterday = [claimed(store, an_ask(f"key-{number}")) for number in range(6)]
    done, running, parked, *_ = yesterday
    store.run(recording(store, done))
    store.run(partial(store.verbs.park, parked, "nobody knows"))
    for claim in yesterday[3:]:
        store.run(recording(store, claim))
    # As if all that had been a minute before the last midnight, with tombstones that ended since.
    sight.execute(
        "UPDATE retrysafe_checkpoint SET (created_at, lease_until, finished_at, outcome_until, tombstone_until) = "
        "(SELECT at, at, at, at, at FROM (SELECT extract(epoch FROM date_trunc('day', now())) - 60 AS at) AS moment)"
    )
    sight.execute(
        "UPDATE retrysafe_checkpoint SET tombstone_until = extract(epoch FROM now()) + 60 WHERE operation_id = %s",
        (done.operation_id,),
    )
    today = claimed(store, an_ask("today"))
    while store.run(partial(store.verbs.purge, 2)).more:
        pass
    left = sight.execute("SELECT operation_id, state FROM retrysafe_checkpoint").fetchall()
    assert sorted(left) == sorted(
        [
            (done.operation_id, "expired"),
            (running.operation_id, "running"),
            (parked.operation_id, "parked"),
            (today.operation_id, "running"),
        ]
    )
    # The key of a tombstone is still taken, by the same row; one that is gone is free.
    assert not isinstance(store.run(partial(store.verbs.claim, an_ask("key-0"))), Claimed)
    assert claimed(store, an_ask("key-3")).fence == 1
