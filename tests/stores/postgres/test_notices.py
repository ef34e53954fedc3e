"""Whoever waits is told of the outcome by the server, and nobody else is."""

from __future__ import annotations

import asyncio
import fcntl
import os
import resource
import threading
from collections.abc import Iterator
from functools import partial

import pytest

from retrysafe.protocol.verdicts import Claimed
from retrysafe.runtime import waiting
from retrysafe.runtime.clock import SystemClock
from retrysafe.stores.base import Capability
from retrysafe.stores.postgres import PostgresStore, notices
from retrysafe.testing.asks import an_ask
from retrysafe.testing.runner import Face, Runner
from tests.stores.postgres.conftest import Sight
from tests.stores.postgres.tools import PATIENCE_SECONDS, claimed, read, recording, until

WAITERS = "SELECT count(*) FROM retrysafe_waiter"
LISTENERS = (
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE '%%retrysafe_waiter%%' "
    "AND query NOT LIKE '%%count%%'"
)
END_OTHERS = (
    "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity "
    "WHERE datname = current_database() AND pid <> pg_backend_pid()"
)


@pytest.fixture
def other(database: str, store: PostgresStore) -> Iterator[PostgresStore]:
    """What another process has of the same database."""
    other = PostgresStore(database)
    yield other
    other.close()


@pytest.fixture(params=["sync", "async"])
def face(request: pytest.FixtureRequest) -> Face:
    return request.param  # type: ignore[no-any-return]


def _somebody_waits(sight: Sight, number: int = 1) -> None:
    until(lambda: sight.execute(WAITERS).fetchone() == (number,))


def test_who_waits_is_woken_by_the_outcome(store: PostgresStore, database: str, sight: Sight, face: Face) -> None:
    """S9: by another process, through either driver, and each for its own operation."""
    runner = Runner(PostgresStore(database), face)
    claims = [runner.claimed(an_ask(key)) for key in ("mine", "theirs")]
    woken = [threading.Event() for _ in claims]
    with (
        store.watch(claims[0].digest, 60.0, woken[0].set),
        store.watch(claims[1].digest, 60.0, woken[1].set),
    ):
        _somebody_waits(sight, 2)
        runner.record(claims[0])
        assert woken[0].wait(PATIENCE_SECONDS)
        assert not woken[1].is_set()
        runner.record(claims[1])
        assert woken[1].wait(PATIENCE_SECONDS)
    runner.close()


def test_who_waits_is_woken_by_a_whole_batch(store: PostgresStore, other: PostgresStore, sight: Sight) -> None:
    """S9: an outcome that was written together with others."""
    claims = [claimed(other, an_ask(f"key-{number}")) for number in range(20)]
    woken = threading.Event()

    async def record_all() -> None:
        await asyncio.gather(*(other.arun(recording(other, claim)) for claim in claims))
        await other.aclose()

    with store.watch(claims[7].digest, 60.0, woken.set):
        _somebody_waits(sight)
        asyncio.run(record_all())
        assert woken.wait(PATIENCE_SECONDS)


def test_nobody_is_told_of_what_nobody_waits_for(store: PostgresStore, sight: Sight) -> None:
    """NOTIFY costs a lock of the whole server."""
    sight.execute("LISTEN retrysafe")
    store.run(recording(store, claimed(store)))
    assert list(sight.notifies(timeout=0.2)) == []


def test_it_does_not_block_and_a_lost_session_is_made_anew(
    store: PostgresStore, other: PostgresStore, sight: Sight
) -> None:
    """S9: what was waited for is waited for again."""
    claim = claimed(other)
    woken = threading.Event()
    with store.watch(claim.digest, 60.0, woken.set):
        _somebody_waits(sight)
        sight.execute(END_OTHERS)
        sight.execute("DELETE FROM retrysafe_waiter")
        _somebody_waits(sight)
        other.run(recording(other, claim))
        assert woken.wait(PATIENCE_SECONDS)


def test_a_server_that_is_away_hurts_nobody() -> None:
    """D1: those who wait look by themselves."""
    store = PostgresStore("postgresql://127.0.0.1:1/shop")
    with store.watch(bytes(16), 1.0, lambda: None):
        pass
    store.close()


def test_the_thread_and_its_session_end_with_the_store(store: PostgresStore, sight: Sight) -> None:
    with store.watch(bytes(16), 60.0, lambda: None):
        _somebody_waits(sight)
    thread = store._pools.notices._thread
    assert thread is not None
    store.close()
    assert not thread.is_alive()
    until(lambda: sight.execute(LISTENERS).fetchone() == (0,))
    with store.watch(bytes(15) + b"1", 60.0, lambda: None):
        _somebody_waits(sight, 2)


