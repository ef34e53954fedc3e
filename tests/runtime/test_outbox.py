"""Messages of operations: they leave at least once, in order, and never without their operation's commit."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from retrysafe import SHARED, InProgress, Response, RetrySafe, SyncOperation
from retrysafe.runtime.outbox import Relay
from retrysafe.stores.base import Outgoing
from retrysafe.stores.memory import MemoryStore
from tests.runtime.rig import Time


class Shop:
    def __init__(self) -> None:
        self.time = Time(1_000_000.0)
        self.store = MemoryStore(clock=self.time)
        self.guard = RetrySafe(self.store, principal=SHARED, scan=None, sinks=())
        self.sent: list[tuple[str, str]] = []
        self.broken = 0

    def publish(self, message: Outgoing) -> None:
        if self.broken:
            self.broken -= 1
            raise ConnectionError
        self.sent.append((message.id.partition(":")[2], message.message.topic))

    def relay(self) -> int:
        return Relay(self.guard.engine(), self.guard.relay(self.publish)).work(lambda: False)

    def call(self, key: str, *topics: str, fails: bool = False) -> None:
        def function(op: SyncOperation) -> Response:
            for topic in topics:
                op.send(topic, {"operation": op.id}, {"version": "1"})
            if fails:
                raise ValueError
            return Response(201)

        self.guard.operation("work", mode="steps")(function)(key=key)


@pytest.fixture
def shop() -> Iterator[Shop]:
    made = Shop()
    yield made
    made.guard.close()


def test_messages_leave_in_order_and_once_when_nothing_fails(shop: Shop) -> None:
    """R12: with the id `operation:n`."""
    shop.call("a", "first", "second")
    assert shop.relay() == 2
    assert shop.sent == [("1", "first"), ("2", "second")]
    assert shop.relay() == 0


def test_an_operation_that_has_no_outcome_sends_nothing(shop: Shop) -> None:
    """I11: message in the outbox if and only if its commit."""
    with pytest.raises(InProgress):
        shop.call("a", "first", fails=True)
    assert shop.relay() == 0


def test_a_message_that_could_not_be_sent_is_sent_again_and_holds_back_its_successors(shop: Shop) -> None:
    """R12: at least once."""
    shop.call("a", "first", "second")
    shop.broken = 1
    assert shop.relay() == 0
    assert shop.sent == []
    shop.time.advance(60)
    assert shop.relay() == 2
    assert shop.sent == [("1", "first"), ("2", "second")]


def test_a_process_that_dies_over_its_messages_leaves_them_to_others(shop: Shop) -> None:
    """R12: what was published and not noted is published again, under the same id."""
    shop.call("a", "first")
    taken: Any = shop.store.run(partial(shop.store.verbs.take_messages, 10, 30.0))
    assert [message.number for message in taken] == [1]
    assert shop.relay() == 0
    shop.time.advance(31)
    assert shop.relay() == 1
