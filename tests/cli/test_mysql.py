"""The command line and a store in MariaDB."""

from __future__ import annotations

import json
from functools import partial

from retrysafe.cli.opening import shown
from retrysafe.protocol.verdicts import Claimed
from retrysafe.runtime.clock import uuid7
from retrysafe.stores.mysql import from_url, migrate, migrations
from retrysafe.stores.mysql.location import settings_of
from retrysafe.testing.asks import an_ask
from tests.cli.conftest import Run
from tests.services.mariadb import connect


def tables(url: str) -> int:
    with connect(url) as connection, connection.cursor() as cursor:
        return int(cursor.execute("SHOW TABLES"))


def variable(url: str, name: str, value: int) -> int:
    with connect(url) as connection, connection.cursor() as cursor:
        cursor.execute(f"SELECT @@GLOBAL.{name}")
        [(before,)] = cursor.fetchall()
        cursor.execute(f"SET GLOBAL {name} = {value}")
        return int(before)


def test_a_database_is_migrated_and_a_second_time_nothing_changes(run: Run, maria_database: str) -> None:
    for command in (["ops", "ls"], ["doctor"]):
        outcome = run(*command, f"{maria_database}?migrate=true")
        assert outcome.exit_code == 1
        assert f"retrysafe migrate {maria_database}" in outcome.output
        assert tables(maria_database) == 0, "looking makes no tables"
    first = run("migrate", maria_database)
    assert first.exit_code == 0, first.output
    assert first.stdout.startswith("applied 0001_")
    told = json.loads(run("migrate", maria_database, "--json").stdout)
    assert (told["made"], told["applied"], told["schema_version"]) == (False, [], migrations()[-1].number)


def test_operations_are_listed_shown_and_settled(run: Run, made_maria_database: str) -> None:
    """R10."""
    store = from_url(made_maria_database)
    verdict = store.run(partial(store.verbs.claim, an_ask(attempt_id=uuid7())))
    assert isinstance(verdict, Claimed)
    store.run(partial(store.verbs.park, verdict.claim, "the bank did not answer"))
    store.close()
    operation = verdict.claim.operation_id
    listed = run("ops", "ls", made_maria_database, "--parked")
    assert operation[:8] in listed.stdout
    assert "the bank did not answer" in run("ops", "show", made_maria_database, operation).stdout
    done = run("ops", "release", made_maria_database, operation, "--note", "the bank says no", "--by", "ada", "--yes")
    assert done.exit_code == 0, done.output
    assert "ada" in run("ops", "audit", made_maria_database).stdout


def test_the_doctor_says_what_the_server_promises(run: Run, maria_database: str) -> None:
    """D3: and what it does not."""
    migrate(settings_of(maria_database))
    before = variable(maria_database, "innodb_flush_log_at_trx_commit", 1)
    try:
        sound = json.loads(run("doctor", maria_database, "--json").stdout)
        variable(maria_database, "innodb_flush_log_at_trx_commit", 2)
        unsound = json.loads(run("doctor", maria_database, "--json").stdout)
    finally:
        variable(maria_database, "innodb_flush_log_at_trx_commit", before)
    levels = {finding["check"]: finding["level"] for finding in sound["findings"]}
    assert (levels["commit"], levels["schema"], levels["mariadb"], levels["packet"]) == ("ok",) * 4
    [commit] = [finding for finding in unsound["findings"] if finding["check"] == "commit"]
    assert commit["level"] == "warn"
    assert "innodb_flush_log_at_trx_commit is 2" in commit["text"]


def test_no_password_is_shown(run: Run) -> None:
    """K8."""
    url = "mysql://me:secret@127.0.0.1:1/shop"
    assert "secret" not in shown(url)
    outcome = run("ops", "ls", url)
    assert outcome.exit_code == 1
    assert "secret" not in outcome.output
