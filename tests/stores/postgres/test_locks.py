"""Who waits for whom: rows that transactions of others have locked, and transactions that collide."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from threading import Barrier, Thread

import psycopg
import pytest

from retrysafe.errors import StoreUnavailable
from retrysafe.protocol.effects import Superseded, Written
from retrysafe.protocol.model import Mode
from retrysafe.protocol.states import State
from retrysafe.protocol.steps import StepStatus
from retrysafe.protocol.verdicts import Claimed, InFlight, Mismatch
from retrysafe.stores.base import Held, Lost, Purged, Wanted
from retrysafe.stores.postgres import PostgresStore
from retrysafe.stores.program import Program, Statement
from retrysafe.testing.asks import a_memo, an_ask, some_terms
from retrysafe.testing.runner import Face, Runner
from tests.stores.postgres.conftest import Sight
from tests.stores.postgres.tools import claimed, locked, one_statement, read, recording, until

WANTED = Wanted("tests", frozenset(Mode))


class TestRenewal:
    def test_it_waits_for_no_row_lock_and_what_is_locked_counts_as_held(
        self, store: PostgresStore, database: str
    ) -> None:
        """C3: a local step's transaction has its checkpoint locked until it commits; the rest is renewed meanwhile."""
        claims = [claimed(store, an_ask(f"key-{number}", lease_seconds=100)) for number in range(3)]
        before = [read(store, claim).lease_until for claim in claims]
        with locked(database, claims[1]):
            assert store.run(partial(store.verbs.renew, claims)) == [Held()] * 3
            after = [read(store, claim).lease_until for claim in claims]
        assert after[0] > before[0]
        assert after[1] == before[1]
        assert after[2] > before[2]
        assert store.run(partial(store.verbs.renew, claims)) == [Held()] * 3
        assert read(store, claims[1]).lease_until > before[1]

    def test_what_is_locked_is_lost_when_its_lease_is_over(self, store: PostgresStore, database: str) -> None:
        """C3: then it may be a successor who has it locked."""
        claim = claimed(store, an_ask(lease_seconds=0.001))
        until(lambda: read(store, claim).lease_remaining_seconds < 0)
        with locked(database, claim):
            assert store.run(partial(store.verbs.renew, [claim])) == [Lost()]
        assert store.run(partial(store.verbs.renew, [claim])) == [Held()], "nobody took it over"

    def test_what_is_locked_is_lost_when_it_was_taken_over(self, store: PostgresStore, database: str) -> None:
        """C4: the fence is compared whether the row is locked or not."""
        claim = claimed(store, an_ask(mode=Mode.AGAIN, lease_seconds=0.001))
        until(lambda: read(store, claim).lease_remaining_seconds < 0)
        assert claimed(store, an_ask(mode=Mode.AGAIN)).fence == 2
        with locked(database, claim):
            assert store.run(partial(store.verbs.renew, [claim])) == [Lost()]

    def test_many_renewals_at_once_neither_wait_nor_fail(self, store: PostgresStore) -> None:
        """C3: in whatever order they name their claims."""
        claims = [claimed(store, an_ask(f"key-{number}", lease_seconds=100)) for number in range(300)]
        orders = [claims, claims[::-1], claims[150:] + claims[:150], claims[::2] + claims[1::2]]
        with ThreadPoolExecutor(4) as threads:
            answers = list(threads.map(lambda order: store.run(partial(store.verbs.renew, order)), orders * 3))
        assert all(answer == [Held()] * 300 for answer in answers)


