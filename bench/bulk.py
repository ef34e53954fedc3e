"""Filling a table by the million: copies of one checkpoint that the store itself made, with keys of their own.

It copies whatever columns the table has, so it need not know them; only what must differ between rows is named here.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Iterable

from bench.asks import DAY, anew, make_asks, record_bytes
from bench.pairs import make_pair
from bench.sizes import connect_postgres, sqlite_path
from retrysafe.stores.urls import AnyStore, open_store

_AT_ONCE = 200_000
_LATER_SECONDS = 30 * DAY
# An outcome of 200 bytes, so that ten million rows fit on the disk of a laptop.
_OUTCOME = 200
_TEMPLATE = "SELECT max(number) FROM retrysafe_checkpoint"


def add_rows(url: str, count: int, due: int, tell: Callable[[int], None]) -> None:
    """Add finished checkpoints to a store's table.

    Args:
        url: of a store in SQLite or PostgreSQL.
        count: how many.
        due: of so many of them, the first ones, the retention is over.
        tell: takes how many there are, now and then.
    """
    asyncio.run(_make_template(open_store(url)))
    add = _add_to_sqlite if url.startswith("sqlite") else _add_to_postgres
    done = 0
    for number in add(url, _steps(count, due)):
        done += number
        tell(done)


def _steps(count: int, due: int) -> Iterable[tuple[int, bool]]:
    """Split rows into as many as one transaction takes; those that are due come first."""
    for rows, is_due in ((min(due, count), True), (max(count - due, 0), False)):
        for start in range(0, rows, _AT_ONCE):
            yield min(_AT_ONCE, rows - start), is_due


async def _make_template(store: AnyStore) -> None:
    """Make the checkpoint that is copied: the newest."""
    await store.aopen()
    try:
        [ask] = anew(await make_asks(1))
        await make_pair(store, ask, record_bytes())
    finally:
        await store.aclose()


def _columns(names: Iterable[str], own: dict[str, str]) -> tuple[str, str]:
    """Return the columns to write, and what is written into each."""
    listed = list(names)
    return ", ".join(listed), ", ".join(own.get(name, f"met.{name}") for name in listed)


def _add_to_postgres(url: str, steps: Iterable[tuple[int, bool]]) -> Iterable[int]:
    own = {
        "digest": "gen_random_uuid()",
        "operation_id": "gen_random_uuid()::text",
        "attempt_id": "gen_random_uuid()::text",
        "outcome": f"substr(met.outcome, 1, {_OUTCOME})",
    }
    with connect_postgres(url) as connection:
        connection.execute("SET synchronous_commit = off")
        names = connection.execute(
            "SELECT column_name FROM information_schema.columns WHERE table_schema = current_schema"
            " AND table_name = 'retrysafe_checkpoint' AND is_identity = 'NO' ORDER BY ordinal_position"
        )
        columns = [name for (name,) in names]
        [(template,)] = connection.execute(_TEMPLATE)
        for rows, is_due in steps:
            until = "0" if is_due else f"met.outcome_until + {_LATER_SECONDS}"
            into, values = _columns(columns, own | {"outcome_until": until})
            statement = (
                f"INSERT INTO retrysafe_checkpoint ({into}) SELECT {values} FROM generate_series(1, {rows}), "  # noqa: S608
                f"(SELECT * FROM retrysafe_checkpoint WHERE number = {template}) AS met"
            )
            connection.execute(statement.encode())
            yield rows
        # What a database that has grown by itself has long had.
        connection.execute("VACUUM ANALYZE retrysafe_checkpoint")
        connection.execute("CHECKPOINT")


def _add_to_sqlite(url: str, steps: Iterable[tuple[int, bool]]) -> Iterable[int]:
    random_text = "lower(hex(randomblob(16)))"
    own = {
        "digest": "randomblob(16)",
        "operation_id": random_text,
        "attempt_id": random_text,
        "outcome": f"substr(met.outcome, 1, {_OUTCOME})",
    }
    connection = sqlite3.connect(sqlite_path(url), isolation_level=None)
    try:
        connection.execute("PRAGMA synchronous = off")
        connection.execute("PRAGMA cache_size = -1000000")
        columns = [
            name for _, name, *_, key in connection.execute("PRAGMA table_info(retrysafe_checkpoint)") if not key
        ]
        [(template,)] = connection.execute(_TEMPLATE)
        for rows, is_due in steps:
            until = "0" if is_due else f"met.outcome_until + {_LATER_SECONDS}"
            into, values = _columns(columns, own | {"outcome_until": until})
            connection.execute(
                f"INSERT INTO retrysafe_checkpoint ({into}) "  # noqa: S608
                f"WITH RECURSIVE row (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM row WHERE n < {rows}) "
                f"SELECT {values} FROM row, (SELECT * FROM retrysafe_checkpoint WHERE number = {template}) AS met"
            )
            yield rows
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    finally:
        connection.close()
