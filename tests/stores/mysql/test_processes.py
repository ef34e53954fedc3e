"""Many processes on one database, and processes that die or fork."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest

from retrysafe.protocol.effects import Written
from retrysafe.protocol.model import Mode
from retrysafe.protocol.states import State
from retrysafe.protocol.verdicts import Claimed, InFlight
from retrysafe.stores.base import Query
from retrysafe.stores.mysql import MySQLStore, from_url
from retrysafe.testing.asks import an_ask
from tests.stores import family
from tests.stores.mysql.tools import SESSION, Sight, claimed, one_statement, read, recording, until

CHILDREN = "tests.stores.mysql.children"
together = partial(family.together, CHILDREN)


def test_of_all_who_race_exactly_one_wins_each_key(database: str) -> None:
    """C1, C6: loops and threads of four processes, tables made in the same moment, and nobody gets a wrong outcome."""
    with ExitStack() as stack:
        children = [
            stack.enter_context(family.child(CHILDREN, how, database, 150))
            for how in ("race_on_a_loop", "race_in_threads") * 2
        ]
        for one in children:
            assert one.hear() == "ready"
        for one in children:
            one.start()
        met = [answer for one in children for answer in one.hear()]
    won = [operation for what, operation in met if what == "won"]
    others = {operation for what, operation in met if what != "won"}
    assert (len(won), len(set(won))) == (150, 150)
    assert others <= set(won)
    store = from_url(database)
    listed = store.query(partial(store.verbs.listing, Query(limit=1000)))
    assert {row.operation_id for row in listed} == set(won)
    assert {row.state for row in listed} == {State.DONE}
    store.close()


def test_processes_that_start_at_once_agree_on_one_pepper(maria_database: str) -> None:
    """K4: one makes the tables, and whoever comes second keeps what the first made."""
    assert len(set(together(6, "open_at_once", maria_database))) == 1


def _abandon(store: MySQLStore, number: int) -> None:
    for place in range(number):
        claimed(store, an_ask(f"key-{place}", mode=Mode.AGAIN, lease_seconds=0.001))
    until(lambda: len(store.query(partial(store.verbs.abandoned, 1000))) == number)


def test_of_several_scanning_processes_each_operation_is_hinted_to_one(store: MySQLStore, database: str) -> None:
    """R1, R2: without a leader, and nobody waits for another."""
    _abandon(store, 60)
    answers = together(3, "scan", database)
    hinted = [operation for hints, _ in answers for operation in hints]
    taken = [operation for _, takes in answers for operation in takes]
    assert (len(hinted), len(set(hinted))) == (60, 60)
    assert sorted(taken) == sorted(hinted)


def test_of_several_processes_that_see_the_same_exactly_one_takes_each(store: MySQLStore, database: str) -> None:
    """R1: what is seen grants nothing."""
    _abandon(store, 40)
    taken = [operation for answer in together(3, "take_over_what_all_see", database) for operation in answer]
    assert (len(taken), len(set(taken))) == (40, 40)


def test_what_was_acknowledged_survives_the_process(database: str) -> None:
    """S1: the outcome is durable before anybody hears of it."""
    with family.child(CHILDREN, "work_until_killed", database) as one:
        while (last := one.hear()) != 40:
            pass
        one.process.send_signal(signal.SIGKILL)
        rest = one.process.stdout.read().split() if one.process.stdout else []
    acknowledged = max([int(line) for line in rest[:-1]], default=last)
    store = from_url(database)
    for number in range(acknowledged + 1):
        met = read(store, an_ask(f"key-{number}"))
        assert (met.state, met.outcome) == (State.DONE, str(number).encode())
    store.close()


def test_a_dead_process_keeps_no_row_locked_though_its_child_lives(
    store: MySQLStore, database: str, sight: Sight
) -> None:
    """C7: the child has let go of its parent's sockets, so that the server hears of the parent's death."""
    with family.child(CHILDREN, "fork_inside_a_transaction", database) as one:
        grandchild = one.hear()
        try:
            one.process.send_signal(signal.SIGKILL)
            one.process.wait()
            ours = {store.query(one_statement(SESSION))[0][0]}
            until(lambda: set(sight.others()) <= ours)
            os.kill(grandchild, 0)
        finally:
            os.kill(grandchild, signal.SIGKILL)
    claim = read(store, an_ask()).claim(1.0)
    assert isinstance(store.run(partial(store.verbs.park, claim, "nobody has it locked")), Written)


# Python 3.12 warns about forks of processes with threads. A server that loads the application first does just that.
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
class TestFork:
    def test_both_sides_of_a_fork_go_on(self, store: MySQLStore) -> None:
        """C1: the child makes connections of its own, and a key has one winner on both sides."""
        claim = claimed(store, an_ask("parent"))
        self._expect_success(self._fork(partial(self._claim_in_child, store)))
        assert len(store.query(partial(store.verbs.listing, Query()))) == 2
        assert isinstance(store.run(partial(store.verbs.claim, an_ask("child", attempt_id="x"))), InFlight)
        store.run(recording(store, claim))

    def test_a_child_that_forks_again_and_several_children(self, store: MySQLStore) -> None:
        def fork_again() -> None:
            self._claim_in_child(store, "child")
            self._expect_success(self._fork(partial(self._claim_in_child, store, "grandchild")))
            self._claim_in_child(store, "child again")

        children = [self._fork(fork_again)]
        children += [self._fork(partial(self._claim_in_child, store, key)) for key in ("a", "b", "c")]
        for child in children:
            self._expect_success(child)
        assert len(store.query(partial(store.verbs.listing, Query()))) == 6

    def test_a_child_that_only_closes_and_ends_leaves_its_parent_alone(self, store: MySQLStore) -> None:
        before = store.query(one_statement(SESSION))
        self._expect_success(self._fork(store.close))
        assert store.query(one_statement(SESSION)) == before

    def test_nothing_is_open_in_a_child_that_does_not_use_the_store(self, store: MySQLStore) -> None:
        sockets = set(self._sockets())
        assert sockets, "its parent has some"
        store.close()
        others = set(self._sockets())
        store.open()

        def look() -> None:
            assert set(self._sockets()) <= others

        self._expect_success(self._fork(look))
        assert set(self._sockets()) > others

    @staticmethod
    def _claim_in_child(store: MySQLStore, key: str = "child") -> None:
        assert isinstance(store.run(partial(store.verbs.claim, an_ask(key))), Claimed)
        assert store.query(partial(store.verbs.listing, Query()))
        store.close()

    @staticmethod
    def _sockets() -> Iterator[str]:
        for entry in Path("/proc/self/fd").iterdir():
            try:
                target = str(entry.readlink())
            except FileNotFoundError:
                continue
            if target.startswith("socket:"):
                yield target

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
