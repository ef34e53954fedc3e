"""A bucket that three servers keep: what was acknowledged survives any one of them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import timedelta
from functools import partial
from typing import Any

import msgspec
import pytest

from retrysafe.errors import StoreUnavailable
from retrysafe.protocol.effects import Written
from retrysafe.protocol.states import State
from retrysafe.protocol.verdicts import Claimed
from retrysafe.stores.base import Durability, Query
from retrysafe.stores.nats import NatsStore
from retrysafe.stores.nats.bucket import API
from retrysafe.stores.nats.connect import connecting
from retrysafe.stores.nats.wire import Wire
from retrysafe.testing.asks import an_ask
from tests.services.servers import nats_cluster
from tests.services.service import Service
from tests.stores.postgres.tools import until


@pytest.fixture
def cluster() -> Iterator[list[Service]]:
    with ExitStack() as stack:
        servers = nats_cluster()
        for server in servers:
            stack.callback(server.remove)
        for server in servers:
            server.start()
        yield servers


def test_the_leader_is_killed_and_nothing_acknowledged_is_lost(cluster: list[Service], bucket: str) -> None:
    """S1, D3, D4: claims and records go on as soon as there is another leader."""
    store = NatsStore([server.url for server in cluster], bucket=bucket, replicas=3, timeout=timedelta(seconds=2))
    assert store.traits.durability is Durability.QUORUM
    until(lambda: _opens(store))
    acknowledged: list[str] = []
    enough, stopped = threading.Event(), threading.Event()

    def write(worker: int) -> None:
        for number in range(10_000):
            if stopped.is_set():
                return
            ask = an_ask(f"key-{worker}-{number}", lease_seconds=900)
            verdict = _insist(store, partial(store.verbs.claim, ask))
            assert isinstance(verdict, Claimed), "its own claim, however often it was asked for"
            record = partial(
                store.verbs.record, verdict.claim, b"outcome", retention_seconds=900.0, tombstone_seconds=900.0
            )
            assert _insist(store, record) == Written()
            acknowledged.append(ask.attempt_id)
            if len(acknowledged) >= 50:
                enough.set()

    workers = [threading.Thread(target=write, args=[worker]) for worker in range(4)]
    for worker in workers:
        worker.start()
    assert enough.wait(60)
    _leader(cluster, f"KV_{bucket}").kill()
    before = len(acknowledged)
    until(lambda: len(acknowledged) >= before + 50)
    stopped.set()
    for worker in workers:
        worker.join()
    listing = _insist(store, partial(store.verbs.listing, Query(limit=1_000_000)))
    there = {met.operation_id: met.state for met in listing}
    assert set(acknowledged) <= there.keys()
    assert set(there.values()) == {State.DONE}
    store.close()


def _opens(store: NatsStore) -> bool:
    try:
        store.open()
    except StoreUnavailable:
        return False
    return True


def _insist(store: NatsStore, program: Any) -> Any:
    while True:
        try:
            return store.run(program)
        except StoreUnavailable:
            continue


def _leader(cluster: list[Service], stream: str) -> Service:
    async def ask() -> str:
        wire = await Wire.open(connecting([cluster[0].url], {}, 5.0), 5.0)
        answer = await wire.ask(f"{API}.STREAM.INFO.{stream}")
        await wire.close()
        return str(msgspec.json.decode(answer.data)["cluster"]["leader"])

    name = asyncio.run(ask())
    return next(server for server in cluster if server.folder.name == name)
