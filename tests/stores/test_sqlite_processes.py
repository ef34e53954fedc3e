"""Several processes on one file, and processes that die or fork."""

import os
import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from threading import Thread

import pytest

from retrysafe.errors import StoreUnavailable
from retrysafe.protocol.model import Mode
from retrysafe.protocol.states import State
from retrysafe.protocol.verdicts import Claimed, InFlight
from retrysafe.stores.base import Query
from retrysafe.stores.sqlite import SQLiteStore, from_url
from retrysafe.testing.asks import an_ask
from retrysafe.testing.clock import ManualClock
from tests.stores import family
from tests.stores.sqlite_tools import held_up, recording

child = partial(family.child, "tests.stores.children")
together = partial(family.together, "tests.stores.children")


def test_of_several_processes_exactly_one_wins_each_key(tmp_path: Path) -> None:
    """C1: on one file, made in the same moment, and nobody gets a wrong outcome."""
    met = together(4, "race", tmp_path / "store.db", 150)
    won = [operation for one in met for what, operation in one if what == "won"]
    others = {operation for one in met for what, operation in one if what != "won"}
    assert (len(won), len(set(won))) == (150, 150)
    assert others <= set(won)
    store = SQLiteStore(tmp_path / "store.db")
    listed = store.query(lambda: store.verbs.listing(Query(limit=1000)))
    assert {row.operation_id for row in listed} == set(won)
    assert {row.state for row in listed} == {State.DONE}
    store.close()


def test_processes_that_start_at_once_agree_on_one_pepper(tmp_path: Path) -> None:
    """K4: whoever comes second keeps what the first made."""
    peppers = together(6, "open_at_once", tmp_path / "store.db")
    assert len(set(map(str, peppers))) == 1


def test_of_several_scanning_processes_exactly_one_takes_each_operation(tmp_path: Path) -> None:
    """R1, R2: without a leader."""
    long_ago = ManualClock(1.0)
    store = SQLiteStore(tmp_path / "store.db", clock=long_ago)
    for number in range(50):
        store.run(partial(store.verbs.claim, an_ask(f"key-{number}", mode=Mode.AGAIN)))
    store.close()
    taken = [operation for one in together(3, "scan", tmp_path / "store.db") for operation in one]
    assert (len(taken), len(set(taken))) == (50, 50)


def test_what_was_acknowledged_survives_kill_9(tmp_path: Path) -> None:
    """S1: the outcome is durable before anybody hears of it, and the file is whole."""
    with child("work_until_killed", tmp_path / "store.db") as one:
        while (last := one.hear()) != 60:
            pass
        one.process.send_signal(signal.SIGKILL)
        rest = one.process.stdout.read().split() if one.process.stdout else []
    acknowledged = max([int(line) for line in rest[:-1]], default=last)
    store = SQLiteStore(tmp_path / "store.db")
    for number in range(int(str(acknowledged)) + 1):
        met = store.query(partial(store.verbs.read, an_ask(f"key-{number}").identity.digest))
        assert met is not None
        assert (met.state, met.outcome) == (State.DONE, str(number).encode())
    assert store.run(lambda: store.verbs.listing(Query(limit=1)))
    store.close()


def test_a_group_that_was_not_committed_left_nothing(tmp_path: Path) -> None:
    """C7, D4: the process is killed with the whole group written and not committed."""
    with child("die_before_commit", tmp_path / "store.db") as one:
        assert one.process.wait() == -signal.SIGKILL
    store = SQLiteStore(tmp_path / "store.db")
    [left] = store.query(lambda: store.verbs.listing(Query()))
    assert (left.state, left.finished_at, left.fence) == (State.RUNNING, None, 1)
    assert left.lease_until == left.created_at + 15
    store.close()


def test_a_full_disk_is_unavailable_and_loses_nothing(tmp_path: Path) -> None:
    """D1, D2: every acknowledged claim is there, no other is, and the store goes on when there is room."""
    with child("fill_the_disk", tmp_path / "store.db", 400_000) as one:
        said = one.hear()
    assert isinstance(said, dict)
    assert said["failures"] == 3
    assert len(said["acknowledged"]) > 10
    assert said["stored"] == said["acknowledged"]
    assert said["whole"] == "ok"


