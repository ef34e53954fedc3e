"""The writer commits whatever is queued at once, and no program is hurt by its neighbours."""

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest
from msgspec.structs import replace

from retrysafe.errors import StoreError
from retrysafe.protocol.model import Identity
from retrysafe.protocol.states import State
from retrysafe.protocol.verdicts import Claimed
from retrysafe.stores.base import Query
from retrysafe.stores.program import Program, Statement
from retrysafe.stores.sqlite import SQLiteStore, writer
from retrysafe.stores.sqlite.jobs import ThreadJob
from retrysafe.testing.asks import an_ask
from tests.stores.sqlite_tools import held_up, recording, trace


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SQLiteStore]:
    store = SQLiteStore(tmp_path / "store.db")
    store.open()
    yield store
    store.close()


@pytest.fixture
def statements(store: SQLiteStore) -> list[str]:
    """Every statement the writer begins, as it begins it."""
    begun: list[str] = []
    trace(store, begun.append)
    return begun


def failing() -> Program[None]:
    yield Statement("DELETE FROM retrysafe_checkpoint")
    raise ZeroDivisionError


def test_what_is_queued_together_is_committed_once(store: SQLiteStore, statements: list[str]) -> None:
    async def claim_all() -> None:
        with held_up(store):
            tasks = [
                asyncio.create_task(store.arun(partial(store.verbs.claim, an_ask(f"key-{number}"))))
                for number in range(100)
            ]
            # Every task runs up to its submission.
            await asyncio.sleep(0)
            statements.clear()
        verdicts = await asyncio.gather(*tasks)
        assert all(isinstance(verdict, Claimed) for verdict in verdicts)

    asyncio.run(claim_all())
    # The first is that of the program that held the writer up.
    assert statements.count("COMMIT") == 2
    assert statements.count("BEGIN IMMEDIATE") == 1


def test_a_group_is_bounded(store: SQLiteStore, statements: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "LARGEST_GROUP", 10)
    with held_up(store):
        jobs = [ThreadJob(partial(store.verbs.claim, an_ask(f"key-{number}"))) for number in range(35)]
        for job in jobs:
            store._machinery.submit(job)
        statements.clear()
    assert all(isinstance(job.wait(), Claimed) for job in jobs)
    assert statements.count("COMMIT") == 1 + 4


def test_a_claim_and_its_record_are_one_statement_each(store: SQLiteStore, statements: list[str]) -> None:
    verdict = store.run(partial(store.verbs.claim, an_ask()))
    assert isinstance(verdict, Claimed)
    store.run(recording(store, verdict.claim))
    beside = ("BEGIN", "COMMIT", "SELECT clock_high", "UPDATE retrysafe_meta")
    assert len([text for text in statements if not text.startswith(beside)]) == 2


def test_one_failing_program_does_not_fail_its_neighbours(store: SQLiteStore) -> None:
    """D4: the others run again, in transactions of their own; what the failing one did is undone."""

    async def run_together() -> None:
        claim = await store.arun(partial(store.verbs.claim, an_ask("first")))
        assert isinstance(claim, Claimed)
        with held_up(store):
            tasks = [
                asyncio.create_task(store.arun(program))
                for program in (
                    partial(store.verbs.claim, an_ask("before")),
                    failing,
                    recording(store, claim.claim),
                    partial(store.verbs.claim, an_ask("behind")),
                )
            ]
            await asyncio.sleep(0)
        before, failed, recorded, behind = await asyncio.gather(*tasks, return_exceptions=True)
        assert isinstance(before, Claimed)
        assert isinstance(failed, ZeroDivisionError)
        assert not isinstance(recorded, BaseException)
        assert isinstance(behind, Claimed)

    asyncio.run(run_together())
    states = [met.state for met in store.query(lambda: store.verbs.listing(Query()))]
    assert states == [State.RUNNING, State.RUNNING, State.DONE]


def test_a_program_that_breaks_a_constraint_fails_alone(store: SQLiteStore) -> None:
    short = Identity(b"short", "tests", "alice", "k")
    bad = replace(an_ask(), identity=short)
    with held_up(store):
        jobs = [ThreadJob(partial(store.verbs.claim, asked)) for asked in (bad, an_ask("good"))]
        for job in jobs:
            store._machinery.submit(job)
    with pytest.raises(StoreError, match="CHECK constraint failed"):
        jobs[0].wait()
    assert isinstance(jobs[1].wait(), Claimed)


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_no_program_can_end_the_writer(store: SQLiteStore, error: type[BaseException]) -> None:
    def program() -> Program[None]:
        yield from ()
        raise error

    with pytest.raises(error):
        store.run(program)
    assert isinstance(store.run(partial(store.verbs.claim, an_ask())), Claimed)


