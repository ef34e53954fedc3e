"""Outcomes that a process keeps, so that it need not ask the store."""

import asyncio
from datetime import timedelta

import pytest

from retrysafe import KeyExpired, KeyReused, Policy, State
from retrysafe.protocol import effects as fx
from retrysafe.protocol.flows import handle
from retrysafe.runtime import events
from retrysafe.runtime.engine import Engine
from retrysafe.runtime.replays import Replays
from retrysafe.runtime.runs import Run
from retrysafe.stores.memory import MemoryStore
from retrysafe.testing.faults import FaultyStore, fail
from tests.runtime.rig import CREATED, NAME, ONCE, Rig, Time, ask, nobody, returned

KEPT = 100_000


def keeping(size: int = KEPT, time: Time | None = None) -> Rig:
    rig = Rig()
    if time is not None:
        rig.time, rig.store = time, FaultyStore(MemoryStore(clock=time))
    rig.engine = Engine(rig.store, rig.store, emit=rig.events, max_waiters=1, replay_cache=size, clock=rig.time)
    rig.engine.open(pepper=None, secrets=())
    rig.engine.keeper._started, rig.engine.keeper._tick_seconds = True, 0.0
    return rig


def finished(rig: Rig, key: str = "k") -> None:
    run, _ = rig.begin(key=key)
    run.advance(returned())


def seen(rig: Rig, key: str = "k") -> None:
    """Finished, and replayed once from the store."""
    finished(rig, key)
    rig.run(key=key).advance()


def test_what_was_replayed_once_is_replayed_again_without_the_store() -> None:
    """S2, S7."""
    rig = keeping()
    seen(rig)
    rig.store.plan(fail("claim"))
    operation_id = rig.checkpoint().operation_id
    assert rig.run().advance() == fx.Replayed(operation_id, CREATED)
    assert asyncio.run(rig.arun().advance()) == fx.Replayed(operation_id, CREATED)
    assert len(rig.events.of(events.Replayed)) == 3


def test_another_request_with_the_key_is_refused_without_the_store() -> None:
    """F1."""
    rig = keeping()
    seen(rig)
    rig.store.plan(fail("claim"))
    with pytest.raises(KeyReused):
        Run(rig.engine, handle(ask(body=b"[]"), ONCE), ONCE, name=NAME, stop=nobody).advance()


def test_nothing_is_kept_unless_it_is_asked_for() -> None:
    rig = keeping(0)
    seen(rig)
    assert rig.engine.replays.size == 0


def test_an_outcome_is_kept_no_longer_than_the_store_keeps_it() -> None:
    """S10, C5."""
    rig = keeping()
    seen(rig)
    rig.time.advance(ONCE.retention_seconds - 1)
    rig.run().advance()
    rig.time.advance(1)
    with pytest.raises(KeyExpired):
        rig.run().advance()
    assert rig.engine.replays.size == 0
    rig.time.advance(ONCE.tombstone_seconds)
    _, claim = rig.begin()
    assert claim.fence == 1


class Ticking(Time):
    """Half a second passes with each look at it, as if everything took its time."""

    def monotonic(self) -> float:
        self.advance(0.5)
        return self()


def test_an_outcome_that_is_asked_for_without_end_is_kept_no_longer_for_it() -> None:
    """S10, C5: what is replayed from here is not taken for something that the store has said."""
    policy = Policy(retention=timedelta(seconds=60))
    rig = keeping(time=Ticking(1_000_000.0))
    rig.begin(policy)[0].advance(returned())
    over_at = rig.time() + 60

    def storm() -> None:
        while rig.time() < over_at + 30:
            rig.run(policy).advance()

    with pytest.raises(KeyExpired):
        storm()
    assert rig.time() <= over_at + 1


def test_only_what_is_final_is_kept() -> None:
    """I1: whatever is open may change."""
    rig = keeping()
    rig.begin()
    rig.engine.replays.keep(rig.checkpoint(), rig.time())
    assert (rig.checkpoint().state, rig.engine.replays.size) == (State.RUNNING, 0)


def test_the_outcomes_that_were_asked_for_longest_ago_are_forgotten() -> None:
    rig = keeping()
    finished(rig, "size")
    rig.engine.replays.keep(rig.checkpoint("size"), rig.time())
    one = rig.engine.replays.size
    rig = keeping(2 * one)
    for key in "ab":
        seen(rig, key)
    rig.run(key="a").advance()
    seen(rig, "c")
    assert rig.engine.replays.size == 2 * one
    rig.store.plan(fail("claim"))
    assert [rig.engine.replays.find(ask(key=key)) is not None for key in "abc"] == [True, False, True]


def test_an_outcome_that_is_larger_than_all_is_not_kept() -> None:
    rig = keeping()
    finished(rig)
    small = Replays(10, rig.time)
    small.keep(rig.checkpoint(), rig.time())
    assert small.size == 0