class TestClaim:
    @pytest.mark.parametrize("body", ["charge 10", "charge 11"])
    def test_a_retry_does_not_wait_for_the_transaction_of_the_attempt(
        self, store: PostgresStore, database: str, body: str
    ) -> None:
        """C1, F1: it is told at once what stands in its way."""
        claim = claimed(store)
        with locked(database, claim):
            verdict = store.run(partial(store.verbs.claim, an_ask(body=body)))
        assert isinstance(verdict, InFlight if body == "charge 10" else Mismatch)

    @pytest.mark.parametrize("face", ["sync", "async"])
    def test_a_retry_does_not_wait_for_an_outcome_that_is_not_committed_yet(self, database: str, face: Face) -> None:
        """C1, R11: between its last statement and its commit an operation has its checkpoint changed."""
        runner = Runner(PostgresStore(database), face)
        claim = runner.claimed(an_ask())
        with psycopg.connect(database) as connection:
            ended = "UPDATE retrysafe_checkpoint SET state = 'done', outcome = '' WHERE operation_id = %s"
            assert connection.execute(ended, (claim.operation_id,)).rowcount == 1
            # Were it waited for, this would never return: it is rolled back only afterwards.
            assert isinstance(runner.claim(an_ask()), InFlight)
            assert isinstance(runner.claim(an_ask("another")), Claimed)
            connection.rollback()
        runner.close()

    def test_a_take_over_waits_for_whoever_has_the_row_locked_and_judges_anew(
        self, store: PostgresStore, database: str
    ) -> None:
        """C1, C4: the attempt's own commit came first."""
        claim = claimed(store, an_ask(mode=Mode.AGAIN, lease_seconds=0.001))
        until(lambda: read(store, claim).lease_remaining_seconds < 0)
        verdicts: list[object] = []
        retry = Thread(target=lambda: verdicts.append(store.run(partial(store.verbs.claim, an_ask(mode=Mode.AGAIN)))))
        with psycopg.connect(database) as connection:
            connection.execute("UPDATE retrysafe_checkpoint SET lease_until = lease_until + 1000")
            retry.start()
            _until_somebody_waits(database)
        retry.join()
        [verdict] = verdicts
        assert isinstance(verdict, InFlight)
        assert verdict.checkpoint.fence == 1

    @pytest.mark.parametrize("face", ["sync", "async"])
    def test_a_take_over_does_not_wait_for_long(self, database: str, face: Face) -> None:
        """C4, D1: whoever has the row locked may keep it so for long, and a few such keys would be all our sessions."""
        runner = Runner(PostgresStore(database), face)
        claim = runner.claimed(an_ask(mode=Mode.AGAIN, lease_seconds=0.001))
        until(lambda: runner.read(claim).lease_remaining_seconds < 0)
        seen = runner.read(claim)
        with locked(database, claim):
            # By the lock's limit, and not by the statement's.
            with pytest.raises(StoreUnavailable, match="lock timeout"):
                runner.claim(an_ask(mode=Mode.AGAIN))
            with pytest.raises(StoreUnavailable, match="lock timeout"):
                runner.reclaim(seen)
        assert runner.claimed(an_ask(mode=Mode.AGAIN)).fence == 2
        runner.close()

    def test_of_simultaneous_claims_of_a_released_key_one_wins(self, store: PostgresStore) -> None:
        """C1, S6."""
        for lap in range(1, 6):
            start = Barrier(16)

            def one(start: Barrier = start) -> object:
                start.wait()
                return store.run(partial(store.verbs.claim, an_ask(mode=Mode.AGAIN)))

            with ThreadPoolExecutor(16) as threads:
                verdicts = list(threads.map(lambda _, one=one: one(), range(16)))
            [won] = [verdict for verdict in verdicts if isinstance(verdict, Claimed)]
            assert won.claim.fence == lap
            store.run(partial(store.verbs.release, won.claim))

    def test_of_simultaneous_claims_of_a_forgotten_key_one_wins(self, store: PostgresStore) -> None:
        """C6, S10: its tombstone is over, so that the old row goes and a new one comes."""
        for _ in range(5):
            with ThreadPoolExecutor(12) as threads:
                asks = [an_ask(tombstone_seconds=0.0) for _ in range(12)]
                verdicts = list(threads.map(lambda ask: store.run(partial(store.verbs.claim, ask)), asks))
            [won] = [verdict for verdict in verdicts if isinstance(verdict, Claimed)]
            assert won.claim.fence == 1
            store.run(partial(store.verbs.release, won.claim))


class TestPurge:
    def test_what_is_just_being_claimed_is_not_deleted(self, store: PostgresStore, database: str) -> None:
        """S10: its tombstone was over when the purge looked, and the claim is committed afterwards."""
        claim = claimed(store, an_ask(mode=Mode.AGAIN, tombstone_seconds=0.0))
        store.run(partial(store.verbs.release, claim))
        with psycopg.connect(database) as connection:
            connection.execute(
                "UPDATE retrysafe_checkpoint SET state = 'running', fence = 2, lease_until = lease_until + 1000"
            )
            assert store.run(partial(store.verbs.purge, 100)) == Purged(0, 0, more=False)
        assert (read(store, claim).state, read(store, claim).fence) == (State.RUNNING, 2)

    def test_many_may_purge_at_once(self, store: PostgresStore) -> None:
        """S10: every row is counted once, and none is forgotten."""
        for number in range(60):
            claim = claimed(store, an_ask(f"key-{number}", tombstone_seconds=0.0))
            store.run(partial(store.verbs.release, claim))
        with ThreadPoolExecutor(6) as threads:
            purged = list(threads.map(lambda _: store.run(partial(store.verbs.purge, 10)), range(12)))
        assert sum(each.deleted for each in purged) == 60


