"""Effects in the application's own database: one table, in the database of the store."""

from __future__ import annotations

import sqlite3
from functools import partial
from pathlib import Path
from typing import Any

from retrysafe.adapters.transactions.psycopg import PsycopgTransactions
from retrysafe.adapters.transactions.pymysql import PyMySQLTransactions
from retrysafe.adapters.transactions.sqlite3 import SQLite3Transactions
from tests.services import mariadb

CREATE_EFFECTS = "CREATE TABLE IF NOT EXISTS effects (what TEXT NOT NULL)"
INSERT_EFFECT = "INSERT INTO effects VALUES ('charged')"
COUNT_EFFECTS = "SELECT count(*) FROM effects"


def bindings(store_url: str) -> Any:
    """Where the shop's transactions come from."""
    if store_url.startswith("sqlite"):
        return SQLite3Transactions(store_url.removeprefix("sqlite:///"))
    if store_url.startswith("mariadb"):
        return PyMySQLTransactions(partial(mariadb.connect, store_url))
    return PsycopgTransactions(store_url)


def prepare(store_url: str) -> None:
    """Make the table."""
    _execute(store_url, CREATE_EFFECTS)


def count(store_url: str) -> int:
    """Count the effects that are committed."""
    [(number,)] = _execute(store_url, COUNT_EFFECTS)
    return int(number)


def _execute(store_url: str, text: str) -> list[Any]:
    if store_url.startswith("sqlite"):
        path = Path(store_url.removeprefix("sqlite:///"))
        connection: Any = sqlite3.connect(path, timeout=30)
    elif store_url.startswith("mariadb"):
        connection = mariadb.connect(store_url)
    else:
        import psycopg

        connection = psycopg.connect(store_url)
    try:
        cursor = connection.cursor()
        cursor.execute(text)
        rows = cursor.fetchall() if cursor.description else []
        connection.commit()
        return list(rows)
    finally:
        connection.close()
