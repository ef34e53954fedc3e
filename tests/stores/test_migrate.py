"""Migrations of the SQLite store: generated text, by hand, by command, and by several at once."""

import re
import sqlite3
from pathlib import Path

import pytest

from retrysafe.errors import ConfigurationError, SchemaMismatch, StoreCorrupt
from retrysafe.protocol.states import LEASED, State
from retrysafe.stores.rows import COLUMNS, before, one_of
from retrysafe.stores.sql.migrations import Migration
from retrysafe.stores.sqlite import SQLiteStore, migrate, migrations, migrations_sql, pending
from retrysafe.stores.sqlite.dialect import statements


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.db"


def schema(path: Path) -> list[tuple[str, str]]:
    connection = sqlite3.connect(path)
    rows = connection.execute("SELECT name, sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY name")
    found = [(name, " ".join(text.split())) for name, text in rows]
    connection.close()
    return found


def words(text: str) -> str:
    """The text without its layout."""
    return re.sub(r"\s+", " ", text).replace("( ", "(").replace(" )", ")")


TEXTS = statements()._texts


def test_constraints_and_indexes_are_those_of_the_states() -> None:
    """I1: the file says what ``protocol/states.py`` says."""
    first = migrations()[0]
    text = words(first.text)
    assert f"CHECK {one_of(State)}" in text
    assert f"WHERE {one_of(LEASED).strip('()')};" in text
    assert f"WHERE {one_of({State.PARKED}).strip('()')};" in text


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
        text = TEXTS[name]
        assert f"state = '{target}'" in text
        assert f"AND {before(target)}" in text
    left = {name for name, text in TEXTS.items() if "$" in text}
    assert left == {"renew", "hand_over", "listing", "memoize"}


def test_every_field_of_a_checkpoint_is_a_column(path: Path) -> None:
    """S11: nothing is kept that no code reads."""
    migrate(path)
    connection = sqlite3.connect(path)
    columns = [row[1] for row in connection.execute("PRAGMA table_info(retrysafe_checkpoint)")]
    connection.close()
    assert sorted(columns) == sorted([*COLUMNS, "number", "next_hint_at", "messages"])


def test_a_new_file_lacks_everything_and_then_nothing(path: Path) -> None:
    assert pending(path) == migrations()
    assert not path.exists()
    assert migrate(path) == migrations()
    assert (pending(path), migrate(path)) == ((), ())
    store = SQLiteStore(path, migrate=False)
    assert store.open().schema_version == migrations()[-1].number
    store.close()


def test_a_schema_applied_by_hand_is_the_same(path: Path, tmp_path: Path) -> None:
    """K4: for people whose processes may not change tables; the meta row is made at first use."""
    connection = sqlite3.connect(path)
    connection.executescript(migrations_sql())
    connection.close()
    migrate(tmp_path / "other.db")
    assert schema(path) == schema(tmp_path / "other.db")
    assert pending(path) == ()
    store = SQLiteStore(path, migrate=False)
    assert len(store.open().pepper) == 32
    store.close()


def test_a_file_that_is_no_database_is_corrupt(path: Path) -> None:
    path.write_text("a letter" * 1000)
    for act in (pending, migrate):
        with pytest.raises(StoreCorrupt):
            act(path)


def test_a_step_that_fails_leaves_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """D1: all steps are one transaction."""
    bad = Migration(3, "0003_bad", "CREATE TABLE retrysafe_new (a);\nCREATE TABLE retrysafe_meta (b);\n", "0")
    monkeypatch.setattr("retrysafe.stores.sqlite.schema.migrations", lambda: (*migrations(), bad))
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE theirs (a)")
    connection.close()
    before_it = schema(path)
    with pytest.raises(Exception, match="already exists"):
        migrate(path)
    assert schema(path) == before_it


def test_a_step_that_came_later_is_applied_alone(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    migrate(path)
    later = Migration(3, "0003_later", "CREATE TABLE retrysafe_later (a);\n", "0")
    monkeypatch.setattr("retrysafe.stores.sqlite.schema.migrations", lambda: (*migrations(), later))
    assert pending(path) == (later,)
    with pytest.raises(SchemaMismatch) as refused:
        SQLiteStore(path, migrate=False).open()
    assert (refused.value.found, refused.value.needed) == (2, 3)
    assert migrate(path) == (later,)
    assert "retrysafe_later" in dict(schema(path))


def test_a_changed_step_is_refused_by_name(path: Path) -> None:
    migrate(path)
    connection = sqlite3.connect(path)
    connection.execute("UPDATE retrysafe_migration SET digest = 'x'")
    connection.commit()
    connection.close()
    for act in (pending, migrate):
        with pytest.raises(ConfigurationError, match="0001_checkpoint"):
            act(path)
