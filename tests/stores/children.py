"""Processes that tests start: ``python -m tests.stores.children <what> <file> ...``; each prints JSON."""

import asyncio
import os
import random
import resource
import signal
import sqlite3
import sys
from functools import partial

from retrysafe.errors import StoreUnavailable
from retrysafe.protocol.model import Ask, Limits, Mode
from retrysafe.protocol.verdicts import Claimed, Finished, InFlight
from retrysafe.stores.base import Query, Terms
from retrysafe.stores.sqlite import SQLiteStore
from retrysafe.stores.sqlite.jobs import ThreadJob
from retrysafe.testing.asks import an_ask, new_attempt_id
from tests.stores.family import say, wait_for_start
from tests.stores.sqlite_tools import held_up, recording


def own_attempt_id() -> str:
    """An attempt id that no other process makes."""
    return f"{os.getpid():08x}{new_attempt_id()[8:]}"


def race(path: str, keys: str) -> None:
    """Claim all keys in an order of one's own, and record what was won."""
    store = SQLiteStore(path)
    asks = [an_ask(f"key-{number}", attempt_id=own_attempt_id()) for number in range(int(keys))]
    random.Random(os.getpid()).shuffle(asks)
    met: list[tuple[str, str]] = []

    async def one(ask: Ask) -> None:
        verdict = await store.arun(partial(store.verbs.claim, ask))
        match verdict:
            case Claimed(claim=won):
                met.append(("won", won.operation_id))
                await store.arun(recording(store, won, won.operation_id.encode()))
            case InFlight(checkpoint):
                met.append(("in flight", checkpoint.operation_id))
            case Finished(checkpoint):
                assert checkpoint.outcome == checkpoint.operation_id.encode()
                met.append(("finished", checkpoint.operation_id))
            case _:
                raise AssertionError(verdict)

    async def everything() -> None:
        await asyncio.gather(*map(one, asks))
        await store.aclose()

    wait_for_start()
    asyncio.run(everything())
    say(met)


def open_at_once(path: str) -> None:
    """Make the store, together with others."""
    store = SQLiteStore(path)
    wait_for_start()
    say(store.open().pepper.hex())
    store.close()


def scan(path: str) -> None:
    """Take over every abandoned operation, together with others."""
    store = SQLiteStore(path)
    store.open()
    wait_for_start()
    taken = []
    for seen in store.query(lambda: store.verbs.abandoned(1000)):
        verdict = store.run(
            lambda seen=seen: store.verbs.reclaim(  # type: ignore[misc]
                seen, Terms(own_attempt_id(), Limits(9), 900, 0)
            )
        )
        if isinstance(verdict, Claimed):
            taken.append(verdict.claim.operation_id)
    store.close()
    say(taken)


def work_until_killed(path: str) -> None:
    """Claim and record, and say what was acknowledged."""
    store = SQLiteStore(path)
    store.open()
    for number in range(1_000_000):
        verdict = store.run(partial(store.verbs.claim, an_ask(f"key-{number}")))
        assert isinstance(verdict, Claimed)
        store.run(recording(store, verdict.claim, str(number).encode()))
        say(number)


def die_before_commit(path: str) -> None:
    """Run a group of three, and be killed when it is about to be committed."""
    store = SQLiteStore(path)
    verdict = store.run(partial(store.verbs.claim, an_ask("recorded", mode=Mode.AGAIN)))
    assert isinstance(verdict, Claimed)
    with held_up(store):
        jobs = [
            ThreadJob(recording(store, verdict.claim)),
            ThreadJob(partial(store.verbs.claim, an_ask("claimed"))),
            ThreadJob(lambda: store.verbs.renew([verdict.claim])),
        ]
        for job in jobs:
            store._machinery.submit(job)
        # The transaction that holds the writer up is committed first.
        commits = iter(("spared", "last"))

        def kill(statement: str) -> None:
            if statement == "COMMIT" and next(commits) == "last":
                os.kill(os.getpid(), signal.SIGKILL)

        # The writer rests at no time before: its connection may be watched while it waits.
        connection = store._machinery._writer.connection  # type: ignore[union-attr]
        assert connection is not None
        connection.set_trace_callback(kill)
    jobs[0].wait()


def fill_the_disk(path: str, limit: str) -> None:
    """Write until no file may grow any more, then go on with more room."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    store = SQLiteStore(path)
    store.open()
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), hard))
    acknowledged = []
    failures = 0
    for number in range(10_000):
        ask = an_ask(f"key-{number}", request=bytes(4000), mode=Mode.AGAIN)
        try:
            store.run(partial(store.verbs.claim, ask))
        except StoreUnavailable:
            failures += 1
            if failures == 3:
                break
        else:
            acknowledged.append(ask.attempt_id)
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    ask = an_ask("with more room")
    store.run(partial(store.verbs.claim, ask))
    acknowledged.append(ask.attempt_id)
    stored = [met.operation_id for met in store.query(lambda: store.verbs.listing(Query(limit=10_000)))]
    store.close()
    whole = sqlite3.connect(path).execute("PRAGMA integrity_check").fetchone()[0]
    say({"failures": failures, "acknowledged": acknowledged, "stored": stored[::-1], "whole": whole})


def lock(path: str) -> None:
    """Hold the write lock until told to let go."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    wait_for_start()
    connection.execute("ROLLBACK")
    say("let go")


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