# What has happened is told by the thread's end, and not kept to itself.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_thread_that_dies_of_a_defect_is_followed_by_another(
    store: PostgresStore, other: PostgresStore, sight: Sight
) -> None:
    """S9: it leaves no session, and whoever comes next is woken; who was waiting looks by itself."""

    def defect() -> None:
        raise LookupError("nobody foresaw it")

    claims = [claimed(other, an_ask(key)) for key in ("first", "second")]
    woken = threading.Event()
    with store.watch(claims[0].digest, 60.0, defect):
        _somebody_waits(sight)
        dying, session = store._pools.notices._thread, store._pools.notices.connection
        assert dying is not None
        assert session is not None
        other.run(recording(other, claims[0]))
        dying.join(PATIENCE_SECONDS)
        assert not dying.is_alive()
        assert session.closed
        with store.watch(claims[1].digest, 60.0, woken.set):
            # Both: what was said over the session before may have been lost with it.
            _somebody_waits(sight, 2)
            other.run(recording(other, claims[1]))
            assert woken.wait(PATIENCE_SECONDS)


def test_a_purge_forgets_who_waits_no_more(store: PostgresStore, sight: Sight) -> None:
    """S10."""
    with store.watch(bytes(16), 60.0, lambda: None):
        _somebody_waits(sight)
        with store.watch(bytes(15) + b"1", 0.001, lambda: None):
            _somebody_waits(sight, 2)
        until(lambda: store.run(partial(store.verbs.purge, 10)) is not None and _waiting(sight) == 1)


def _waiting(sight: Sight) -> object:
    return (sight.execute(WAITERS).fetchone() or (None,))[0]


# Python 3.12 warns about forks of processes with threads.
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_both_sides_of_a_fork_may_wait(store: PostgresStore, other: PostgresStore, sight: Sight) -> None:
    claim = claimed(other)
    woken = threading.Event()
    with store.watch(claim.digest, 60.0, woken.set):
        _somebody_waits(sight)
        child = os.fork()
        if child == 0:
            with store.watch(bytes(16), 60.0, woken.set):
                until(lambda: _waiting_in(store) == 2)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        other.run(recording(other, claim))
        assert woken.wait(PATIENCE_SECONDS)


def _waiting_in(store: PostgresStore) -> int:
    with store._pools.threads().pool.session() as session:
        return int((session.connection.execute(WAITERS.encode()).fetchone() or (0,))[0])


def test_a_request_that_waits_does_not_need_to_look(
    store: PostgresStore, other: PostgresStore, sight: Sight, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S9, C6: threads and event loops alike."""
    assert Capability.NOTIFY in store.traits.capabilities
    monkeypatch.setattr(waiting, "_FIRST_POLL_SECONDS", 1000.0)
    monkeypatch.setattr(waiting, "_SLOWEST_POLL_SECONDS", 1000.0)
    waiters = waiting.Waiters(8, SystemClock())
    for number in range(2):
        verdict = other.run(partial(other.verbs.claim, an_ask(f"key-{number}")))
        assert isinstance(verdict, Claimed)
        seen = read(other, verdict.claim)
        sight.execute("DELETE FROM retrysafe_waiter")

        def record(claimed: Claimed = verdict) -> None:
            _somebody_waits(sight)
            other.run(recording(other, claimed.claim))

        recorder = threading.Thread(target=record)
        recorder.start()
        if number:
            assert asyncio.run(waiters.await_(store, seen, 1000.0))
        else:
            assert waiters.wait(store, seen, 1000.0)
        recorder.join()


def test_behind_a_pooler_nobody_is_told(database: str) -> None:
    """D3: a session that listens is another one a moment later."""
    assert Capability.NOTIFY not in PostgresStore(database, pgbouncer=True).traits.capabilities


def test_descriptors_above_1023_are_heard_as_well() -> None:
    """A process with many connections has such; one that dies of it would never be woken again."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2048), hard))
    reader, writer = os.pipe()
    high = fcntl.fcntl(reader, fcntl.F_DUPFD, 1500)
    try:
        assert notices._readable([high], 0) == set()
        os.write(writer, b"!")
        assert notices._readable([high], 0) == {high}
    finally:
        for descriptor in (reader, writer, high):
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
