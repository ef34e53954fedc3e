"""Migrations of the PostgreSQL store: generated text, by hand, by command, and by several at once."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from itertools import count
from threading import Event

import psycopg
import pytest

from retrysafe.errors import ConfigurationError, SchemaMismatch, StoreError
from retrysafe.protocol.effects import Written
from retrysafe.protocol.model import Checkpoint, Claim, Mode
from retrysafe.protocol.states import LEASED, State
from retrysafe.protocol.steps import StepKind, StepStatus
from retrysafe.stores.postgres import PostgresStore, migrate, migrations, migrations_sql, pending
from retrysafe.stores.postgres.connect import Settings
from retrysafe.stores.postgres.dialect import ServerInstants, statements
from retrysafe.stores.rows import COLUMNS, before, one_of
from retrysafe.stores.sql.migrations import Migration
from retrysafe.stores.sql.recovery import SQLVerbs
from retrysafe.stores.sqlite.dialect import statements as sqlite_statements
from retrysafe.testing.asks import a_memo, an_ask
from tests.stores.postgres.conftest import Sight
from tests.stores.postgres.tools import claimed, recording, until

COLUMNS_THERE = """
SELECT table_name, column_name, data_type, is_nullable, column_default FROM information_schema.columns
WHERE table_schema = 'public' ORDER BY table_name, column_name
"""
INDEXES_THERE = "SELECT indexdef FROM pg_indexes WHERE schemaname = 'public' ORDER BY indexdef"
TEXTS = statements()._texts


@pytest.fixture
def settings(database: str) -> Settings:
    return Settings(conninfo=database)


def schema(database: str) -> list[tuple[object, ...]]:
    with psycopg.connect(database) as connection:
        return connection.execute(COLUMNS_THERE).fetchall() + connection.execute(INDEXES_THERE).fetchall()


def words(text: str) -> str:
    """The text without its layout."""
    return re.sub(r"\s+", " ", text).replace("( ", "(").replace(" )", ")")


def test_constraints_and_indexes_are_those_of_the_states_and_steps() -> None:
    """I1: the tables say what ``protocol/states.py`` says."""
    text = words(migrations()[0].text)
    assert f"CHECK {one_of(State)}" in text
    assert f"WHERE {one_of(LEASED).strip('()')};" in text
    assert f"WHERE {one_of({State.PARKED}).strip('()')};" in text
    for column, values in (("kind", StepKind), ("status", StepStatus)):
        [check] = re.findall(rf"CHECK \(({column} = [^)]*)\)", text)
        assert set(re.findall(r"'(\w+)'", check)) == {value.value for value in values}


def test_every_write_leaves_only_the_states_that_it_may_leave() -> None:
    """C4: no placeholder is left, and each write that leads to a state names where it may come from."""
    for name, target in {
        "take": State.RUNNING,
        "take_to_undo": State.UNDOING,
        "record": State.DONE,
        "record_undone": State.UNDONE,
        "release": State.RELEASED,
        "begin_stream": State.STREAMING,
        "park": State.PARKED,
        "park_abandoned": State.PARKED,
        "purge_outcomes": State.EXPIRED,
    }.items():
        assert f"state = '{target}'" in TEXTS[name]
        assert f"AND {before(target)}" in TEXTS[name]
    left = {name for name, text in TEXTS.items() if re.search(r"\$[a-z]", text)}
    assert left == {"enter", "finish", "note", "hand_over", "listing", "memoize"}


def test_statements_can_be_worded_for_any_driver() -> None:
    """A question mark is a placeholder and nothing else, and there is no per cent sign."""
    others = sqlite_statements()._texts
    for name, text in TEXTS.items():
        code = re.sub(r"--.*", "", text)
        assert "%" not in text, name
        assert "?" not in re.findall(r"'[^']*'", code), name
        assert "?" not in "".join(re.findall(r"--.*", text)), name
        if name in others and name not in {"operation_begins_with", "renew"}:
            assert code.count("?") == others[name].count("?"), f"{name} takes other parameters than SQLite's"


def test_every_field_of_a_checkpoint_is_a_column(database: str, settings: Settings) -> None:
    """S11: nothing is kept that no code reads."""
    migrate(settings)
    columns = [str(row[1]) for row in schema(database) if row[0] == "retrysafe_checkpoint"]
    assert sorted(columns) == sorted([*COLUMNS, "number", "next_hint_at", "messages"])


def test_a_new_database_lacks_everything_and_then_nothing(database: str, settings: Settings) -> None:
    assert pending(settings) == migrations()
    assert schema(database) == [], "it only looks"
    assert migrate(settings) == migrations()
    assert (pending(settings), migrate(settings)) == ((), ())
    store = PostgresStore(database, migrate=False)
    assert store.open().schema_version == migrations()[-1].number
    store.close()


def test_a_store_that_may_not_migrate_says_what_is_missing(database: str) -> None:
    store = PostgresStore(database, migrate=False)
    with pytest.raises(SchemaMismatch) as refused:
        store.open()
    assert (refused.value.found, refused.value.needed) == (0, migrations()[-1].number)
    assert schema(database) == []
    store.close()


def test_a_schema_applied_by_hand_is_the_same(database: str, settings: Settings, sight: Sight) -> None:
    """K4: for people whose processes may not change tables; the meta row is made at first use."""
    migrate(settings)
    by_command = schema(database)
    sight.execute("DROP SCHEMA public CASCADE")
    sight.execute("CREATE SCHEMA public")
    sight.execute(migrations_sql().encode())
    assert schema(database) == by_command
    assert pending(settings) == ()
    store = PostgresStore(database, migrate=False)
    assert len(store.open().pepper) == 32
    store.close()


def test_a_step_that_fails_leaves_nothing(
    database: str, settings: Settings, monkeypatch: pytest.MonkeyPatch, sight: Sight
) -> None:
    """D1: all steps are one transaction."""
    bad = Migration(
        99, "0099_bad", "CREATE TABLE retrysafe_new (a INTEGER); CREATE TABLE retrysafe_meta (b TEXT);", "0"
    )
    monkeypatch.setattr("retrysafe.stores.postgres.schema.migrations", lambda: (*migrations(), bad))
    sight.execute("CREATE TABLE theirs (a INTEGER)")
    before_it = schema(database)
    with pytest.raises(StoreError, match="already exists"):
        migrate(settings)
    assert schema(database) == before_it


def test_a_step_that_came_later_is_applied_alone(
    database: str, settings: Settings, monkeypatch: pytest.MonkeyPatch, sight: Sight
) -> None:
    migrate(settings)
    later = Migration(99, "0099_later", "CREATE TABLE retrysafe_later (a INTEGER);", "0")
    monkeypatch.setattr("retrysafe.stores.postgres.schema.migrations", lambda: (*migrations(), later))
    assert pending(settings) == (later,)
    assert migrate(settings) == (later,)
    assert sight.execute("SELECT count(*) FROM retrysafe_later").fetchone() == (0,)


def test_a_migration_adds_first_and_takes_away_when_it_is_told_to(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, sight: Sight
) -> None:
    """D1: so that old code and new code run side by side, and old code can even start."""
    old = migrations()[:1]
    text = "ALTER TABLE retrysafe_inbox ADD more TEXT;\n-- post\nALTER TABLE retrysafe_inbox DROP received_at;\n"
    step = Migration(2, "0002_more", text, "0")
    monkeypatch.setattr("retrysafe.stores.postgres.schema.migrations", lambda: old)
    migrate(settings)
    monkeypatch.setattr("retrysafe.stores.postgres.schema.migrations", lambda: (*old, step))
    store = PostgresStore(settings.conninfo, migrate=False)
    with pytest.raises(SchemaMismatch):
        store.open()
    columns = "SELECT column_name FROM information_schema.columns WHERE table_name = 'retrysafe_inbox'"
    assert migrate(settings, "pre") == (step,)
    assert migrate(settings, "pre") == ()
    assert {("more",), ("received_at",)} <= set(sight.execute(columns).fetchall())
    store.open()
    store.close()
    assert pending(settings) == (step,)
    with monkeypatch.context() as before:
        before.setattr("retrysafe.stores.postgres.schema.migrations", lambda: old)
        store.open()
        store.close()
    assert migrate(settings, "post") == (step,)
    assert ("received_at",) not in sight.execute(columns).fetchall()
    assert (pending(settings), migrate(settings)) == ((), ())


def test_a_process_that_starts_changes_nothing_that_old_code_needs(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """D1: the first of the new processes may migrate by itself; the second phase is a person's."""
    monkeypatch.setattr("retrysafe.stores.postgres.schema.migrations", lambda: migrations()[:1])
    migrate(settings)
    monkeypatch.undo()
    store = PostgresStore(settings.conninfo)
    claimed(store)
    store.close()
    assert pending(settings) == migrations()[1:]
    assert migrate(settings) == migrations()[1:]


