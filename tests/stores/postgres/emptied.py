"""One database for many tests, emptied after each: making the tables anew takes ten times as long."""

from __future__ import annotations

import psycopg

from retrysafe.stores.postgres import PostgresStore

_EMPTY = """
SET session_replication_role = replica;
TRUNCATE retrysafe_checkpoint, retrysafe_step, retrysafe_outbox, retrysafe_audit, retrysafe_inbox, retrysafe_barrier,
    retrysafe_waiter RESTART IDENTITY
"""


def make_tables(database: str) -> None:
    """Make the tables of an empty database."""
    store = PostgresStore(database)
    store.open()
    store.close()


def empty(database: str) -> None:
    """Empty every table but those of the schema itself."""
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(_EMPTY.encode())
