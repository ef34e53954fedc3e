"""The MySQL store against the memory store, by whatever Hypothesis makes up."""

from __future__ import annotations

from typing import ClassVar

import pytest
from hypothesis import settings

from retrysafe.stores.clock import HostClock
from retrysafe.stores.instants import HostInstants
from retrysafe.stores.mysql import MySQLStore, from_url
from retrysafe.stores.mysql.dialect import MySQLVerbs
from retrysafe.testing.clock import ManualClock
from retrysafe.testing.model import StoreMachine
from tests.services.mariadb import MariaDatabases


class _Machine(StoreMachine):
    databases: ClassVar[MariaDatabases]

    def make_store(self, clock: ManualClock) -> MySQLStore:
        self._url = self.databases.take_made()
        store = from_url(self._url)
        store.verbs = MySQLVerbs(HostInstants(HostClock(clock)))
        return store

    def teardown(self) -> None:
        super().teardown()
        if hasattr(self, "_url"):
            self.databases.give_back_made(self._url)


class _AsyncMachine(_Machine):
    face = "async"


@pytest.mark.parametrize("machine", [_Machine, _AsyncMachine])
def test_it_answers_as_the_memory_store_does(machine: type[_Machine], maria_databases: MariaDatabases) -> None:
    """Every verb, in any order, at any time."""
    _Machine.databases = maria_databases
    case = machine.TestCase
    case.settings = settings(max_examples=20, stateful_step_count=30, deadline=None)
    case("runTest").runTest()
