"""What the tests of the PostgreSQL store do with it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import psycopg

from retrysafe.protocol.effects import Receipt
from retrysafe.protocol.model import Ask, Checkpoint, Claim
from retrysafe.protocol.verdicts import Claimed
from retrysafe.stores.postgres import PostgresStore
from retrysafe.stores.program import Program, Statement
from retrysafe.testing.asks import DAY_SECONDS, an_ask

PATIENCE_SECONDS = 60.0
"""How long a test waits for what must happen; only a defect takes as long."""


def until(holds: Callable[[], bool]) -> None:
    """Look again and again until it holds."""
    give_up_at = time.monotonic() + PATIENCE_SECONDS
    while not holds():
        assert time.monotonic() < give_up_at, "it never came to pass"
        time.sleep(0.01)


def claimed(store: PostgresStore, ask: Ask | None = None) -> Claim:
    """Claim, and expect to get the claim."""
    verdict = store.run(partial(store.verbs.claim, ask or an_ask()))
    assert isinstance(verdict, Claimed), verdict
    return verdict.claim


def recording(store: PostgresStore, claim: Claim, outcome: bytes = b"the outcome") -> Callable[[], Program[Receipt]]:
    return lambda: store.verbs.record(claim, outcome, retention_seconds=DAY_SECONDS, tombstone_seconds=30 * DAY_SECONDS)


def read(store: PostgresStore, holder: Claim | Ask) -> Checkpoint:
    digest = holder.digest if isinstance(holder, Claim) else holder.identity.digest
    met = store.query(partial(store.verbs.read, digest))
    assert met is not None
    return met


def one_statement(text: str) -> Callable[[], Program[list[tuple[object, ...]]]]:
    """A program of a single statement."""

    def program() -> Program[list[tuple[object, ...]]]:
        answer = yield Statement(text)
        return [tuple(row) for row in answer.rows]

    return program


@contextmanager
def locked(database: str, claim: Claim) -> Iterator[None]:
    """Keep the row of a claim locked, as a transaction of its application does after its last write."""
    with psycopg.connect(database) as connection:
        lock = "SELECT FROM retrysafe_checkpoint WHERE operation_id = %s FOR UPDATE"
        assert connection.execute(lock, (claim.operation_id,)).fetchone() is not None
        yield
