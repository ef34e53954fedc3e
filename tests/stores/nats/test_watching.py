"""Whoever waits is told of the outcome by the server."""

from __future__ import annotations

import threading
from collections.abc import Callable

from retrysafe.stores.base import Capability
from retrysafe.stores.nats import NatsStore
from retrysafe.testing.asks import an_ask
from retrysafe.testing.runner import Runner
from tests.stores.postgres.tools import PATIENCE_SECONDS, until


def test_who_waits_is_woken_once_by_the_outcome_and_not_by_a_renewal(make: Callable[[], NatsStore]) -> None:
    """S9: of another process, and each for its own operation; what woke it can be read by then."""
    here, there = make(), Runner(make(), "sync")
    assert Capability.NOTIFY in here.traits.capabilities
    mine, other = there.claimed(an_ask("mine")), there.claimed(an_ask("other"))
    woken, wakes, others = threading.Event(), list[int](), list[int]()

    def wake() -> None:
        wakes.append(1)
        woken.set()

    with here.watch(mine.digest, 60.0, wake), here.watch(other.digest, 60.0, lambda: others.append(1)):
        until(lambda: _subscribed(here) == 2)
        there.renew(mine, other)
        there.record(mine)
        assert woken.wait(PATIENCE_SECONDS)
        assert Runner(here, "sync").read(mine).outcome is not None
    assert (len(wakes), len(others)) == (1, 0)


def test_a_watch_ends_with_its_context(make: Callable[[], NatsStore]) -> None:
    """S9: nothing is left of it on the connection."""
    store = make()
    store.open()
    with store.watch(an_ask().identity.digest, 60.0, lambda: None):
        until(lambda: _subscribed(store) == 1)
    until(lambda: _subscribed(store) == 0)


def test_a_watch_of_a_server_that_is_away_wakes_nobody_and_harms_nobody() -> None:
    """S9: whoever waits looks besides."""
    store = NatsStore(["nats://127.0.0.1:1"])
    with store.watch(an_ask().identity.digest, 60.0, lambda: None):
        pass
    store.close()


def _subscribed(store: NatsStore) -> int:
    return sum(len(wire._queues) for wire in store._wires._wires.values())
