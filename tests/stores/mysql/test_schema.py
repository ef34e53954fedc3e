"""Migrations of the MySQL store: by hand, by command, interrupted, and from other times."""

from __future__ import annotations

import re

import pymysql
import pytest

from retrysafe.errors import ConfigurationError, SchemaMismatch, StoreError
from retrysafe.protocol.model import Mode
from retrysafe.protocol.states import State
from retrysafe.protocol.steps import StepStatus
from retrysafe.stores.mysql import MySQLStore, from_url, migrate, migrations, migrations_sql, pending
from retrysafe.stores.mysql.dialect import statements
from retrysafe.stores.mysql.location import settings_of
from retrysafe.stores.rows import COLUMNS, before, one_of
from retrysafe.stores.sql.migrations import Migration
from retrysafe.testing.asks import a_memo, an_ask
from tests.stores.mysql.tools import Sight, claimed

TEXTS = statements()._texts


def schema(url: str) -> list[tuple[object, ...]]:
    sight = Sight(url)
    columns = sight.ask(
        "SELECT table_name, column_name, column_type, collation_name, is_nullable, column_default "
        "FROM information_schema.columns WHERE table_schema = database() ORDER BY 1, 2"
    )
    triggers = sight.ask(
        "SELECT trigger_name, action_statement FROM information_schema.triggers WHERE trigger_schema = database() "
        "ORDER BY 1"
    )
    sight.close()
    return columns + [(name, " ".join(text.split())) for name, text in triggers]


def test_every_write_leaves_only_the_states_that_it_may_leave() -> None:
    """C4, I1: no placeholder is left, and the tables say what ``protocol/states.py`` says."""
    assert f"CHECK {one_of(State)}" in re.sub(r"\s+", " ", migrations()[0].text).replace("( ", "(").replace(" )", ")")
    for name, target in {
        "take": State.RUNNING,
        "record": State.DONE,
        "finish": State.DONE,
        "finish_all": State.DONE,
    }.items():
        assert before(target) in TEXTS[name]
    for name, text in TEXTS.items():
        assert "%" not in text, name
        assert "?" not in "".join(re.findall(r"--.*", text)), name


def test_every_field_of_a_checkpoint_is_a_column(database: str) -> None:
    """S11: nothing is kept that no code reads."""
    columns = [str(row[1]) for row in schema(database) if row[0] == "retrysafe_checkpoint"]
    assert sorted(columns) == sorted([*COLUMNS, "number", "next_hint_at", "messages"])


def test_a_new_database_lacks_everything_and_then_nothing(maria_database: str) -> None:
    settings = settings_of(maria_database)
    assert pending(settings) == migrations()
    assert schema(maria_database) == [], "it only looks"
    refused = from_url(f"{maria_database}?migrate=false")
    with pytest.raises(SchemaMismatch):
        refused.open()
    assert migrate(settings) == migrations()
    assert (pending(settings), migrate(settings)) == ((), ())
    assert refused.open().schema_version == migrations()[-1].number
    refused.close()


def test_a_schema_applied_by_hand_is_the_same(maria_database: str, database: str) -> None:
    """K4: by a client that knows DELIMITER; the meta row is made at first use."""
    sight = Sight(maria_database)
    text = re.sub(r"(?m)^DELIMITER .*$", "", migrations_sql())
    for part in text.split(" //"):
        if part.strip():
            sight.ask(part)
    sight.close()
    assert schema(maria_database) == schema(database)
    store = from_url(f"{maria_database}?migrate=false")
    assert len(store.open().pepper) == 32
    store.close()


def test_a_step_that_was_interrupted_is_run_again(maria_database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """D1: neither server takes a table back; what is there already is left as it is."""
    settings, [step] = settings_of(maria_database), migrations()
    broken = Migration(step.number, step.name, step.text.replace("DROP TRIGGER", "DROPP TRIGGER", 1), step.digest)
    with monkeypatch.context() as patched:
        patched.setattr("retrysafe.stores.mysql.schema.migrations", lambda: (broken,))
        with pytest.raises(StoreError, match="SQL syntax"):
            migrate(settings)
    assert pending(settings) == (step,)
    assert migrate(settings) == (step,)


def test_a_schema_from_another_time_is_refused_by_name(maria_database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = settings_of(maria_database)
    migrate(settings)
    sight = Sight(maria_database)
    sight.ask("UPDATE retrysafe_migration SET digest = 'x'")
    with pytest.raises(ConfigurationError, match="0001_checkpoint"):
        migrate(settings)
    sight.ask("INSERT INTO retrysafe_migration VALUES (999, 'future', 'x')")
    with pytest.raises(SchemaMismatch) as refused:
        pending(settings)
    assert refused.value.found == 999
    sight.close()
    monkeypatch.setattr("retrysafe.stores.mysql.schema._OLDEST_MARIADB", (99, 0))
    with pytest.raises(ConfigurationError, match=r"this server is MariaDB \d+\.\d+: retrysafe needs 99.0"):
        pending(settings)


class TestTriggers:
    """What the tables refuse by themselves, whoever asks."""

    def test_the_audit_is_append_only(self, store: MySQLStore, sight: Sight) -> None:
        """R10."""
        line = (
            "INSERT INTO retrysafe_audit (at, operation_id, verb, `by`, note, state_before, state_after, fence_after)"
        )
        sight.ask(f"{line} VALUES (0, 'x', 'settle', 'ada', 'n', 'parked', 'done', 2)")
        for act in ("UPDATE retrysafe_audit SET note = ''", "DELETE FROM retrysafe_audit"):
            with pytest.raises(pymysql.MySQLError, match="append-only"):
                sight.ask(act)
        assert sight.ask("SELECT note FROM retrysafe_audit") == [("n",)]

    def test_a_memo_that_is_no_intent_never_changes_and_goes_with_its_checkpoint(
        self, store: MySQLStore, sight: Sight
    ) -> None:
        """I2, S10."""
        claims = [claimed(store, an_ask(key, mode=Mode.STEPS)) for key in ("one", "other")]
        for claim in claims:
            memo = a_memo(status=StepStatus.DONE, value=b"1")
            store.run(lambda claim=claim, memo=memo: store.verbs.memoize(claim, memo))  # type: ignore[misc]
        with pytest.raises(pymysql.MySQLError, match="never changes"):
            sight.ask("UPDATE retrysafe_step SET value = NULL")
        sight.ask("DELETE FROM retrysafe_checkpoint WHERE operation_id = %s", claims[0].operation_id)
        assert sight.ask("SELECT count(*) FROM retrysafe_step") == [(1,)]


def test_names_that_differ_in_spaces_or_case_are_two(store: MySQLStore) -> None:
    """R4: whatever the database's collation makes of them."""
    claim = claimed(store, an_ask(mode=Mode.STEPS))
    for name in ("pay", "Pay", "pay ", "päy", "pay\U0001f4b6"):
        memo = a_memo(name, status=StepStatus.DONE, value=name.encode())
        store.run(lambda memo=memo: store.verbs.memoize(claim, memo))  # type: ignore[misc]
    history = store.query(lambda: store.verbs.trail(claim.digest))
    assert history is not None
    assert sorted(memo.value or b"" for memo in history.memos) == sorted(memo.name.encode() for memo in history.memos)
    assert len(history.memos) == 5
