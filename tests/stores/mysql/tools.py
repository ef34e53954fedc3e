"""What the tests of the MySQL store do with it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from retrysafe.protocol.effects import Receipt
from retrysafe.protocol.model import Ask, Checkpoint, Claim
from retrysafe.protocol.verdicts import Claimed
from retrysafe.stores.mysql import MySQLStore
from retrysafe.stores.program import Program, Statement
from retrysafe.testing.asks import DAY_SECONDS, an_ask
from tests.services.mariadb import connect

PATIENCE_SECONDS = 60.0
"""How long a test waits for what must happen; only a defect takes as long."""
SESSION = "SELECT connection_id()"
WAITING = "SHOW GLOBAL STATUS LIKE 'Innodb_row_lock_current_waits'"


class Sight:
    """A connection of somebody else."""

    def __init__(self, url: str, *, autocommit: bool = True) -> None:
        self.url = url
        self.connection = connect(url)
        self.connection.autocommit(autocommit)
        # By default a look for a row without an index would lock the whole table, and what is between its rows.
        self.ask("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED")

    def ask(self, text: str, *terms: object) -> list[tuple[Any, ...]]:
        with self.connection.cursor() as cursor:
            cursor.execute(text, terms or None)
            return [tuple(row) for row in cursor.fetchall()]

    def others(self) -> list[int]:
        """The sessions of others in the same database."""
        mine = self.connection.thread_id()
        name = self.url.rpartition("/")[2]
        return [row[0] for row in self.ask("SHOW PROCESSLIST") if row[3] == name and row[0] != mine]

    def end_others(self) -> None:
        for session in self.others():
            self.ask(f"KILL {session}")

    def close(self) -> None:
        self.connection.close()


def until(holds: Callable[[], bool]) -> None:
    """Look again and again until it holds."""
    give_up_at = time.monotonic() + PATIENCE_SECONDS
    while not holds():
        assert time.monotonic() < give_up_at, "it never came to pass"
        time.sleep(0.01)


def until_somebody_waits(sight: Sight) -> None:
    """Look until a transaction waits for a row lock."""
    until(lambda: sight.ask(WAITING)[0][1] != "0")


def claimed(store: MySQLStore, ask: Ask | None = None) -> Claim:
    """Claim, and expect to get the claim."""
    verdict = store.run(partial(store.verbs.claim, ask or an_ask()))
    assert isinstance(verdict, Claimed), verdict
    return verdict.claim


def recording(store: MySQLStore, claim: Claim, outcome: bytes = b"the outcome") -> Callable[[], Program[Receipt]]:
    return lambda: store.verbs.record(claim, outcome, retention_seconds=DAY_SECONDS, tombstone_seconds=30 * DAY_SECONDS)


def read(store: MySQLStore, holder: Claim | Ask) -> Checkpoint:
    digest = holder.digest if isinstance(holder, Claim) else holder.identity.digest
    met = store.query(partial(store.verbs.read, digest))
    assert met is not None
    return met


def one_statement(text: str) -> Callable[[], Program[list[tuple[Any, ...]]]]:
    """A program of a single statement."""

    def program() -> Program[list[tuple[Any, ...]]]:
        answer = yield Statement(text)
        rows: Sequence[Any] = answer.rows
        return [tuple(row) for row in rows]

    return program


@contextmanager
def locked(database: str, claim: Claim) -> Iterator[None]:
    """Keep the row of a claim locked, as a transaction of its application does after its last write."""
    holder = Sight(database, autocommit=False)
    lock = "SELECT 1 FROM retrysafe_checkpoint WHERE operation_id = %s FOR UPDATE"
    assert holder.ask(lock, claim.operation_id) == [(1,)]
    try:
        yield
    finally:
        holder.close()
