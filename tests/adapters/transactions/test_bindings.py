"""Every binding behind an operation: what the application writes and what retrysafe writes are one commit."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from retrysafe import SHARED, AttemptSuperseded, ConfigurationError, InProgress, Policy, Response, RetrySafe, State
from retrysafe.protocol.operator import Intervention, Verb
from retrysafe.stores.base import Query
from tests.adapters.transactions.conftest import Found
from tests.adapters.transactions.places import EVERY, FOR_LOOPS, FOR_THREADS, ON_POSTGRES, PATIENCE_SECONDS, Place

every_binding = pytest.mark.parametrize("place", EVERY, indirect=True)
for_threads = pytest.mark.parametrize("place", FOR_THREADS, indirect=True)


def _operation(place: Place, body: Any) -> Any:
    """Make an operation that awaits, where the binding is for event loops; ``body`` says what it does after its write.

    It is called with ``op`` after one effect, and returns the response.
    """

    def transfer(op: Any) -> Response:
        place.insert(op.session)
        answer: Response = body(op)
        return answer

    async def atransfer(op: Any) -> Response:
        await place.insert(op.session)
        answer: Response = body(op)
        return answer

    return atransfer if place.kind in FOR_LOOPS else transfer


@every_binding
def test_effect_outcome_and_messages_are_one_commit(place: Place) -> None:
    """R11, R12, I10, I11, S1: and a retry gets the answer without another effect."""

    def moved(op: Any) -> Response:
        op.send("moved", {"id": op.id})
        return Response(201, {"ok": True})

    assert place.call(_operation(place, moved), "transaction").status == 201
    assert place.call(_operation(place, moved), "transaction").header("Idempotent-Replayed") == "true"
    assert (place.effects, place.state, place.outbox) == (1, State.DONE, ["1"])


@every_binding
def test_what_raises_or_says_that_nothing_was_done_leaves_nothing(place: Place) -> None:
    """S3, and the table of modes: rolled back and released."""

    def failing(op: Any) -> Response:
        op.send("moved", {})
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        place.call(_operation(place, failing), "transaction")
    refusing = _operation(place, lambda op: Response(409, {"error": "no"}))
    assert place.call(refusing, "transaction").status == 409
    assert (place.effects, place.state, place.outbox) == (0, State.RELEASED, [])


@for_threads
def test_a_definite_refusal_commits_and_is_recorded(place: Place) -> None:
    """S3: any other 4xx."""
    refused = _operation(place, lambda op: Response(422, {"error": "no"}))
    assert place.call(refused, "transaction").status == 422
    assert (place.effects, place.state) == (1, State.DONE)


@pytest.mark.parametrize("place", ON_POSTGRES, indirect=True)
def test_an_attempt_that_was_taken_over_commits_nothing(place: Place) -> None:
    """C4, R11: the fence is compared last, in the transaction itself; nobody waited for it before."""

    def overtaken(op: Any) -> Response:
        [met] = place.store.query(partial(place.store.verbs.listing, Query()))
        place.store.run(partial(place.store.verbs.hand_over, [met.claim(1.0)]))
        [seen] = place.store.query(partial(place.store.verbs.abandoned, 1))
        released = Intervention(Verb.RELEASE, "alice", "a test")
        place.store.run(partial(place.store.verbs.intervene, seen, released))
        return Response(201)

    with pytest.raises(AttemptSuperseded):
        place.call(_operation(place, overtaken), "transaction")
    assert (place.effects, place.state) == (0, State.RELEASED)


def _stepwise(place: Place, step: Any) -> Any:
    """Make an operation of one local step with one effect, which answers in its second attempt."""

    def write(handle: Any, what: str) -> str:
        place.insert(handle)
        answer: str = step(what)
        return answer

    async def awrite(handle: Any, what: str) -> str:
        await place.insert(handle)
        answer: str = step(what)
        return answer

    def transfer(op: Any) -> Response:
        said = op.local(write, "once", name="write")
        if op.attempt == 1:
            raise ConnectionError
        return Response(201, {"said": said})

    async def atransfer(op: Any) -> Response:
        said = await op.local(awrite, "once", name="write")
        if op.attempt == 1:
            raise ConnectionError
        return Response(201, {"said": said})

    return atransfer if place.kind in FOR_LOOPS else transfer


@every_binding
def test_a_local_step_is_one_commit_with_its_memo(place: Place) -> None:
    """R5, I10: a later attempt finds what it gave, and does not do it again."""
    done: list[str] = []

    def step(what: str) -> str:
        done.append(what)
        return what

    with pytest.raises(InProgress):
        place.call(_stepwise(place, step), "steps")
    assert place.effects == 1
    [met] = place.store.query(partial(place.store.verbs.listing, Query()))
    place.store.run(partial(place.store.verbs.intervene, met, Intervention(Verb.RESUME, "alice", "a test")))
    assert place.call(_stepwise(place, step), "steps").status == 201
    assert (done, place.effects) == (["once"], 1)


@every_binding
def test_a_local_step_that_raises_leaves_nothing(place: Place) -> None:
    """R5, I10."""

    def step(what: str) -> str:
        raise ConnectionError

    with pytest.raises(InProgress):
        place.call(_stepwise(place, step), "steps")
    assert place.effects == 0


@pytest.mark.parametrize("place", ["psycopg", "sqlalchemy psycopg", "django psycopg"], indirect=True)
def test_a_serialization_failure_runs_again_inside_the_claim(place: Place) -> None:
    """R11: the client of the loser gets its answer all the same."""
    met, runs = threading.Barrier(2, timeout=60), list[str]()

    def add(op: Any) -> Response:
        found = place.execute_on(op.session, "SELECT value FROM counters WHERE name = 'a'")
        [[value]] = found if isinstance(found, list) else found.fetchall()
        runs.append(op.id)
        if len(runs) <= 2:
            met.wait()
        place.execute_on(op.session, f"UPDATE counters SET value = {value + 1} WHERE name = 'a'")  # noqa: S608 - ours
        return Response(201)

    name = place.url.rpartition("/")[2]
    place.execute(f"ALTER DATABASE {name} SET default_transaction_isolation = 'repeatable read'")

    def call(key: str) -> int:
        try:
            return place.call(add, "transaction", key).status
        finally:
            place.leave_thread()

    with ThreadPoolExecutor(2) as threads:
        assert list(threads.map(call, ("a", "b"), timeout=PATIENCE_SECONDS)) == [201, 201]
    assert place.execute("SELECT value FROM counters WHERE name = 'a'") == [(2,)]
    assert len(runs) >= 3


@every_binding
def test_a_binding_to_another_database_is_refused_and_nothing_is_written(place: Place, request: Any) -> None:
    """D3, R11: another store, or none."""
    elsewhere = _elsewhere(place, request)
    guard = RetrySafe(place.store, principal=SHARED, transactions=place.bind(elsewhere), scan=None, sinks=())
    ran: list[str] = []

    def body(op: Any) -> Response:
        ran.append(op.id)
        return Response(201)

    guarded = guard.operation("transfer", mode="transaction")(_operation(place, body))
    with pytest.raises(ConfigurationError, match="another database"):
        place.do(guarded(key="k"))
    assert (ran, place.effects) == ([], 0)


def _elsewhere(place: Place, request: Any) -> str:
    if place.url.startswith("sqlite"):
        return f"sqlite:///{request.getfixturevalue('tmp_path')}/other.db"
    # It has no tables of ours.
    return place.url.rpartition("/")[0] + ("/mysql" if place.url.startswith("mariadb") else "/postgres")


def test_without_a_binding_the_fix_is_named(tmp_path: Path) -> None:
    guard = RetrySafe(f"sqlite:///{tmp_path}/a.db", principal=SHARED, scan=None, sinks=())
    transfer = guard.operation("transfer", policy=Policy(mode="transaction"))(lambda op: Response(201))
    with pytest.raises(ConfigurationError, match=r"transactions="):
        transfer(key="k")
    guard.close()


def test_a_caller_that_is_cancelled_while_a_thread_opens_its_transaction_leaves_none_open(found: Found) -> None:
    """C7, R11: the thread cannot be stopped, and what it opened nobody else would give back."""
    place = found("psycopg pool")
    commits = place.guard.engine().transactions
    # All that there are.
    held = [place.begin(), place.begin()]

    async def cut_off() -> None:
        waiting = asyncio.ensure_future(commits.abegin(30.0))
        await asyncio.sleep(0.2)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        for transaction in held:
            transaction.rollback()

    asyncio.run(cut_off())
    held = [place.begin(), place.begin()]
    for transaction in held:
        transaction.rollback()
