"""Store files that cannot be used, over a real socket: nothing is run, and the service heals by itself (D1, D2)."""

from __future__ import annotations

import http.client
import json
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
import uvicorn

from retrysafe import SHARED, RetrySafe
from retrysafe.adapters.asgi import RetrySafeMiddleware
from retrysafe.stores.sqlite import SQLiteStore
from tests.stores.sqlite_tools import PATIENCE_SECONDS, writer_of

if TYPE_CHECKING:
    from pathlib import Path

LARGE = Random(1).randbytes(200_000)
"""Cannot be compressed, so that it needs room."""


class Shop:
    """An application that counts its effects, behind a guard, on a real server in a thread of this process."""

    def __init__(self, path: Path) -> None:
        self.effects = 0
        self.store = SQLiteStore(path)
        self.guard = RetrySafe(self.store, principal=SHARED, scan=None, sinks=())
        self.before_answer: Callable[[], None] = lambda: None
        self.port = 0

    async def app(self, scope: Any, receive: Any, send: Any) -> None:
        await receive()
        self.effects += 1
        self.before_answer()
        body = LARGE if scope["path"] == "/large" else b"done"
        length = (b"content-length", str(len(body)).encode())
        await send({"type": "http.response.start", "status": 201, "headers": [length]})
        await send({"type": "http.response.body", "body": body})

    def post(self, key: str, path: str = "/charges") -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_SECONDS)
        try:
            connection.request("POST", path, body="{}", headers={"Idempotency-Key": key})
            reply = connection.getresponse()
            return reply.status, {name.lower(): value for name, value in reply.getheaders()}, reply.read()
        finally:
            connection.close()

    def refuses(self, key: str) -> None:
        """Check that a request is answered 503 and not run."""
        before = self.effects
        status, headers, body = self.post(key)
        assert (status, json.loads(body)["code"]) == (503, "store-unavailable")
        assert int(headers["retry-after"]) >= 1
        assert self.effects == before

    def serves(self, key: str) -> None:
        """Check that a request is run, once."""
        before = self.effects
        assert self.post(key)[0] == 201
        assert self.post(key)[1]["idempotent-replayed"] == "true"
        assert self.effects == before + 1


class _Server(uvicorn.Server):
    """A server that says when it is ready."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = threading.Event()

    async def startup(self, sockets: Any = None) -> None:
        await super().startup(sockets)
        self.ready.set()


@contextmanager
def serving(shop: Shop) -> Iterator[Shop]:
    app = RetrySafeMiddleware(shop.app, guard=shop.guard)
    server = _Server(uvicorn.Config(app, port=0, log_level="error", lifespan="off"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    assert server.ready.wait(PATIENCE_SECONDS)
    shop.port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield shop
    finally:
        server.should_exit = True
        thread.join(PATIENCE_SECONDS)
        shop.guard.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.db"


@pytest.fixture
def shop(path: Path) -> Iterator[Shop]:
    with serving(Shop(path)) as shop:
        yield shop


def change(path: Path, statement: str) -> None:
    with sqlite3.connect(path) as database:
        database.execute(statement)
    database.close()


def test_a_file_from_a_newer_release_is_refused_until_it_is_put_right(shop: Shop, path: Path) -> None:
    """D1: the code does not write into a schema it does not know."""
    shop.serves("first")
    shop.guard.close()
    change(path, "UPDATE retrysafe_migration SET number = number + 100")
    shop.refuses("second")
    change(path, "UPDATE retrysafe_migration SET number = number - 100")
    shop.serves("second")


def test_a_file_that_is_no_database_is_refused_and_left_alone(path: Path) -> None:
    """D1: it may be somebody's letter."""
    path.write_bytes(b"this is a letter, and no database" * 200)
    before = path.read_bytes()
    with serving(Shop(path)) as shop:
        shop.refuses("key")
        assert path.read_bytes() == before
        path.unlink()
        shop.serves("key")


def test_a_damaged_file_is_refused_until_the_backup_is_back(shop: Shop, path: Path) -> None:
    """D1: and what the backup knows is replayed."""
    for number in range(40):
        shop.post(f"key-{number}", "/large")
    shop.guard.close()
    whole = path.read_bytes()
    path.write_bytes(whole[:4096] + b"\xff" * (len(whole) - 4096))
    shop.refuses("key-1")
    path.write_bytes(whole)
    before = shop.effects
    assert shop.post("key-1", "/large")[1]["idempotent-replayed"] == "true"
    assert shop.effects == before


def test_a_file_that_another_process_keeps_locked_is_refused_until_it_lets_go(path: Path) -> None:
    """D1: after the busy time-out, not after a hang."""
    with serving(Shop(path)) as shop:
        shop.serves("first")
        database = sqlite3.connect(path, isolation_level=None)
        database.execute("BEGIN IMMEDIATE")
        shop.refuses("second")
        database.execute("ROLLBACK")
        database.close()
        shop.serves("second")


def test_a_file_that_became_read_only_is_refused_until_it_can_be_written(shop: Shop) -> None:
    """D1: what a file system looks like that was remounted read-only."""
    shop.serves("first")
    writer = writer_of(shop.store)
    with writer.resting:
        assert writer.connection is not None
        writer.connection.execute("PRAGMA query_only = ON")
    shop.refuses("second")
    shop.serves("second")


def limit(shop: Shop, pages: int | None) -> None:
    """Let the database grow to so many pages more, or without end."""
    writer = writer_of(shop.store)
    with writer.resting:
        assert writer.connection is not None
        [now] = writer.connection.execute("PRAGMA page_count").fetchone()
        writer.connection.execute(f"PRAGMA max_page_count = {1_000_000 if pages is None else now + pages}")


def test_a_full_disk_before_the_effect_refuses_the_request(shop: Shop) -> None:
    """D1: nothing is run that could not be claimed."""
    shop.serves("first")
    limit(shop, 0)
    ran = 0
    while shop.post(f"filling-{ran}")[0] == 201:
        ran += 1
    shop.refuses("one-too-many")
    limit(shop, None)
    shop.serves("one-too-many")


def test_a_full_disk_after_the_effect_tells_the_truth_and_records_it_later(shop: Shop) -> None:
    """D2: the effect happened, so its response is sent, marked, and recorded as soon as there is room."""
    shop.serves("first")
    shop.before_answer = lambda: limit(shop, 0)
    status, headers, body = shop.post("key", "/large")
    assert (status, headers["idempotency-stored"], body) == (201, "false", LARGE)
    assert shop.post("key", "/large")[0] == 409
    limit(shop, None)
    assert shop.guard.local_engine().deferred.drain(PATIENCE_SECONDS)
    status, headers, body = shop.post("key", "/large")
    assert (status, headers["idempotent-replayed"], body) == (201, "true", LARGE)
    assert shop.effects == 2
