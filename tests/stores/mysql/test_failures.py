"""What becomes of a store whose server dies, freezes, ends sessions or refuses."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest

from retrysafe.errors import StoreCorrupt, StoreError, StoreUnavailable
from retrysafe.protocol.states import State
from retrysafe.protocol.verdicts import Claimed, InFlight
from retrysafe.stores.mysql import MySQLStore, from_url
from retrysafe.stores.program import Program, Statement
from retrysafe.testing.asks import an_ask
from retrysafe.testing.runner import Face, Runner
from tests.services.mariadb import MariaDatabases
from tests.services.service import Service
from tests.stores.mysql.tools import SESSION, Sight, claimed, one_statement, read, recording, until
from tests.stores.postgres.relay import relay

SESSION_OF = one_statement(SESSION)


@pytest.fixture(params=["sync", "async"])
def face(request: pytest.FixtureRequest) -> Face:
    return request.param  # type: ignore[no-any-return]


@pytest.fixture
def own_database(own_mariadb: Service) -> str:
    databases = MariaDatabases(own_mariadb.url)
    url = databases.take()
    databases.close()
    return url


class TestServer:
    def test_a_server_that_is_killed_is_unavailable_and_then_back_with_everything(
        self, own_mariadb: Service, own_database: str, face: Face
    ) -> None:
        """D1, S1, D4: without a restart of ours; what was acknowledged is there, and what died with it is not."""
        runner = Runner(from_url(own_database), face)
        kept = runner.claimed(an_ask("kept"))
        ask = an_ask("dying")

        def dying() -> Program[None]:
            # In a transaction from its first statement on.
            yield Statement("SELECT 1")
            yield from runner.store.verbs.claim(ask)
            own_mariadb.kill()
            yield Statement("SELECT 1")

        with pytest.raises(StoreUnavailable):
            runner.run(dying)
        for _ in range(3):
            with pytest.raises(StoreUnavailable, match=r"(?i)connect|gone"):
                runner.claim(an_ask("lost"))
        own_mariadb.start()
        assert isinstance(runner.claim(an_ask("lost")), Claimed)
        assert runner.look_up(ask) is None
        runner.record(kept)
        assert runner.read(kept).state is State.DONE
        runner.close()

    def test_a_server_that_freezes_is_given_up_and_used_again_afterwards(
        self, own_mariadb: Service, own_database: str, face: Face
    ) -> None:
        """D1: it says nothing, and nobody waits for ever."""
        runner = Runner(from_url(f"{own_database}?timeout=1s"), face)
        runner.claimed(an_ask("before"))
        own_mariadb.freeze()
        try:
            for _ in range(2):
                # First the connection is given up, then a new one is not answered, either.
                with pytest.raises(StoreUnavailable, match=r"(?i)timed? ?out|Lost connection|Can't connect"):
                    runner.claim(an_ask())
        finally:
            own_mariadb.thaw()
        until(lambda: _works(runner))
        runner.close()

    def test_a_server_that_is_not_there_is_said_to_be_not_there_at_once(self, face: Face) -> None:
        """D1: with the reason, and without a password."""
        runner = Runner(from_url("mysql://me:secret@127.0.0.1:1/shop"), face)
        with pytest.raises(StoreUnavailable, match="refused") as refused:
            runner.claim(an_ask())
        assert "secret" not in str(refused.value)
        assert "secret" not in repr(runner.store)
        runner.close()

    def test_a_database_that_is_missing_and_an_account_that_is_refused_are_named(self, database: str) -> None:
        """K8: and no password."""
        with pytest.raises(StoreUnavailable, match="Unknown database"):
            from_url(f"{database}_not").open()
        with pytest.raises(StoreUnavailable, match="Access denied") as refused:
            from_url(database.replace("tests@", "nobody:secret@")).open()
        assert "secret" not in str(refused.value)


def _works(runner: Runner) -> bool:
    try:
        # Of another key: what was sent to a server that was frozen may have been carried out when it woke.
        return isinstance(runner.claim(an_ask("afterwards", attempt_id="0190")), Claimed)
    except StoreUnavailable:
        return False


class TestSessions:
    def test_sessions_that_were_ended_while_they_rested_are_not_noticed(
        self, database: str, sight: Sight, face: Face
    ) -> None:
        """D1: such as by a fail-over or an administrator."""
        runner = Runner(from_url(database), face)
        runner.claimed(an_ask("first"))
        sight.end_others()
        until(lambda: not sight.others())
        runner.claimed(an_ask("second"))
        runner.close()

    def test_a_session_that_is_ended_in_the_middle_leaves_nothing(
        self, database: str, sight: Sight, face: Face
    ) -> None:
        """D4."""
        runner = Runner(from_url(database), face)
        runner.open()
        ask = an_ask()

        def ended() -> Program[None]:
            yield Statement("SELECT 1")
            yield from runner.store.verbs.claim(ask)
            sight.end_others()

        with pytest.raises(StoreUnavailable):
            # Nothing but the commit was left to do.
            runner.run(ended)
        assert runner.look_up(ask) is None
        runner.close()

    @pytest.mark.parametrize("commits", ["alone", "in a transaction"])
    def test_a_commit_whose_answer_was_lost_is_made_again_and_tells(
        self, mariadb: Service, database: str, face: Face, commits: str
    ) -> None:
        """D4: by operation and fence; the claim is ours, and the outcome is the first one."""
        with relay(mariadb.port) as wire:
            runner = Runner(from_url(database.replace(f":{mariadb.port}/", f":{wire.port}/")), face)
            runner.open()
            ask = an_ask()

            def claiming() -> Program[object]:
                yield Statement("SELECT 1")
                return (yield from runner.store.verbs.claim(ask))

            part = b"INTO retrysafe_checkpoint" if commits == "alone" else b"COMMIT"
            with wire.losing_answers_to(part), pytest.raises(StoreUnavailable):
                _ = runner.claim(ask) if commits == "alone" else runner.run(claiming)
            claim = runner.claimed(ask)
            assert (claim.fence, claim.attempt) == (1, 1)
            assert isinstance(runner.claim(an_ask()), InFlight)
            with wire.losing_answers_to(b"UPDATE retrysafe_checkpoint"), pytest.raises(StoreUnavailable):
                runner.record(claim, b"first")
            until(lambda: runner.read(claim).state is State.DONE)
            runner.record(claim, b"second")
            assert runner.read(claim).outcome == b"first"
            runner.close()

    def test_the_server_is_told_when_to_end_us(self, database: str, face: Face) -> None:
        """C7: so that a frozen process does not keep rows locked."""
        runner = Runner(from_url(f"{database}?timeout=7s"), face)
        names = ("max_statement_time", "idle_transaction_timeout", "innodb_lock_wait_timeout")
        [asked] = runner.run(one_statement(f"SELECT {', '.join(f'@@SESSION.{name}' for name in names)}"))
        assert asked == (7.0, 7, 2)
        runner.close()

    def test_a_statement_that_takes_too_long_is_ended_by_the_server(self, database: str, face: Face) -> None:
        """D1: and the connection is as good as before."""
        runner = Runner(from_url(f"{database}?timeout=200ms"), face)
        session = runner.run(SESSION_OF)
        with pytest.raises(StoreUnavailable, match="max_statement_time"):
            runner.run(one_statement("SELECT sleep(60)"))
        assert runner.run(SESSION_OF) == session
        runner.close()

    def test_a_transaction_that_does_nothing_is_ended_by_the_server(
        self, database: str, sight: Sight, face: Face
    ) -> None:
        """C7."""
        runner = Runner(from_url(f"{database}?timeout=1s"), face)
        runner.open()

        def idle() -> Program[None]:
            answer = yield Statement("SELECT connection_id()")
            until(lambda: answer.rows[0][0] not in sight.others())
            yield Statement("SELECT 1")

        with pytest.raises(StoreUnavailable):
            runner.run(idle)
        runner.claimed(an_ask())
        runner.close()

    def test_when_every_connection_is_in_use_others_wait_and_are_told(self, database: str) -> None:
        """D1."""
        store = from_url(f"{database}?pool=1&timeout=1s")
        store.open()
        pool = store._pools.threads().pool
        held = pool.lend()
        with pytest.raises(StoreUnavailable, match="all 1 connections"):
            store.run(SESSION_OF)
        pool.give_back(held, fit=True)
        assert store.run(SESSION_OF)
        store.close()

    def test_a_free_connection_goes_to_whoever_has_waited_longest(self, database: str) -> None:
        """D1: nobody who comes later overtakes, in threads and on a loop."""
        store = from_url(f"{database}?pool=1")
        store.open()
        pool = store._pools.threads().pool
        held, served = pool.lend(), list[int]()
        with ThreadPoolExecutor(4) as threads:
            for number in range(4):
                threads.submit(store.run, partial(_note, served, number))
                until(lambda number=number: len(pool._waiting) == number + 1)  # type: ignore[misc]
            pool.give_back(held, fit=True)
        assert served == [0, 1, 2, 3]
        served.clear()

        async def on_a_loop() -> None:
            await asyncio.gather(*(store.arun(partial(_note, served, number)) for number in range(4)))

        asyncio.run(on_a_loop())
        assert served == [0, 1, 2, 3]
        store.close()

    def test_a_loop_waits_for_a_connection_as_well(self, database: str) -> None:
        """D1: and who gives up leaves its place."""
        store = from_url(f"{database}?pool=1&timeout=1s")

        async def crowd() -> list[Any]:
            quick = await asyncio.gather(*(store.arun(SESSION_OF) for _ in range(5)))
            with pytest.raises(StoreUnavailable, match="all 1 connections"):
                await asyncio.gather(*(store.arun(one_statement("SELECT sleep(0.6)")) for _ in range(4)))
            return [*quick, await store.arun(SESSION_OF)]

        asyncio.run(crowd())
        store.close()


def _note(served: list[int], number: int) -> Program[None]:
    yield Statement("SELECT 1")
    served.append(number)


class TestRefusals:
    def test_a_server_that_is_read_only_can_be_read(self, own_mariadb: Service, own_database: str) -> None:
        """D1: as a replica is."""
        store = from_url(own_database)
        claim = claimed(store)
        sight = Sight(own_database)
        sight.ask("CREATE USER IF NOT EXISTS clerk@'127.0.0.1'")
        sight.ask("GRANT ALL ON *.* TO clerk@'127.0.0.1'")
        sight.ask("REVOKE READ ONLY ADMIN, SUPER ON *.* FROM clerk@'127.0.0.1'")
        sight.ask("SET GLOBAL read_only = ON")
        clerk = from_url(own_database.replace("tests@", "clerk@"))
        try:
            with pytest.raises(StoreUnavailable, match="read-only"):
                clerk.run(recording(clerk, claim))
            assert read(clerk, claim).state is State.RUNNING
        finally:
            sight.ask("SET GLOBAL read_only = OFF")
            for each in (clerk, store, sight):
                each.close()

    def test_tables_that_were_dropped_are_made_again(self, maria_database: str) -> None:
        """D1: the first to notice is told, and whoever comes then finds new ones."""
        store, sight = from_url(maria_database), Sight(maria_database)
        claimed(store)
        for (table,) in sight.ask("SHOW TABLES"):
            sight.ask(f"DROP TABLE {table}")
        with pytest.raises(StoreUnavailable, match="doesn't exist"):
            store.run(partial(store.verbs.claim, an_ask()))
        assert claimed(store).fence == 1
        store.close()
        sight.close()

    def test_what_is_larger_than_the_server_takes_is_refused_by_name(self, database: str, face: Face) -> None:
        """S5: before the server cuts the connection for it, and with the setting's name."""
        runner = Runner(from_url(database), face)
        session = runner.run(SESSION_OF)
        claim = runner.claimed(an_ask())
        with pytest.raises(StoreError, match="max_allowed_packet") as refused:
            runner.record(claim, bytes(17 * 2**20))
        assert not isinstance(refused.value, StoreUnavailable)
        runner.record(claim, bytes(2**20))
        assert runner.run(SESSION_OF) == session
        runner.close()

    @pytest.mark.parametrize(
        ("code", "kind"),
        [
            (1194, StoreCorrupt),
            (1712, StoreCorrupt),
            (1114, StoreUnavailable),
            (1040, StoreUnavailable),
            (1053, StoreUnavailable),
            (1290, StoreUnavailable),
            (1419, StoreUnavailable),
            (1146, StoreUnavailable),
            (1064, StoreError),
            (1406, StoreError),
            (4025, StoreError),
        ],
    )
    def test_the_server_s_words_have_a_meaning(self, store: MySQLStore, code: int, kind: type[StoreError]) -> None:
        """D1: what may pass, what a person must mend, and what is a defect of ours."""
        failing = one_statement(f"SIGNAL SQLSTATE '45000' SET MYSQL_ERRNO = {code}")
        with pytest.raises(StoreError) as raised:
            store.run(failing)
        assert type(raised.value) is kind
        assert claimed(store).fence == 1

    def test_an_error_of_a_program_rolls_back_and_spares_the_connection(self, store: MySQLStore, face: Face) -> None:
        """S11: such as a row that a newer version wrote."""
        runner = Runner(store, face)
        session = runner.run(SESSION_OF)

        def failing() -> Program[None]:
            yield Statement("SELECT 1")
            yield from store.verbs.claim(an_ask())
            raise LookupError("not ours to read")

        with pytest.raises(LookupError):
            runner.run(failing)
        assert runner.look_up(an_ask()) is None
        assert runner.run(SESSION_OF) == session
        runner.close()


def test_no_connection_is_left_when_a_store_is_closed_or_forgotten(database: str, sight: Sight, face: Face) -> None:
    runner = Runner(from_url(database), face)
    runner.claimed(an_ask())
    assert sight.others()
    runner.close()
    until(lambda: not sight.others())
    forgotten: list[MySQLStore] = [from_url(database)]
    forgotten[0].open()
    assert sight.others()
    forgotten.clear()
    until(lambda: not sight.others())


def test_the_clock_of_an_application_s_host_changes_nothing(store: MySQLStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """C2: it may be an hour ahead or behind; every instant is the server's."""
    claim = claimed(store, an_ask(lease_seconds=100))
    before, real = read(store, claim), time.time
    for skew in (-3600.0, 3600.0):
        monkeypatch.setattr(time, "time", lambda skew=skew: real() + skew)
        assert isinstance(store.run(partial(store.verbs.claim, an_ask())), InFlight)
        store.run(partial(store.verbs.renew, [claim]))
        met = read(store, claim)
        assert 0 <= met.lease_until - before.lease_until < PATIENCE
        assert abs(met.now - real()) < PATIENCE


PATIENCE = 90.0
