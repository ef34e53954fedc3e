"""The PostgreSQL store keeps the contract, on real servers: over each driver, on the latest, 16 and 15."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import pytest
from hypothesis import settings

from retrysafe.stores.postgres import PostgresStore
from retrysafe.stores.postgres.driver import Driver
from retrysafe.testing.clock import ManualClock
from retrysafe.testing.contract import OwnClockContract, StoreContract
from retrysafe.testing.model import StoreMachine
from retrysafe.testing.promises.claims import ClaimPromises
from retrysafe.testing.promises.steps import StepPromises
from retrysafe.testing.promises.writes import WritePromises
from retrysafe.testing.runner import Runner
from tests.services import servers
from tests.services.databases import Databases
from tests.services.service import Service
from tests.stores.postgres.emptied import empty, make_tables


def a_store(database: str, driver: Driver, clock: ManualClock) -> PostgresStore:
    """Its promises are about instants, which only a clock that moves by hand can bring about."""
    return PostgresStore(database, driver=driver).with_clock(clock)


@pytest.fixture(scope="module")
def kept(databases: Databases) -> Iterator[str]:
    """A database with tables, on the latest server."""
    database = databases.take()
    make_tables(database)
    yield database
    databases.give_back(database)


@pytest.fixture(scope="module")
def sixteen() -> Iterator[Service]:
    with servers.postgres(version=16) as service:
        make_tables(service.url)
        yield service


@pytest.fixture(scope="module")
def fifteen() -> Iterator[Service]:
    with servers.postgres(version=15) as service:
        make_tables(service.url)
        yield service


class TestThreadsAndAsyncpg(StoreContract):
    @pytest.fixture
    def store(self, clock: ManualClock, kept: str) -> Iterator[PostgresStore]:
        store = a_store(kept, "asyncpg", clock)
        yield store
        store.close()
        empty(kept)


class TestPsycopgOn16(StoreContract):
    """Over psycopg also on event loops, and on an older server; what threads do was shown above."""

    @pytest.fixture
    def store(self, clock: ManualClock, sixteen: Service) -> Iterator[PostgresStore]:
        store = a_store(sixteen.url, "psycopg", clock)
        yield store
        store.close()
        empty(sixteen.url)

    @pytest.fixture
    def runner(self, store: PostgresStore) -> Iterator[Runner]:
        runner = Runner(store, "async")
        runner.open()
        yield runner
        runner.close()


class TestAsyncpgOn15(ClaimPromises, WritePromises, StepPromises):
    """The statements of every request, on the server of Debian 12."""

    @pytest.fixture
    def clock(self) -> ManualClock:
        return ManualClock()

    @pytest.fixture
    def store(self, clock: ManualClock, fifteen: Service) -> Iterator[PostgresStore]:
        store = a_store(fifteen.url, "asyncpg", clock)
        yield store
        store.close()
        empty(fifteen.url)

    @pytest.fixture
    def runner(self, store: PostgresStore) -> Iterator[Runner]:
        runner = Runner(store, "async")
        runner.open()
        yield runner
        runner.close()


class _Machine(StoreMachine):
    """I1, I3: whatever happens, it answers like the memory store; outcomes stay and fences only grow."""

    database: ClassVar[str]

    def make_store(self, clock: ManualClock) -> PostgresStore:
        empty(self.database)
        return a_store(self.database, "asyncpg", clock)


class _AsyncMachine(_Machine):
    face = "async"


@pytest.mark.parametrize("machine", [_Machine, _AsyncMachine])
def test_it_answers_like_memory(machine: type[_Machine], kept: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """I1, I3."""
    monkeypatch.setattr(_Machine, "database", kept, raising=False)
    case = machine.TestCase
    case.settings = settings(max_examples=10, stateful_step_count=25)
    case("runTest").runTest()
    empty(kept)


class TestOnItsOwnClock(OwnClockContract):
    @pytest.fixture
    def store(self, database: str) -> PostgresStore:
        return PostgresStore(database)
