"""The command line and a store in PostgreSQL."""

from __future__ import annotations

import json
import sys
from functools import partial

import psycopg
import pytest

from retrysafe.cli.opening import shown
from retrysafe.protocol.verdicts import Claimed
from retrysafe.runtime.clock import uuid7
from retrysafe.stores.postgres import PostgresStore, migrate, migrations
from retrysafe.testing.asks import an_ask
from tests.cli.conftest import Run


def parked(url: str) -> str:
    """Leave a parked operation; return its id."""
    store = PostgresStore(url)
    verdict = store.run(partial(store.verbs.claim, an_ask(attempt_id=uuid7())))
    assert isinstance(verdict, Claimed)
    store.run(partial(store.verbs.park, verdict.claim, "the bank did not answer"))
    store.close()
    return verdict.claim.operation_id


def tables(url: str) -> int:
    with psycopg.connect(url) as connection:
        row = connection.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").fetchone()
    assert row is not None
    return int(row[0])


def test_a_database_is_migrated_and_a_second_time_nothing_changes(run: Run, database: str) -> None:
    first = run("migrate", database)
    assert first.exit_code == 0, first.output
    assert first.stdout.startswith("applied 0001_")
    second = run("migrate", database)
    assert second.stdout.startswith("nothing to apply: schema version ")
    told = json.loads(run("migrate", database, "--json").stdout)
    assert (told["database"], told["made"], told["applied"]) == (database, False, [])
    assert told["schema_version"] == migrations()[-1].number
    assert run("ops", "ls", database).exit_code == 0


def test_the_sql_can_be_read_and_applied_by_hand(run: Run, database: str) -> None:
    text = run("migrate", database, "--sql").stdout
    assert tables(database) == 0, "it only prints"
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(text.encode())
    assert run("migrate", database).stdout.startswith("nothing to apply")


def test_looking_makes_no_tables(run: Run, database: str) -> None:
    for command in (["ops", "ls"], ["doctor"]):
        outcome = run(*command, f"{database}?migrate=true")
        assert outcome.exit_code == 1
        assert "schema" in outcome.output
        assert f"retrysafe migrate {database}" in outcome.output
        assert tables(database) == 0


def test_operations_are_listed_shown_and_settled(run: Run, database: str) -> None:
    """R10."""
    operation = parked(database)
    listed = run("ops", "ls", database, "--parked")
    assert operation[:8] in listed.stdout
    assert "the bank did not answer" in run("ops", "show", database, operation).stdout
    done = run("ops", "release", database, operation, "--note", "the bank says no", "--by", "ada", "--yes")
    assert done.exit_code == 0, done.output
    assert "ada" in run("ops", "audit", database).stdout


def test_the_doctor_says_what_the_server_promises(run: Run, database: str) -> None:
    """D3."""
    migrate(PostgresStore(database).settings)
    told = json.loads(run("doctor", database, "--json").stdout)
    found = {finding["check"]: finding for finding in told["findings"]}
    assert found["schema"]["level"] == found["encoding"]["level"] == found["clock"]["level"].replace("info", "ok")
    assert found["postgresql"]["text"][0].isdigit()
    # The server of the tests.
    assert (found["commit"]["level"], told["ok"]) == ("warn", False)
    assert "fsync is off" in found["commit"]["text"]


def test_a_server_that_is_not_there_is_said_to_be_not_there(run: Run) -> None:
    """D1: without the password."""
    for command in (["ops", "ls"], ["migrate"], ["doctor"]):
        outcome = run(*command, "postgresql://me:secret@127.0.0.1:1/shop")
        assert outcome.exit_code == 1
        assert "refused" in outcome.output
        assert "secret" not in outcome.output


def test_a_url_that_nobody_understands_is_refused(run: Run) -> None:
    outcome = run("ops", "ls", "postgresql://me:secret@db/shop?pool=none&sslmod=require")
    assert outcome.exit_code == 2
    assert "write a whole number" in outcome.stderr
    assert "secret" not in outcome.stderr


def test_without_the_driver_the_extra_is_named(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("retrysafe.stores.postgres")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "psycopg", None)
    outcome = run("ops", "ls", "postgresql://db/shop")
    assert outcome.exit_code == 2
    assert "pip install 'retrysafe[postgres]'" in outcome.stderr


def test_passwords_are_not_shown_wherever_libpq_takes_them() -> None:
    assert shown("postgresql://me:secret@db/x?sslmode=require") == "postgresql://me:***@db/x?sslmode=require"
    assert shown("postgresql://db/x?user=me&password=secret&a=b") == "postgresql://db/x?user=me&password=***&a=b"
    assert shown("postgresql://db/x?sslpassword=secret") == "postgresql://db/x?sslpassword=***"