class TestSteps:
    def test_a_memo_waits_for_a_take_over_and_is_refused(self, store: PostgresStore, database: str) -> None:
        """R5, C4: the fence is compared with what is committed, not with what was when the statement began."""
        claim = claimed(store, an_ask(mode=Mode.STEPS))
        receipts: list[object] = []
        memo = a_memo(status=StepStatus.INTENT)
        late = Thread(target=lambda: receipts.append(store.run(partial(store.verbs.memoize, claim, memo))))
        with psycopg.connect(database) as connection:
            connection.execute("UPDATE retrysafe_checkpoint SET fence = 2")
            late.start()
            _until_somebody_waits(database)
        late.join()
        assert receipts == [Superseded()]

    def test_a_hint_is_given_though_another_row_is_locked(self, store: PostgresStore, database: str) -> None:
        """R2: nobody waits for what another is just noting."""
        claims = [claimed(store, an_ask(f"key-{number}", lease_seconds=0.001)) for number in range(3)]
        until(lambda: len(store.query(partial(store.verbs.abandoned, 10))) == 3)
        with locked(database, claims[0]):
            hinted = store.run(partial(store.verbs.dispatch, WANTED, 10))
        assert {seen.operation_id for seen in hinted} == {claim.operation_id for claim in claims[1:]}
        [left] = store.run(partial(store.verbs.dispatch, WANTED, 10))
        assert left.operation_id == claims[0].operation_id
        assert store.run(partial(store.verbs.reclaim, left, some_terms())) is not None


class TestCollisions:
    def test_of_two_in_a_deadlock_both_are_carried_out(self, store: PostgresStore) -> None:
        """D4: the one that the server rolls back is run again."""
        claims = [claimed(store, an_ask(f"key-{number}")) for number in range(2)]
        both_have_one = Barrier(2)
        runs: list[int] = []

        def crossing(first: int) -> Program[None]:
            runs.append(first)
            yield _note(claims[first].operation_id)
            if len(runs) <= 2:
                both_have_one.wait()
            yield _note(claims[1 - first].operation_id)

        with ThreadPoolExecutor(2) as threads:
            list(threads.map(lambda first: store.run(partial(crossing, first)), (0, 1)))
        assert len(runs) == 3
        rows = store.query(one_statement("SELECT attempt FROM retrysafe_checkpoint"))
        assert rows == [(3,), (3,)]

    @pytest.mark.parametrize("code", ["40001", "40P01"])
    def test_what_collides_is_run_again_and_at_last_given_up(self, store: PostgresStore, code: str) -> None:
        """D1: within a bound, on the same connection."""
        runs: list[int] = []

        def colliding(times: int) -> Program[str]:
            runs.append(1)
            if len(runs) <= times:
                yield Statement(f"DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = '{code}'; END $$")
            yield from ()
            return "through"

        assert store.run(partial(colliding, 3)) == "through"
        assert asyncio.run(_awaited(store, partial(colliding, 7))) == "through"
        session = store.query(one_statement("SELECT pg_backend_pid()"))
        runs.clear()
        with pytest.raises(StoreUnavailable):
            store.run(partial(colliding, 1000))
        assert 5 <= len(runs) <= 20
        assert store.query(one_statement("SELECT pg_backend_pid()")) == session

    def test_a_database_with_another_isolation_changes_nothing(
        self, store: PostgresStore, database: str, sight: Sight
    ) -> None:
        """C1: writes are judged by what is committed; reads are of one moment (R4)."""
        name = database.rpartition("/")[2]
        sight.execute(f"ALTER DATABASE {name} SET default_transaction_isolation = 'serializable'".encode())
        other = PostgresStore(database)
        asked = one_statement(
            "SELECT current_setting('transaction_isolation'), current_setting('transaction_read_only')"
        )
        assert other.run(asked) == [("read committed", "off")]
        assert other.query(asked) == [("repeatable read", "on")]
        claim = claimed(other)
        assert isinstance(other.run(recording(other, claim)), Written)
        other.close()


async def _awaited(store: PostgresStore, program: partial[Program[str]]) -> str:
    try:
        return await store.arun(program)
    finally:
        await store.aclose()


def _note(operation_id: str) -> Statement:
    return Statement("UPDATE retrysafe_checkpoint SET attempt = attempt + 1 WHERE operation_id = ?", (operation_id,))


def _until_somebody_waits(database: str) -> None:
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    with ExitStack() as stack:
        sight = stack.enter_context(psycopg.connect(database, autocommit=True))
        until(lambda: sight.execute(waiting).fetchone() != (0,))
