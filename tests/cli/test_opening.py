"""Which store a command means; looking makes and changes nothing."""

import sqlite3
from pathlib import Path

import pytest

from retrysafe.cli.opening import opened, shown
from retrysafe.stores.sqlite import SQLiteStore
from tests.cli.conftest import Run, Shop


def test_looking_at_a_store_that_is_missing_does_not_make_it(run: Run, tmp_path: Path) -> None:
    for command in (["ops", "ls"], ["ops", "show"], ["doctor"]):
        missing = f"sqlite:///{tmp_path}/missing.db"
        outcome = run(*command, missing, *(["0190"] if "show" in command else []))
        assert outcome.exit_code == 1
        assert list(tmp_path.iterdir()) == []
        assert f"there is no file {tmp_path}/missing.db" in outcome.output
        assert f"retrysafe migrate {missing}" in outcome.output


def test_looking_at_an_empty_file_does_not_make_tables_in_it(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "empty.db"
    path.touch()
    outcome = run("ops", "ls", f"sqlite:///{path}?migrate=true")
    assert outcome.exit_code == 1
    assert "error[E040]: the store has schema version 0" in outcome.stderr
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT count(*) FROM sqlite_schema").fetchone() == (0,)
    connection.close()


def test_a_file_that_is_no_database_is_said_to_be_none(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("no database, only words\n" * 100)
    outcome = run("ops", "ls", f"sqlite:///{path}")
    assert outcome.exit_code == 1
    assert outcome.stderr.startswith("error[E041]: ")


def test_a_misspelt_file_has_a_nearest_name(run: Run, shop: Shop) -> None:
    outcome = run("ops", "ls", shop.url.replace("shop.db", "shpo.db"))
    assert f"did you mean {shop.path}?" in outcome.stderr


def test_a_relative_path_is_told_from_an_absolute_one(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert "three slashes are relative" in run("ops", "ls", "sqlite:///srv.db").stderr
    assert "three slashes are relative" not in run("ops", "ls", f"sqlite:///{tmp_path}/srv.db").stderr
    assert "the folder" in run("ops", "ls", "sqlite:///nowhere/srv.db").stderr


def test_a_memory_store_is_refused_with_the_reason(run: Run) -> None:
    for command in (["ops", "ls"], ["migrate"], ["doctor"]):
        outcome = run(*command, "memory://")
        assert outcome.exit_code == 2
        assert "lives inside the process that serves" in outcome.stderr


def test_a_wrong_url_lists_every_problem_and_never_its_password(run: Run) -> None:
    outcome = run("ops", "ls", "sqlite://me:secret@x?synchronus=1&busy_timeout=5")
    assert outcome.exit_code == 2
    assert "error[E001]: 3 problems" in outcome.stderr
    assert "did you mean 'synchronous'?" in outcome.stderr
    assert "secret" not in outcome.stderr
    assert "migrate=false" not in outcome.stderr, "what we add to a URL is not the user's"


def test_an_unknown_scheme_has_a_nearest_name(run: Run) -> None:
    outcome = run("ops", "ls", "sqlit:///x.db")
    assert outcome.exit_code == 2
    assert "did you mean 'sqlite'?" in outcome.stderr


def test_without_a_store_the_next_step_is_said(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    outcome = run("ops", "ls")
    assert outcome.exit_code == 2
    assert "set RETRYSAFE_STORE_URL" in outcome.stderr
    monkeypatch.setenv("RETRYSAFE_STOR_URL", "sqlite:///x.db")
    assert "did you mean RETRYSAFE_STORE_URL?" in run("ops", "ls").stderr


def test_passwords_are_not_shown() -> None:
    assert shown("postgresql://me:secret@db:5432/x") == "postgresql://me:***@db:5432/x"
    assert shown("sqlite:////srv/a:b@c.db") == "sqlite:////srv/a:b@c.db"


def test_options_of_a_url_are_kept(shop: Shop) -> None:
    for options in ("?migrate=true&synchronous=normal", "?synchronous=normal&migrate=true", "?synchronous=normal"):
        with opened(shop.url + options) as store:
            assert isinstance(store, SQLiteStore)
            assert store.path == str(shop.path)
            assert store.traits.durability == "process"
