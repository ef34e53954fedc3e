"""Many claims and outcomes in one statement, each with its own answer."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

from retrysafe.protocol.effects import Superseded, Written
from retrysafe.protocol.model import Claim, Mode
from retrysafe.protocol.states import State
from retrysafe.protocol.verdicts import Claimed, Finished, InFlight, Mismatch
from retrysafe.stores.mysql import MySQLStore
from retrysafe.stores.mysql.dialect import BATCHES, together
from retrysafe.stores.program import Answer, Program, Statement
from retrysafe.testing.asks import an_ask
from tests.stores.mysql.tools import Sight, claimed, locked, read, recording


def first(program: Program[object]) -> Statement:
    statement = next(program)
    program.close()
    return statement


def run_together(store: MySQLStore, programs: list[Program[object]]) -> list[Answer | None]:
    """Run the first statements of programs as one batch does."""
    asked = [first(program) for program in programs]
    assert asked[0].batch in BATCHES
    return list(store.run(lambda: together(asked[0].batch, asked)))  # type: ignore[arg-type]


def test_a_batch_of_claims_makes_the_new_ones_and_reads_the_others(store: MySQLStore, database: str) -> None:
    """C1: also one whose operation has its row locked, for which nobody waits."""
    there = claimed(store, an_ask("there"))
    with locked(database, there):
        answers = run_together(store, [store.verbs.claim(an_ask(key)) for key in ("there", "one", "two")])
    assert sorted((answer is not None and answer.changed, len(answer.rows) if answer else 0) for answer in answers) == [
        (0, 1),
        (1, 0),
        (1, 0),
    ]
    assert read(store, an_ask("one")).state is State.RUNNING


def test_a_batch_of_outcomes_is_written_by_fence(store: MySQLStore) -> None:
    """C4: where one is refused each asks again, and is told the truth."""
    claims = [claimed(store, an_ask(f"key-{number}")) for number in range(5)]
    lost = Claim(claims[0].digest, claims[0].operation_id, 9, 9, Mode.ONCE, "charge", 15.0)
    answers = run_together(store, [recording(store, claim, b"mine")() for claim in claims[1:3]])
    assert answers == [Answer(changed=1)] * 2
    assert run_together(store, [recording(store, claim, b"mine")() for claim in (lost, *claims[3:])]) == [None] * 3
    assert isinstance(store.run(recording(store, lost)), Superseded)
    assert all(isinstance(store.run(recording(store, claim)), Written) for claim in claims)
    outcomes = [read(store, claim).outcome for claim in claims]
    assert outcomes == [b"the outcome", b"mine", b"mine", b"mine", b"mine"]


def test_a_crowd_on_a_loop_is_written_in_batches(store: MySQLStore, sight: Sight) -> None:
    """C1, F1: of equal ones one wins, and a different request is told."""

    async def work() -> None:
        asks = [an_ask(f"key-{number % 40}", body=f"charge {number % 41 // 40}") for number in range(120)]
        verdicts = await asyncio.gather(*(store.arun(partial(store.verbs.claim, ask)) for ask in asks))
        won = [verdict.claim for verdict in verdicts if isinstance(verdict, Claimed)]
        assert len(won) == 40
        assert all(isinstance(verdict, Claimed | InFlight | Mismatch) for verdict in verdicts)
        receipts = await asyncio.gather(*(store.arun(recording(store, claim)) for claim in won))
        assert all(isinstance(receipt, Written) for receipt in receipts)
        again = [an_ask(f"key-{number}", body=f"charge {number % 41 // 40}") for number in range(40)]
        replays = await asyncio.gather(*(store.arun(partial(store.verbs.claim, ask)) for ask in again))
        assert all(isinstance(verdict, Finished) for verdict in replays)
        await store.aclose()

    before = _statements(sight)
    asyncio.run(work())
    assert _statements(sight) - before < 120, "fewer statements than writes"


def _statements(sight: Sight) -> int:
    found = sight.ask(
        "SHOW GLOBAL STATUS WHERE Variable_name IN ('Com_insert', 'Com_insert_select', 'Com_update_multi')"
    )
    return sum(int(value) for _, value in found)


def test_a_crowd_of_threads_is_written_in_batches(store: MySQLStore) -> None:
    with ThreadPoolExecutor(24) as threads:
        claims = list(threads.map(lambda number: claimed(store, an_ask(f"key-{number}")), range(100)))
        receipts = list(threads.map(lambda claim: store.run(recording(store, claim, claim.digest)), claims))
    assert all(isinstance(receipt, Written) for receipt in receipts)
    assert all(read(store, claim).outcome == claim.digest for claim in claims)


@pytest.mark.parametrize("place", ["alone", "in a crowd"])
def test_a_cancelled_claim_is_written_all_the_same(store: MySQLStore, place: str) -> None:
    """C7: what was submitted may be durable, and then it is a claim whose attempt has died."""

    async def work() -> None:
        asks = [an_ask(f"key-{number}") for number in range(1 if place == "alone" else 30)]
        tasks = [asyncio.ensure_future(store.arun(partial(store.verbs.claim, ask))) for ask in asks]
        await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for ask in asks:
            again = await store.arun(partial(store.verbs.claim, ask))
            assert isinstance(again, Claimed)
            assert again.claim.fence == 1
        await store.aclose()

    asyncio.run(work())
