"""What becomes of a store whose server dies, freezes, ends sessions or refuses."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any

import psycopg
import pytest

from retrysafe.errors import StoreCorrupt, StoreError, StoreUnavailable
from retrysafe.protocol.model import Message
from retrysafe.protocol.states import State
from retrysafe.protocol.verdicts import Claimed, InFlight
from retrysafe.stores.postgres import PostgresStore
from retrysafe.stores.program import Program, Statement
from retrysafe.testing.asks import an_ask
from retrysafe.testing.runner import Face, Runner
from tests.services.service import Service
from tests.stores.postgres.conftest import Sight
from tests.stores.postgres.relay import relay
from tests.stores.postgres.tools import claimed, one_statement, read, recording, until

SOON = timedelta(seconds=1)
SESSION = one_statement("SELECT pg_backend_pid()")
END_OTHERS = (
    "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity "
    "WHERE datname = current_database() AND pid <> pg_backend_pid()"
)


@pytest.fixture(params=["sync", "async"])
def face(request: pytest.FixtureRequest) -> Face:
    return request.param  # type: ignore[no-any-return]


class TestServer:
    def test_a_server_that_is_killed_is_unavailable_and_then_back_with_everything(
        self, own_postgres: Service, face: Face
    ) -> None:
        """D1, S1: without a restart of ours, and what was acknowledged is there."""
        runner = Runner(PostgresStore(own_postgres.url), face)
        kept = runner.claimed(an_ask("kept"))
        own_postgres.kill()
        for _ in range(3):
            with pytest.raises(StoreUnavailable, match=r"(?i)connect|terminat|closed"):
                runner.claim(an_ask("lost"))
        own_postgres.start()
        assert isinstance(runner.claim(an_ask("lost")), Claimed)
        runner.record(kept)
        assert runner.read(kept).state is State.DONE
        runner.close()

    def test_a_server_that_dies_under_a_transaction_takes_it_along(self, own_postgres: Service, face: Face) -> None:
        """D4: the claim that was not committed can be made again, by whoever comes first."""
        runner = Runner(PostgresStore(own_postgres.url), face)
        runner.open()
        ask = an_ask()

        def dying() -> Program[None]:
            yield from runner.store.verbs.claim(ask)
            own_postgres.kill()
            yield Statement("SELECT 1")

        with pytest.raises(StoreUnavailable):
            runner.run(dying)
        own_postgres.start()
        assert runner.look_up(ask) is None
        assert runner.claimed(an_ask()).fence == 1
        runner.close()

    def test_a_server_that_freezes_is_given_up_and_used_again_afterwards(
        self, own_postgres: Service, face: Face
    ) -> None:
        """D1: it says nothing, and nobody waits for ever."""
        runner = Runner(PostgresStore(own_postgres.url, timeout=timedelta(seconds=2)), face)
        runner.claimed(an_ask("before"))
        own_postgres.freeze()
        try:
            with pytest.raises(StoreUnavailable, match="not answered"):
                runner.claim(an_ask())
            with pytest.raises(StoreUnavailable, match="timeout"):
                # The connection is gone, and a new one is not answered, either.
                runner.claim(an_ask())
        finally:
            own_postgres.thaw()
        until(lambda: _works(runner))
        runner.close()

    def test_a_server_that_is_not_there_is_said_to_be_not_there_at_once(self, face: Face) -> None:
        """D1: with the reason, and without a password."""
        runner = Runner(PostgresStore("postgresql://me:secret@127.0.0.1:1/shop"), face)
        with pytest.raises(StoreUnavailable, match="refused") as refused:
            runner.claim(an_ask())
        assert "secret" not in str(refused.value)
        assert "secret" not in repr(runner.store)
        runner.close()

    def test_a_database_that_is_missing_is_named(self, database: str, face: Face) -> None:
        runner = Runner(PostgresStore(f"{database}_not"), face)
        with pytest.raises(StoreUnavailable, match="does not exist"):
            runner.open()
        runner.close()


def _works(runner: Runner) -> bool:
    try:
        # Of another key: what the server got while it was frozen may have been carried out (D4).
        return isinstance(runner.claim(an_ask("after", attempt_id="0190")), Claimed)
    except StoreUnavailable:
        return False


class TestSessions:
    def test_sessions_that_were_ended_while_they_rested_are_not_noticed(
        self, database: str, sight: Sight, face: Face
    ) -> None:
        """D1: such as by a fail-over or an administrator."""
        runner = Runner(PostgresStore(database), face)
        runner.claimed(an_ask("first"))
        sight.execute(END_OTHERS)
        runner.claimed(an_ask("second"))
        runner.close()

    def test_a_session_that_is_ended_in_the_middle_leaves_nothing(
        self, database: str, sight: Sight, face: Face
    ) -> None:
        """D4."""
        runner = Runner(PostgresStore(database), face)
        runner.open()
        ask = an_ask()

        def ended() -> Program[None]:
            yield from runner.store.verbs.claim(ask)
            sight.execute(END_OTHERS)

        with pytest.raises(StoreUnavailable):
            # Nothing but the commit was left to do.
            runner.run(ended)
        assert runner.look_up(ask) is None
        runner.close()

    def test_a_write_whose_answer_was_lost_is_made_again_and_tells(
        self, postgres: Service, database: str, face: Face
    ) -> None:
        """D4: by operation and fence; the claim is ours, and the outcome is the first one."""
        with relay(postgres.port) as wire:
            runner = Runner(PostgresStore(database.replace(f":{postgres.port}/", f":{wire.port}/")), face)
            runner.open()
            ask = an_ask()
            with wire.losing_answers_to(ask.identity.digest), pytest.raises(StoreUnavailable):
                runner.claim(ask)
            claim = runner.claimed(ask)
            assert (claim.fence, claim.attempt) == (1, 1)
            assert isinstance(runner.claim(an_ask()), InFlight)
            with wire.losing_answers_to(ask.identity.digest), pytest.raises(StoreUnavailable):
                runner.record(claim, b"first")
            runner.record(claim, b"second")
            assert runner.read(claim).outcome == b"first"
            runner.close()

    def test_a_commit_whose_answer_was_lost_is_made_again_and_tells(
        self, postgres: Service, database: str, face: Face
    ) -> None:
        """D4, I11: an outcome with a message, which is a transaction; the message is there once."""
        with relay(postgres.port) as wire:
            runner = Runner(PostgresStore(database.replace(f":{postgres.port}/", f":{wire.port}/")), face)
            claim = runner.claimed(an_ask())
            with wire.losing_answers_to(b"COMMIT\0"), pytest.raises(StoreUnavailable):
                runner.record(claim, b"first", messages=(Message("topic", b"1"),))
            runner.record(claim, b"second", messages=(Message("topic", b"2"),))
            assert runner.read(claim).outcome == b"first"
            [sent] = runner.run(lambda: runner.store.verbs.take_messages(10, 60.0))
            assert sent.message.payload == b"1"
            runner.close()

    def test_the_server_is_told_when_to_end_us(self, database: str, face: Face) -> None:
        """C7: so that a frozen process does not keep rows locked."""
        runner = Runner(PostgresStore(database, timeout=timedelta(seconds=7)), face)
        names = ("statement_timeout", "idle_in_transaction_session_timeout")
        asked = one_statement(f"SELECT {', '.join(f'current_setting({name!r})' for name in names)}")
        assert runner.run(asked) == [("7s", "7s")]
        runner.close()

    def test_a_statement_that_takes_too_long_is_ended_by_the_server(self, database: str, face: Face) -> None:
        """D1: and the connection is as good as before."""
        runner = Runner(PostgresStore(database), face)
        session = runner.run(SESSION)

        def slow() -> Program[None]:
            yield Statement("SET LOCAL statement_timeout = 20")
            yield Statement("SELECT pg_sleep(60)")

        with pytest.raises(StoreUnavailable, match="statement timeout"):
            runner.run(slow)
        assert runner.run(SESSION) == session
        runner.close()

    def test_a_transaction_that_does_nothing_is_ended_by_the_server(
        self, database: str, sight: Sight, face: Face
    ) -> None:
        """C7."""
        runner = Runner(PostgresStore(database), face)
        runner.open()

        def idle() -> Program[None]:
            answer = yield Statement("SELECT pg_backend_pid()")
            yield Statement("SET LOCAL idle_in_transaction_session_timeout = 20")
            alive = "SELECT count(*) FROM pg_stat_activity WHERE pid = %s"
            until(lambda: sight.execute(alive, (answer.rows[0][0],)).fetchone() == (0,))
            yield Statement("SELECT 1")

        with pytest.raises(StoreUnavailable):
            runner.run(idle)
        runner.claimed(an_ask())
        runner.close()

    def test_when_every_connection_is_in_use_others_wait_and_are_told(self, database: str) -> None:
        """D1."""
        store = PostgresStore(database, pool=1, timeout=SOON)
        store.open()
        in_use = store._pools.threads().pool.session()
        with in_use, pytest.raises(StoreUnavailable, match="all 1 connections"):
            store.run(SESSION)
        assert store.run(SESSION)
        store.close()

    def test_a_loop_waits_for_a_connection_as_well(self, database: str) -> None:
        """D1."""
        store = PostgresStore(database, pool=1, timeout=SOON)

        async def crowd() -> list[Any]:
            slow = asyncio.ensure_future(store.arun(one_statement("SELECT pg_sleep(0.1)")))
            quick = await asyncio.gather(*(store.arun(SESSION) for _ in range(5)))
            await slow
            with pytest.raises(StoreUnavailable, match="all 1 connections"):
                await asyncio.gather(*(store.arun(one_statement("SELECT pg_sleep(0.6)")) for _ in range(4)))
            return quick

        quick = asyncio.run(crowd())
        assert len({str(session) for session in quick}) == 1
        store.close()


class TestRefusals:
    def test_a_database_that_is_read_only_can_be_read(self, store: PostgresStore, database: str, sight: Sight) -> None:
        """D1: as it is on a standby, or when a provider has closed a full disk."""
        claim = claimed(store)
        name = database.rpartition("/")[2]
        sight.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on".encode())
        other = PostgresStore(database)
        with pytest.raises(StoreUnavailable, match="read-only"):
            other.run(recording(other, claim))
        assert read(other, claim).state is State.RUNNING
        other.close()

    def test_tables_that_were_dropped_are_made_again(self, store: PostgresStore, sight: Sight) -> None:
        """D1: the first to notice is told, and whoever comes then finds new ones."""
        claimed(store)
        sight.execute("DROP SCHEMA public CASCADE")
        sight.execute("CREATE SCHEMA public")
        with pytest.raises(StoreUnavailable, match="does not exist"):
            store.run(partial(store.verbs.claim, an_ask()))
        assert claimed(store).fence == 1

    def test_rights_that_were_taken_away_may_come_back(self, store: PostgresStore, database: str, sight: Sight) -> None:
        """D1."""
        sight.execute("DROP ROLE IF EXISTS clerk")
        sight.execute("CREATE ROLE clerk LOGIN")
        sight.execute("GRANT USAGE ON SCHEMA public TO clerk")
        sight.execute("GRANT SELECT ON ALL TABLES IN SCHEMA public TO clerk")
        clerk = PostgresStore(database.replace("tests@", "clerk@"), migrate=False)
        try:
            with pytest.raises(StoreUnavailable, match="permission denied"):
                clerk.run(partial(clerk.verbs.claim, an_ask()))
            sight.execute("GRANT ALL ON ALL TABLES IN SCHEMA public TO clerk")
            assert claimed(clerk).fence == 1
        finally:
            clerk.close()
            sight.execute("DROP OWNED BY clerk")
            sight.execute("DROP ROLE clerk")

    @pytest.mark.parametrize(
        ("code", "kind"),
        [
            ("XX001", StoreCorrupt),
            ("XX002", StoreCorrupt),
            ("53100", StoreUnavailable),
            ("53300", StoreUnavailable),
            ("57P01", StoreUnavailable),
            ("57P03", StoreUnavailable),
            ("55P03", StoreUnavailable),
            ("25P03", StoreUnavailable),
            ("0A000", StoreUnavailable),
            ("58030", StoreUnavailable),
            ("23505", StoreError),
            ("22P05", StoreError),
        ],
    )
    def test_the_server_s_words_have_a_meaning(self, store: PostgresStore, code: str, kind: type[StoreError]) -> None:
        """D1: what may pass, what a person must mend, and what is a defect of ours."""
        failing = one_statement(f"DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = '{code}'; END $$")
        with pytest.raises(StoreError) as raised:
            store.run(failing)
        assert type(raised.value) is kind
        assert claimed(store).fence == 1

    def test_an_error_of_a_program_rolls_back_and_spares_the_connection(self, store: PostgresStore, face: Face) -> None:
        """S11: such as a row that a newer version wrote."""
        runner = Runner(store, face)
        session = runner.run(SESSION)

        def failing() -> Program[None]:
            yield from store.verbs.claim(an_ask())
            raise LookupError("not ours to read")

        with pytest.raises(LookupError):
            runner.run(failing)
        assert runner.look_up(an_ask()) is None
        assert runner.run(SESSION) == session
        runner.close()


def test_no_connection_is_left_when_a_store_is_closed_or_forgotten(database: str, sight: Sight, face: Face) -> None:
    def is_alone() -> bool:
        others = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        return sight.execute(others).fetchone() == (0,)

    runner = Runner(PostgresStore(database), face)
    runner.claimed(an_ask())
    assert not is_alone()
    runner.close()
    until(is_alone)
    forgotten: list[PostgresStore] = [PostgresStore(database)]
    forgotten[0].open()
    assert not is_alone()
    forgotten.clear()
    until(is_alone)


def test_a_connection_says_whose_it_is(database: str, face: Face) -> None:
    asked = one_statement("SELECT current_setting('application_name'), current_setting('client_encoding')")
    for place, name in ((database, "retrysafe"), (f"{database}?application_name=shop", "shop")):
        runner = Runner(PostgresStore(place), face)
        assert runner.run(asked) == [(name, "UTF8")]
        runner.close()


def test_options_of_the_url_are_kept_beside_ours(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: Callable[[], Program[Any]] = one_statement(
        "SELECT current_setting('search_path'), current_setting('statement_timeout')"
    )
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("CREATE SCHEMA shop")
    store = PostgresStore(f"{database}?options=-c%20search_path%3Dshop")
    assert store.run(asked) == [("shop", "10s")]
    claimed(store)
    assert store.run(one_statement("SELECT count(*) FROM shop.retrysafe_checkpoint")) == [(1,)]
    store.close()
    monkeypatch.setenv("PGOPTIONS", "-c statement_timeout=3s")
    store = PostgresStore(database)
    assert store.run(asked) == [('"$user", public', "3s")]
    store.close()
