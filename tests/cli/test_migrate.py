"""``retrysafe migrate``."""

import json
import sqlite3
from pathlib import Path

from tests.cli.conftest import Run, Shop


def test_a_missing_store_is_made_and_a_second_time_changes_nothing(run: Run, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/new.db"
    first = run("migrate", url)
    assert first.exit_code == 0
    assert first.stdout.startswith(f"made {tmp_path}/new.db\napplied 0001_")
    second = run("migrate", url)
    assert second.exit_code == 0
    assert second.stdout.startswith("nothing to apply: schema version ")
    assert run("ops", "ls", url).exit_code == 0


def test_programs_are_told_what_was_applied(run: Run, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/new.db"
    first = json.loads(run("migrate", url, "--json").stdout)
    assert first["made"] is True
    assert first["applied"][0]["number"] == 1
    assert first["schema_version"] == first["applied"][-1]["number"]
    second = json.loads(run("migrate", url, "--json").stdout)
    assert (second["made"], second["applied"]) == (False, [])


def test_the_sql_can_be_read_and_applied_by_hand(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "by-hand.db"
    url = f"sqlite:///{path}"
    outcome = run("migrate", url, "--sql")
    assert outcome.exit_code == 0
    assert not path.exists(), "it only prints"
    connection = sqlite3.connect(path)
    connection.executescript(outcome.stdout)
    connection.close()
    assert run("migrate", url).stdout.startswith("nothing to apply")
    assert run("migrate", url, "--sql").stdout == "-- nothing to apply\n"
    assert json.loads(run("migrate", url, "--sql", "--json").stdout) == {"pending": [], "sql": ""}


def test_a_folder_that_is_missing_is_named(run: Run, tmp_path: Path) -> None:
    outcome = run("migrate", f"sqlite:///{tmp_path}/no/x.db")
    assert outcome.exit_code == 1
    assert f"mkdir -p {tmp_path}/no" in outcome.stderr


def test_a_store_from_the_future_is_left_alone(run: Run, shop: Shop) -> None:
    connection = sqlite3.connect(shop.path)
    connection.execute("INSERT INTO retrysafe_migration VALUES (999, 'future', 'x')")
    connection.commit()
    connection.close()
    outcome = run("migrate", shop.url)
    assert outcome.exit_code == 1
    assert outcome.stderr.startswith("error[E040]: the store has schema version 999")
    assert "upgrade retrysafe" in outcome.stderr


def test_a_database_is_migrated_in_two_phases_and_a_file_in_one(run: Run, shop: Shop, database: str) -> None:
    """D1: the first adds what new code needs, the second is for when no old code runs."""
    first = run("migrate", database, "--phase", "pre")
    assert "applied 0001_checkpoint\napplied 0002_waiter\n" in first.stdout
    assert run("migrate", database, "--phase", "pre").stdout.startswith("nothing to apply")
    assert "applied 0002_waiter" in run("migrate", database, "--phase", "post").stdout
    assert run("migrate", database).stdout.startswith("nothing to apply")
    assert "in one go" in run("migrate", shop.url, "--phase", "pre").stderr
