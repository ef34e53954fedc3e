"""Threads on a store whose driver only knows event loops."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Iterator
from functools import partial

import pytest

from retrysafe.errors import StoreUnavailable
from retrysafe.protocol.verdicts import Claimed
from retrysafe.stores.nats import NatsStore
from retrysafe.stores.program import Program, Statement
from retrysafe.testing.asks import an_ask
from tests.services.service import Service


def ours() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "retrysafe-nats"]


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    yield
    assert ours() == []


def test_a_store_may_be_closed_at_any_time_and_used_again(make: Callable[[], NatsStore]) -> None:
    store = make()
    store.close()
    for key in ("one", "two"):
        assert isinstance(store.run(partial(store.verbs.claim, an_ask(key))), Claimed)
        assert len(ours()) == 1
        store.close()
        store.close()
        assert ours() == []


def test_whoever_waits_while_the_store_is_closed_is_told(make: Callable[[], NatsStore]) -> None:
    """D4: nothing is known about what it asked for, and it does not wait for ever."""
    store = make()
    store.open()
    waiting, told = threading.Event(), list[Exception]()

    def endless() -> Program[None]:
        while True:
            yield Statement("find", ("open", 0.0, None, 1))
            waiting.set()

    def wait() -> None:
        try:
            store.run(endless)
        except StoreUnavailable as error:
            told.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    assert waiting.wait(60)
    # The program asks again, which connects anew; so until it is told.
    while not told:
        store.close()
    thread.join()
    store.close()


def test_a_store_that_nobody_closed_is_closed_when_it_is_collected(nats: Service, bucket: str) -> None:
    store = NatsStore([nats.url], bucket=bucket)
    store.open()
    assert len(ours()) == 1
    del store
    gc.collect()
    assert ours() == []


def test_a_program_for_a_database_is_refused(make: Callable[[], NatsStore]) -> None:
    def program() -> Program[None]:
        yield Statement("SELECT 1")

    with pytest.raises(TypeError, match="made for another store: SELECT 1"):
        make().run(program)