def test_old_code_goes_on_under_load_while_the_schema_is_migrated(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, sight: Sight
) -> None:
    """D1, C1: old statements before, between and after the phases; each operation once, whoever claims it."""
    monkeypatch.setattr("retrysafe.stores.postgres.schema.migrations", lambda: migrations()[:1])
    old = PostgresStore(settings.conninfo)
    # The words of the first release: the time in a statement of its own, and each write in a transaction.
    old.verbs = OldVerbs()
    old.open()
    monkeypatch.undo()
    ends, number = Event(), count()
    claims: list[Claim] = []

    def work() -> None:
        while not ends.is_set():
            claim = claimed(old, an_ask(f"key-{next(number)}"))
            claims.append(claim)
            assert isinstance(old.run(recording(old, claim)), Written)

    def and_some_more(of: int = 40) -> None:
        enough = len(claims) + of
        until(lambda: len(claims) > enough)

    with ThreadPoolExecutor(3) as threads:
        workers = [threads.submit(work) for _ in range(3)]
        and_some_more()
        new = PostgresStore(settings.conninfo)
        new.open()
        and_some_more()
        mine = claimed(new, an_ask("new"))
        assert isinstance(new.run(recording(new, mine)), Written)
        for claim in claims[:20]:
            assert isinstance(new.run(partial(new.verbs.read, claim.digest)), Checkpoint)
        migrate(settings)
        and_some_more()
        ends.set()
        for worker in workers:
            worker.result()
    counted = "SELECT count(*), count(*) FILTER (WHERE state = 'done') FROM retrysafe_checkpoint"
    assert sight.execute(counted).fetchone() == (len(claims) + 1, len(claims) + 1)
    old.close()
    new.close()


