"""The store behind PgBouncer, which gives each transaction another session."""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial
from pathlib import Path

import psycopg
import pytest

from retrysafe.errors import StoreUnavailable
from retrysafe.protocol.verdicts import Claimed
from retrysafe.stores.postgres import PostgresStore, from_url, migrate, migrations, pending
from retrysafe.testing.asks import an_ask
from retrysafe.testing.runner import Face, Runner
from tests.services import debian
from tests.services.service import Service, missing
from tests.stores.postgres.tools import claimed, one_statement, recording

_CONFIGURATION = """
[databases]
* = host=127.0.0.1 port={server} user=tests
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 3
"""


@pytest.fixture(scope="module")
def pgbouncer(postgres: Service) -> Iterator[Service]:
    """A PgBouncer in front of the server of all tests, with three sessions for each database."""
    known = debian.PROGRAMS["pgbouncer"]
    found = known.path
    if found is None:
        missing("PgBouncer", debian.install_line(known))

    def prepare(service: Service) -> None:
        Path(service.folder, "pgbouncer.ini").write_text(
            _CONFIGURATION.format(server=postgres.port, port=service.port), "utf-8"
        )

    service = Service(
        "pgbouncer",
        command=lambda _: [str(found), "pgbouncer.ini"],
        url=lambda service: f"postgresql://tests@{service.address}",
        answers=_answers,
        prepare=prepare,
        environment=lambda _: {"LD_LIBRARY_PATH": _libraries(known)},
        # It refuses to run as root.
        user=pwd.getpwnam("nobody").pw_uid if os.geteuid() == 0 else None,
    )
    with service:
        yield service


def _libraries(known: debian.Program) -> str:
    """Say where its libraries are, should it not be installed but unpacked."""
    return os.pathsep.join(str(folder) for folder in known.unpacked.glob("usr/lib/*-linux-gnu*"))


def _answers(service: Service) -> bool:
    try:
        with psycopg.connect(f"{service.url}/postgres", connect_timeout=2) as connection:
            return connection.execute("SELECT 1").fetchone() == (1,)
    except psycopg.OperationalError:
        return False


@pytest.fixture
def url(pgbouncer: Service, database: str) -> str:
    return f"{pgbouncer.url}/{database.rpartition('/')[2]}?pgbouncer=true"


DRIVERS: list[tuple[Face, str]] = [("sync", "psycopg"), ("async", "psycopg"), ("async", "asyncpg")]


@pytest.mark.parametrize(("face", "driver"), DRIVERS)
def test_more_clients_than_sessions_claim_and_record(url: str, face: Face, driver: str) -> None:
    """C1: nothing is expected to be there from one transaction to the next, such as a prepared statement."""
    runner = Runner(from_url(f"{url}&driver={driver}"), face)
    runner.open()
    verbs = runner.store.verbs
    for lap in range(8):
        asks = [an_ask(f"key-{lap}-{number}") for number in range(8)]
        verdicts = runner.together([partial(verbs.claim, ask) for ask in asks])
        assert all(isinstance(verdict, Claimed) for verdict in verdicts)
    runner.close()


def test_limits_are_set_in_each_transaction(url: str) -> None:
    """C7: a pooler refuses them at the start of a connection, and may drop them between two transactions."""
    store = PostgresStore(url.partition("?")[0], pgbouncer=True, timeout=timedelta(seconds=2))
    asked = one_statement(
        "SELECT current_setting('statement_timeout'), current_setting('idle_in_transaction_session_timeout')"
    )
    with ThreadPoolExecutor(6) as threads:
        answers = list(threads.map(lambda _: store.run(asked), range(30)))
    assert {answer[0] for answer in answers} == {("2s", "2s")}
    with pytest.raises(StoreUnavailable, match="statement timeout"):
        store.run(one_statement("SELECT pg_sleep(60)"))
    store.close()


def test_it_can_be_migrated_through_the_pooler(url: str) -> None:
    """K4."""
    settings = from_url(url).settings
    assert migrate(settings) == migrations()
    assert pending(settings) == ()


def test_a_pooler_that_is_restarted_is_not_noticed_by_those_who_rested(url: str, pgbouncer: Service) -> None:
    """D1."""
    store = from_url(url)
    claim = claimed(store)
    pgbouncer.restart()
    store.run(recording(store, claim))
    store.close()


def test_without_the_option_the_pooler_s_refusal_is_told(url: str) -> None:
    """D1: it names what it does not take."""
    store = from_url(url.partition("?")[0])
    with pytest.raises(StoreUnavailable, match="unsupported startup parameter"):
        store.open()
    store.close()
