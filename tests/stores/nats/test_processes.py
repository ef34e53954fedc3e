"""Several processes on one bucket, some of which die or fork."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from functools import partial

import pytest

from retrysafe.protocol.model import Mode
from retrysafe.protocol.states import State
from retrysafe.protocol.verdicts import Claimed, InFlight
from retrysafe.stores.base import Query
from retrysafe.stores.nats import NatsStore
from retrysafe.testing.asks import an_ask
from retrysafe.testing.runner import Runner
from tests.services.service import Service
from tests.stores import family
from tests.stores.postgres.tools import until

CHILDREN = "tests.stores.nats.children"
together = partial(family.together, CHILDREN)


@pytest.mark.parametrize("race", ["race_on_a_loop", "race_in_threads"])
def test_of_all_who_want_a_key_exactly_one_gets_it(store: NatsStore, nats: Service, bucket: str, race: str) -> None:
    """C1, C6: four processes, fifty keys, each asked for at the same time by all."""
    answers = [answer for each in together(4, race, nats.url, bucket, 50) for answer in each]
    won = [operation for what, operation in answers if what == "won"]
    assert (len(answers), len(won), len(set(won))) == (200, 50, 50)
    assert {operation for _, operation in answers} == set(won)
    listed = store.run(partial(store.verbs.listing, Query(limit=1000)))
    assert {met.operation_id for met in listed if met.state is State.DONE} == set(won)


def test_of_many_tasks_who_want_one_key_exactly_one_gets_it(store: NatsStore) -> None:
    """C1: fifty of one process."""
    runner = Runner(store, "async")
    verdicts = runner.together([partial(store.verbs.claim, an_ask()) for _ in range(50)])
    runner.close()
    assert sum(isinstance(verdict, Claimed) for verdict in verdicts) == 1
    assert sum(isinstance(verdict, InFlight) for verdict in verdicts) == 49


def test_processes_that_open_at_once_agree(nats: Service, bucket: str) -> None:
    """K4: one makes the bucket, and whoever comes second keeps what the first made."""
    assert len(set(together(6, "open_at_once", nats.url, bucket))) == 1


def test_of_several_scanning_processes_each_operation_is_hinted_to_one(
    store: NatsStore, nats: Service, bucket: str
) -> None:
    """R1, R2: without a leader."""
    for number in range(40):
        store.run(partial(store.verbs.claim, an_ask(f"key-{number}", mode=Mode.AGAIN, lease_seconds=0.001)))
    until(lambda: len(store.query(partial(store.verbs.abandoned, 1000))) == 40)
    answers = together(3, "scan", nats.url, bucket)
    hinted = [operation for hints, _ in answers for operation in hints]
    taken = [operation for _, takes in answers for operation in takes]
    assert (len(hinted), len(set(hinted))) == (40, 40)
    assert sorted(taken) == sorted(hinted)


def test_what_was_acknowledged_survives_the_process_and_what_it_left_is_found(
    store: NatsStore, nats: Service, bucket: str
) -> None:
    """S1, R2: killed in the middle of a write, it leaves nothing open that no scan finds."""
    with family.child(CHILDREN, "work_until_killed", nats.url, bucket) as one:
        while one.hear() != 40:
            pass
        one.process.send_signal(signal.SIGKILL)
        assert one.process.stdout is not None
        acknowledged = max([40, *map(int, one.process.stdout.read().split()[:-1])])
    runner = Runner(store, "sync")
    for number in range(acknowledged + 1):
        met = runner.read(an_ask(f"key-{number}"))
        assert met.state is (State.DONE if number % 5 else State.RUNNING)
    still_open = {met.operation_id for met in runner.listing(Query(limit=10_000)) if met.state is State.RUNNING}
    until(lambda: {met.operation_id for met in runner.abandoned(1000)} == still_open)


# Python 3.12 warns about forks of processes with threads. A server that loads the application first does just that.
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
class TestFork:
    def test_both_sides_of_a_fork_go_on(self, store: NatsStore, make: Callable[[], NatsStore]) -> None:
        """C1: the child makes a connection of its own, and a key has one winner on both sides."""
        claim = Runner(store, "sync").claimed(an_ask("parent"))

        def in_child() -> None:
            assert isinstance(store.run(partial(store.verbs.claim, an_ask("child"))), Claimed)
            store.close()

        self._expect_success(self._fork(in_child))
        assert isinstance(store.run(partial(store.verbs.claim, an_ask("child", attempt_id="x"))), InFlight)
        Runner(store, "sync").record(claim)
        assert len(make().query(partial(store.verbs.listing, Query()))) == 2

    def test_a_child_that_only_ends_leaves_its_parent_alone(self, store: NatsStore) -> None:
        connection = self._connection(store)
        self._expect_success(self._fork(store.close))
        Runner(store, "sync").claimed(an_ask())
        assert self._connection(store) == connection

    @staticmethod
    def _connection(store: NatsStore) -> list[int]:
        return [id(wire) for wire in store._wires._wires.values()]

    @staticmethod
    def _fork(act: Callable[[], object]) -> int:
        child = os.fork()
        if child == 0:
            try:
                act()
            except BaseException:  # noqa: BLE001 - whatever it is, the child must not go on as a test
                os._exit(1)
            os._exit(0)
        return child

    @staticmethod
    def _expect_success(child: int) -> None:
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
