"""A dialect's own claim and record statements, sent bare: by the driver, one after the other, with nothing around them.

That is the least that a pair can cost on this machine, and what a guarded request's added latency is compared with. The
statements are the ones that the store's programs yield; no pool, no thread, no batch and no protocol is between.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from statistics import median
from typing import Any

from bench.asks import DAY, record_bytes
from retrysafe.protocol.model import Ask
from retrysafe.protocol.verdicts import Claimed
from retrysafe.stores.base import Verbs
from retrysafe.stores.program import Answer, Program, Statement, run
from retrysafe.stores.urls import open_store

Perform = Callable[[Program[Any]], Any]


def pair_ms(url: str, asks: Sequence[Ask], seconds: float) -> float | None:
    """Return how long half of the pairs took at least, in milliseconds; None where nobody has said how to send them.

    Args:
        url: of a store whose tables are there.
        asks: of which nobody has seen the keys.
        seconds: after which no further pair begins.
    """
    begin = _WAYS.get(_way(url))
    if begin is None:
        return None
    outcome, waits = record_bytes(), list[float]()
    verbs: Verbs = open_store(url).verbs
    stop_at = time.perf_counter() + seconds
    with begin(url) as perform:
        for ask in asks:
            started_at = time.perf_counter()
            verdict = perform(verbs.claim(ask))
            assert isinstance(verdict, Claimed)
            perform(verbs.record(verdict.claim, outcome, retention_seconds=DAY, tombstone_seconds=30 * DAY))
            waits.append(time.perf_counter() - started_at)
            if time.perf_counter() > stop_at:
                break
    return 1e3 * median(waits)


def _way(url: str) -> str:
    scheme, _, rest = url.partition("://")
    return f"{scheme}, asyncpg" if "driver=asyncpg" in rest else scheme


@contextmanager
def _sqlite(url: str) -> Iterator[Perform]:
    path = url.removeprefix("sqlite:///").partition("?")[0]
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA synchronous = full")

    def fetch(statement: Statement) -> Answer:
        cursor = connection.execute(statement.text, statement.parameters)
        return Answer(cursor.fetchall()) if cursor.description else Answer(changed=cursor.rowcount)

    def perform(program: Program[Any]) -> Any:
        connection.execute("BEGIN IMMEDIATE")
        reply = run(program, fetch)
        connection.execute("COMMIT")
        return reply

    try:
        yield perform
    finally:
        connection.close()


@contextmanager
def _psycopg(url: str) -> Iterator[Perform]:
    import psycopg  # noqa: PLC0415 - as the store needs it

    with psycopg.connect(url.partition("?")[0], autocommit=True) as connection:
        cursor = connection.cursor()

        def fetch(statement: Statement) -> Answer:
            cursor.execute(statement.text.replace("?", "%s").encode(), statement.parameters, prepare=True)
            return Answer(cursor.fetchall()) if cursor.description else Answer(changed=cursor.rowcount)

        yield partial(run, fetch=fetch)


_WAYS: dict[str, Callable[[str], Any]] = {"sqlite": _sqlite, "postgresql": _psycopg}