class OldVerbs(SQLVerbs):
    def __init__(self) -> None:
        super().__init__(statements(), ServerInstants())


def test_a_schema_from_the_future_is_left_alone(settings: Settings, sight: Sight, database: str) -> None:
    migrate(settings)
    sight.execute("INSERT INTO retrysafe_migration VALUES (999, 'future', 'x')")
    store = PostgresStore(database)
    for act in (lambda: pending(settings), lambda: migrate(settings), store.open):
        with pytest.raises(SchemaMismatch) as refused:
            act()
        assert refused.value.found == 999
    store.close()


def test_a_changed_step_is_refused_by_name(settings: Settings, sight: Sight) -> None:
    migrate(settings)
    sight.execute("UPDATE retrysafe_migration SET digest = 'x'")
    for act in (pending, migrate):
        with pytest.raises(ConfigurationError, match="0001_checkpoint"):
            act(settings)


def test_a_server_that_is_too_old_is_named(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("retrysafe.stores.postgres.schema._OLDEST_SERVER", 990_000)
    with pytest.raises(ConfigurationError, match=r"this server is PostgreSQL \d+: retrysafe needs"):
        pending(settings)


def test_a_migration_is_not_ended_by_the_time_limit_of_statements(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """D1: a large table takes its time."""
    slow = Migration(99, "0099_slow", "SELECT pg_sleep(3.5);", "0")
    monkeypatch.setattr("retrysafe.stores.postgres.schema.migrations", lambda: (*migrations(), slow))
    assert migrate(replace(settings, timeout_seconds=1.0)) == (*migrations(), slow)


class TestTriggers:
    """What the tables refuse by themselves, whoever asks."""

    def test_the_audit_is_append_only(self, store: PostgresStore, sight: Sight) -> None:
        """R10."""
        line = "INSERT INTO retrysafe_audit (at, operation_id, verb, by, note, state_before, state_after, fence_after)"
        sight.execute(f"{line} VALUES (0, 'x', 'settle', 'ada', 'n', 'parked', 'done', 2)".encode())
        for act in ("UPDATE retrysafe_audit SET note = ''", "DELETE FROM retrysafe_audit", "TRUNCATE retrysafe_audit"):
            with pytest.raises(psycopg.Error, match="append-only"):
                sight.execute(act.encode())
        assert sight.execute("SELECT note FROM retrysafe_audit").fetchall() == [("n",)]

    def test_a_memo_that_is_no_intent_never_changes(self, store: PostgresStore, sight: Sight) -> None:
        """I2."""
        claim = claimed(store, an_ask(mode=Mode.STEPS))
        store.run(lambda: store.verbs.memoize(claim, a_memo(status=StepStatus.DONE, value=b"1")))
        with pytest.raises(psycopg.Error, match="never changes"):
            sight.execute("UPDATE retrysafe_step SET value = NULL")

    def test_memos_go_with_their_checkpoint(self, store: PostgresStore, sight: Sight) -> None:
        """S10."""
        claim = claimed(store, an_ask(mode=Mode.STEPS))
        other = claimed(store, an_ask("other", mode=Mode.STEPS))
        for each in (claim, other):
            store.run(lambda each=each: store.verbs.memoize(each, a_memo()))  # type: ignore[misc]
        sight.execute("DELETE FROM retrysafe_checkpoint WHERE operation_id = %s", (claim.operation_id,))
        assert sight.execute("SELECT operation_id FROM retrysafe_step").fetchall() == [(other.operation_id,)]