def test_a_file_locked_by_another_process_is_unavailable(tmp_path: Path) -> None:
    """D1: after the time that the store may wait, and no longer than the lock is held."""
    store = from_url(f"sqlite:///{tmp_path}/store.db?busy_timeout=30ms")
    store.open()
    with child("lock", tmp_path / "store.db") as one:
        assert one.hear() == "ready"
        with pytest.raises(StoreUnavailable, match="locked"):
            store.run(partial(store.verbs.claim, an_ask()))
        assert store.query(lambda: store.verbs.listing(Query())) == []
        one.start()
        assert one.hear() == "let go"
    assert isinstance(store.run(partial(store.verbs.claim, an_ask())), Claimed)
    store.close()


def test_a_write_waits_for_another_process_that_lets_go_in_time(tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path / "store.db")
    store.open()
    with child("lock", tmp_path / "store.db") as one:
        assert one.hear() == "ready"
        waiting = Thread(target=store.run, args=[partial(store.verbs.claim, an_ask())])
        waiting.start()
        one.start()
        assert one.hear() == "let go"
        waiting.join()
    assert len(store.query(lambda: store.verbs.listing(Query()))) == 1
    store.close()


# Python 3.12 warns about forks of processes with threads. A server that loads the application first does just that.
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
class TestFork:
    @pytest.fixture
    def store(self, tmp_path: Path) -> Iterator[SQLiteStore]:
        store = SQLiteStore(tmp_path / "store.db")
        store.open()
        yield store
        store.close()

    def test_both_sides_of_a_fork_go_on(self, store: SQLiteStore) -> None:
        """C1: the child opens connections of its own, and a key has one winner on both sides."""
        verdict = store.run(partial(store.verbs.claim, an_ask("parent")))
        assert isinstance(verdict, Claimed)
        store.query(lambda: store.verbs.listing(Query()))
        child_id = self._fork(lambda: self._claim_in_child(store))
        self._expect_success(child_id)
        assert len(store.query(lambda: store.verbs.listing(Query()))) == 2
        assert isinstance(store.run(partial(store.verbs.claim, an_ask("child", attempt_id="x"))), InFlight)
        store.run(recording(store, verdict.claim))

    def test_a_child_that_forks_again_and_several_children(self, store: SQLiteStore) -> None:
        def fork_again() -> None:
            self._claim_in_child(store, "child")
            self._expect_success(self._fork(lambda: self._claim_in_child(store, "grandchild")))
            self._claim_in_child(store, "child again")

        children = [self._fork(fork_again)]
        children += [self._fork(lambda key=key: self._claim_in_child(store, key)) for key in ("a", "b", "c")]
        for child_id in children:
            self._expect_success(child_id)
        assert len(store.query(lambda: store.verbs.listing(Query()))) == 6

    def test_a_fork_waits_for_the_transaction_that_runs(self, store: SQLiteStore) -> None:
        """The child would inherit a lock that nobody could give back."""
        children: list[int] = []
        with held_up(store):
            forking = Thread(target=lambda: children.append(self._fork(lambda: self._claim_in_child(store))))
            forking.start()
        forking.join()
        self._expect_success(children[0])
        assert isinstance(store.run(partial(store.verbs.claim, an_ask("parent"))), Claimed)

    def test_nothing_is_open_in_a_child_that_does_not_use_the_store(self, store: SQLiteStore) -> None:
        store.query(lambda: store.verbs.listing(Query()))

        def look() -> None:
            assert not [target for target in self._open_files() if "store.db" in target]

        self._expect_success(self._fork(look))

    @staticmethod
    def _claim_in_child(store: SQLiteStore, key: str = "child") -> None:
        assert isinstance(store.run(partial(store.verbs.claim, an_ask(key))), Claimed)
        assert store.query(lambda: store.verbs.listing(Query()))
        store.close()

    @staticmethod
    def _open_files() -> Iterator[str]:
        for entry in Path("/proc/self/fd").iterdir():
            try:
                yield str(entry.readlink())
            except FileNotFoundError:
                continue

    @staticmethod
    def _fork(act: object) -> int:
        child_id = os.fork()
        if child_id == 0:
            try:
                act()  # type: ignore[operator]
            except BaseException:  # noqa: BLE001 - whatever it is, the child must not go on as a test
                os._exit(1)
            os._exit(0)
        return child_id

    @staticmethod
    def _expect_success(child_id: int) -> None:
        assert os.waitstatus_to_exitcode(os.waitpid(child_id, 0)[1]) == 0