def test_a_cancelled_caller_leaves_its_program_running(store: SQLiteStore) -> None:
    """C7: what was submitted may become durable, and its neighbours don't notice."""

    async def cancel_one() -> None:
        with held_up(store):
            cancelled = asyncio.create_task(store.arun(partial(store.verbs.claim, an_ask("cancelled"))))
            other = asyncio.create_task(store.arun(partial(store.verbs.claim, an_ask("other"))))
            await asyncio.sleep(0)
            cancelled.cancel()
            with pytest.raises(asyncio.CancelledError):
                await cancelled
        assert isinstance(await other, Claimed)

    asyncio.run(cancel_one())
    assert len(store.query(lambda: store.verbs.listing(Query()))) == 2


def test_a_loop_that_was_closed_meanwhile_hurts_nobody(store: SQLiteStore) -> None:
    loop = asyncio.new_event_loop()
    with held_up(store):

        async def submit() -> None:
            task = asyncio.create_task(store.arun(partial(store.verbs.claim, an_ask("deserted"))))
            await asyncio.sleep(0)
            task.cancel()

        loop.run_until_complete(submit())
        loop.close()
        other = ThreadJob(partial(store.verbs.claim, an_ask("other")))
        store._machinery.submit(other)
    assert isinstance(other.wait(), Claimed)
    assert len(store.query(lambda: store.verbs.listing(Query()))) == 2


def test_loops_and_threads_share_a_store(store: SQLiteStore) -> None:
    """C1: each waiter is woken where it waits."""

    async def claim_some(number: int) -> int:
        programs = [partial(store.verbs.claim, an_ask(f"key-{key}")) for key in range(40)]
        verdicts = await asyncio.gather(*map(store.arun, programs))
        listed = await store.aquery(lambda: store.verbs.listing(Query(limit=1000)))
        assert len(listed) == 40
        return sum(isinstance(verdict, Claimed) for verdict in verdicts)

    def claim_others(number: int) -> int:
        verdicts = [store.run(partial(store.verbs.claim, an_ask(f"key-{key}"))) for key in range(40)]
        return sum(isinstance(verdict, Claimed) for verdict in verdicts)

    with ThreadPoolExecutor(6) as threads:
        loops = [threads.submit(lambda: asyncio.run(claim_some(0))) for _ in range(3)]
        plain = [threads.submit(claim_others, 0) for _ in range(3)]
        assert sum(future.result() for future in loops + plain) == 40


def test_readers_do_not_wait_for_the_writer(store: SQLiteStore) -> None:
    """S9: whoever waits for an outcome looks while a transaction runs."""
    store.run(partial(store.verbs.claim, an_ask()))

    async def look() -> None:
        with held_up(store):
            assert len(store.query(lambda: store.verbs.listing(Query()))) == 1
            assert len(await store.aquery(lambda: store.verbs.listing(Query()))) == 1

    asyncio.run(look())


def test_a_query_cannot_write(store: SQLiteStore) -> None:
    with pytest.raises(StoreError, match="readonly"):
        store.query(failing)


def test_a_closed_store_opens_again_when_it_is_used(store: SQLiteStore) -> None:
    verdict = store.run(partial(store.verbs.claim, an_ask()))
    for _ in range(3):
        store.close()
        store.close()
        assert store.run(partial(store.verbs.claim, an_ask(attempt_id="other"))) != verdict
        store.close()
        assert len(store.query(lambda: store.verbs.listing(Query()))) == 1
        assert asyncio.run(store.aquery(lambda: store.verbs.listing(Query())))


def test_what_is_queued_is_finished_before_a_store_closes(store: SQLiteStore) -> None:
    with ThreadPoolExecutor(1) as threads:
        with held_up(store):
            jobs = [ThreadJob(partial(store.verbs.claim, an_ask(f"key-{number}"))) for number in range(300)]
            for job in jobs:
                store._machinery.submit(job)
            closing = threads.submit(store.close)
        closing.result()
    assert all(isinstance(job.wait(), Claimed) for job in jobs)


def test_a_forgotten_store_is_closed_when_it_is_collected(tmp_path: Path) -> None:
    """Its thread and its connections are not left behind; the log is folded into the file."""
    store = SQLiteStore(tmp_path / "forgotten.db")
    store.open()
    thread = store._machinery._writer._thread  # type: ignore[union-attr]
    assert (tmp_path / "forgotten.db-wal").exists()
    del store
    thread.join(60)
    assert not thread.is_alive()
    assert not (tmp_path / "forgotten.db-wal").exists()
