"""A dialect's own claim and record statements, sent bare: by the driver, one after the other, with nothing around them.

That is the least that a pair can cost on this machine, and what a guarded request's added latency is compared with. The
statements are the ones that the store's programs yield; no pool, no thread, no batch and no protocol is between.
"""

from __future__ import annotations

import asyncio
import socket
import sqlite3
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing
from functools import cache
from importlib import import_module
from statistics import median
from typing import Any

import uvloop

from bench.asks import DAY, record_bytes
from bench.sizes import connect_postgres, sqlite_path
from retrysafe.protocol.model import Ask
from retrysafe.protocol.verdicts import Claimed
from retrysafe.stores.program import Answer, Program, Statement, run
from retrysafe.stores.urls import AnyStore, open_store

Perform = Callable[[Program[Any]], Awaitable[Any]]


def pair_ms(store: str, url: str, asks: Sequence[Ask], seconds: float) -> float | None:
    """Return how long half of the pairs took at least, in milliseconds; None where nobody has said how to send them.

    Args:
        store: its name in the tables.
        url: of a store whose tables are there.
        asks: of which nobody has seen the keys.
        seconds: after which no further pair begins.
    """
    begin = _WAYS.get(store)
    if begin is None:
        return None
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_pair_ms(begin(url), open_store(url), asks, seconds))


async def _pair_ms(
    opening: AbstractAsyncContextManager[Perform], store: AnyStore, asks: Sequence[Ask], seconds: float
) -> float:
    outcome, waits, verbs = record_bytes(), list[float](), store.verbs
    async with opening as perform:
        stop_at = time.perf_counter() + seconds
        for ask in asks:
            started_at = time.perf_counter()
            verdict = await perform(verbs.claim(ask))
            assert isinstance(verdict, Claimed)
            await perform(verbs.record(verdict.claim, outcome, retention_seconds=DAY, tombstone_seconds=30 * DAY))
            ended_at = time.perf_counter()
            waits.append(ended_at - started_at)
            if ended_at > stop_at:
                break
    return 1e3 * median(waits)


@asynccontextmanager
async def _sqlite(url: str) -> AsyncIterator[Perform]:
    with closing(sqlite3.connect(sqlite_path(url), isolation_level=None)) as connection:
        connection.execute("PRAGMA synchronous = full")

        def fetch(statement: Statement) -> Answer:
            cursor = connection.execute(statement.text, statement.parameters)
            return Answer(cursor.fetchall()) if cursor.description else Answer(changed=cursor.rowcount)

        async def perform(program: Program[Any]) -> Any:
            connection.execute("BEGIN IMMEDIATE")
            reply = run(program, fetch)
            connection.execute("COMMIT")
            return reply

        yield perform


@asynccontextmanager
async def _psycopg(url: str) -> AsyncIterator[Perform]:
    with connect_postgres(url) as connection, connection.cursor(binary=True) as cursor:

        def fetch(statement: Statement) -> Answer:
            cursor.execute(_formatted(statement.text).encode(), statement.parameters, prepare=True)
            return Answer(cursor.fetchall()) if cursor.description else Answer(changed=cursor.rowcount)

        async def perform(program: Program[Any]) -> Any:
            return run(program, fetch)

        yield perform


@asynccontextmanager
async def _asyncpg(url: str) -> AsyncIterator[Perform]:
    connection = await import_module("asyncpg").connect(url.partition("?")[0])
    prepared: dict[str, Any] = {}

    async def perform(program: Program[Any]) -> Any:
        try:
            statement = next(program)
            while True:
                text = statement.text
                if text not in prepared:
                    prepared[text] = await connection.prepare(_numbered(text))
                rows = await prepared[text].fetch(*statement.parameters)
                statement = program.send(Answer(rows))
        except StopIteration as end:
            return end.value

    try:
        yield perform
    finally:
        await connection.close()


@asynccontextmanager
async def _mysql(url: str) -> AsyncIterator[Perform]:
    """Use the store's own session, which is PyMySQL's connection with the store's wording of placeholders."""
    package = "retrysafe.stores.mysql"
    session = import_module(f"{package}.sessions").Session(import_module(f"{package}.location").settings_of(url))

    async def perform(program: Program[Any]) -> Any:
        return run(program, session.execute)

    try:
        yield perform
    finally:
        session.finish()


@asynccontextmanager
async def _redis(url: str) -> AsyncIterator[Perform]:
    hiredis: Any = import_module("hiredis")
    script: Callable[[str], Any] = import_module("retrysafe.stores.redis.calls").script
    address, _, number = url.removeprefix("redis://").partition("?")[0].partition("/")
    host, _, port = address.partition(":")
    reader = hiredis.Reader()
    with socket.create_connection((host, int(port))) as connection:

        def say(*words: Any) -> Any:
            connection.sendall(hiredis.pack_command(words))
            while (reply := reader.gets()) is False:
                reader.feed(connection.recv(65_536))
            return reply

        def fetch(statement: Statement) -> Answer:
            replies = []
            for name, keys, arguments in statement.parameters:
                replies.append(say("EVALSHA", script(name).digest, len(keys), *keys, *arguments))
            return Answer(replies)

        async def perform(program: Program[Any]) -> Any:
            return run(program, fetch)

        say("SELECT", number)
        for name in ("claim", "write"):
            say("SCRIPT", "LOAD", script(name).text)
        yield perform


@cache
def _formatted(text: str) -> str:
    return text.replace("?", "%s")


@cache
def _numbered(text: str) -> str:
    first, *rest = text.split("?")
    return first + "".join(f"${number}{part}" for number, part in enumerate(rest, 1))


_WAYS: dict[str, Callable[[str], AbstractAsyncContextManager[Perform]]] = {
    "sqlite": _sqlite,
    "postgresql, asyncpg": _asyncpg,
    "postgresql, psycopg": _psycopg,
    "mariadb": _mysql,
    "redis": _redis,
}
