"""What the runs of one process share."""

import asyncio

import pytest

from retrysafe import ConfigurationError, InProgress, KeyReused, OutcomeUnknown, Policy, State, StoreUnavailable
from retrysafe.protocol import effects as fx
from retrysafe.protocol.fingerprint import Secret
from retrysafe.protocol.flows import handle
from retrysafe.runtime import events
from retrysafe.runtime.engine import Engine
from retrysafe.runtime.runs import Run
from retrysafe.stores.memory import MemoryStore
from retrysafe.testing.faults import fail
from tests.runtime.rig import AGAIN, CREATED, NAME, ONCE, Events, Rig, ask, nobody, returned

LEASE = ONCE.lease_seconds


def engine(store: MemoryStore) -> Engine:
    return Engine(store, store, emit=Events(), max_waiters=1)


@pytest.mark.parametrize("face", ["threads", "event loops"])
def test_the_stores_own_pepper_and_secret_are_used_unless_others_are_given(face: str) -> None:
    """K4, F2."""
    store = MemoryStore()
    plain = engine(store)
    own = Secret.of(b"a secret of the application's own")
    with_secret = engine(store)
    if face == "threads":
        plain.open(pepper=None, secrets=())
        with_secret.open(pepper=store.open().pepper, secrets=[own])
    else:
        asyncio.run(plain.aopen(pepper=None, secrets=()))
        asyncio.run(with_secret.aopen(pepper=store.open().pepper, secrets=[own]))
    assert plain.pepper == with_secret.pepper == store.open().pepper
    assert plain.secrets == (Secret.of(store.open().fingerprint_secret),)
    assert with_secret.secrets == (own,)


def test_a_store_made_with_another_pepper_is_refused_and_stays_closed() -> None:
    """Every key would be free again (K4)."""
    refused = engine(MemoryStore())
    with pytest.raises(ConfigurationError, match="every key would be free again: remove it"):
        refused.open(pepper=b"p" * 32, secrets=())
    assert not refused.opened


def test_each_verdict_is_told_once(rig: Rig) -> None:
    """F1, C1."""
    run, claim = rig.begin()
    with pytest.raises(InProgress):
        rig.run().advance()
    other = handle(ask(ONCE, body=b'{"amount": 2}'), ONCE)
    with pytest.raises(KeyReused):
        Run(rig.engine, other, ONCE, name=NAME, stop=nobody).advance()
    run.advance(returned())
    rig.run().advance()
    assert rig.events.kinds == ["Claimed", "Conflicted", "Mismatched", "Recorded", "Replayed"]
    assert {event.operation_id for event in rig.events.of(events.OperationEvent)} == {claim.operation_id}


def test_a_client_that_finds_a_dead_attempt_of_mode_once_parks_it_and_that_is_told(rig: Rig) -> None:
    """C5, R8."""
    rig.begin()
    rig.time.advance(LEASE)
    with pytest.raises(OutcomeUnknown):
        rig.run().advance()
    assert len(rig.events.of(events.Parked)) == 1
    assert rig.checkpoint().state is State.PARKED


def test_how_long_an_operation_took_is_told_in_seconds_from_its_claim(rig: Rig) -> None:
    run, _ = rig.begin()
    rig.time.advance(2.5)
    run.advance(returned())
    assert [(event.status, event.seconds) for event in rig.events.of(events.Recorded)] == [(201, 2.5)]


def retry_after(rig: Rig, policy: Policy = ONCE) -> int:
    with pytest.raises(InProgress) as caught:
        rig.run(policy).advance()
    return caught.value.retry_after_seconds


def take(rig: Rig, key: str, seconds: float) -> None:
    run, _ = rig.begin(ONCE, key)
    rig.time.advance(seconds)
    run.advance(returned())


def test_with_nothing_to_go_by_a_client_is_sent_away_for_the_rest_of_the_lease(rig: Rig) -> None:
    rig.begin()
    assert retry_after(rig) == 15
    rig.time.advance(4.5)
    assert retry_after(rig) == 11


def test_once_an_operations_duration_is_known_a_client_is_told_when_it_should_be_done(rig: Rig) -> None:
    take(rig, "earlier", 4.0)
    rig.begin()
    assert retry_after(rig) == 4
    rig.time.advance(3.5)
    assert retry_after(rig) == 1


def test_an_operation_that_takes_longer_than_usual_is_expected_to_take_as_long_again(rig: Rig) -> None:
    take(rig, "earlier", 4.0)
    rig.begin()
    rig.time.advance(5.0)
    assert retry_after(rig) == 4


def test_no_client_is_told_to_come_back_at_once_or_after_the_lease(rig: Rig) -> None:
    take(rig, "quick", 0.0)
    rig.begin()
    assert retry_after(rig) == 1
    for number in range(30):
        take(rig, f"slow {number}", 60.0)
    _, claim = rig.begin(ONCE, "now")
    rig.time.advance(10)
    met = rig.checkpoint("now")
    assert claim.operation_id == met.operation_id
    assert rig.engine.retry_after_seconds(met) == 5


def test_what_is_usual_follows_the_latest_operations(rig: Rig) -> None:
    take(rig, "first", 10.0)
    take(rig, "second", 5.0)
    assert rig.engine._durations[NAME] == pytest.approx(9.0)


def test_the_store_failing_is_told_with_what_was_tried(rig: Rig) -> None:
    """D1."""
    rig.store.plan(fail("claim"))
    with pytest.raises(StoreUnavailable):
        rig.run().advance()
    with pytest.raises(StoreUnavailable):
        asyncio.run(rig.arun().advance())
    assert [(event.name, event.doing) for event in rig.events.of(events.StoreFailed)] == [(NAME, "claim")] * 2


def test_handing_over_ends_leases_at_once(rig: Rig) -> None:
    """C7."""
    claims = [rig.begin(AGAIN, key)[1] for key in "ab"]
    rig.engine.hand_over(claims)
    assert rig.store.calls["hand_over"] == 1
    assert [rig.checkpoint(key).lease_remaining_seconds for key in "ab"] == [0, 0]


def test_handing_over_nothing_costs_nothing_and_failing_to_is_no_disaster(rig: Rig) -> None:
    """Leases end by themselves (C7)."""
    rig.engine.hand_over([])
    assert "hand_over" not in rig.store.calls
    rig.store.plan(fail("hand_over"))
    rig.engine.hand_over([rig.claim()])
    assert [event.doing for event in rig.events.of(events.StoreFailed)] == ["hand over"]


def test_an_operation_that_runs_on_a_loop_is_recorded_and_replayed_alike(rig: Rig) -> None:
    """S1, S2."""

    async def twice() -> list[object]:
        run = rig.arun()
        step = await run.advance()
        assert isinstance(step, fx.Execute)
        return [await run.advance(returned()), await rig.arun().advance()]

    first, second = asyncio.run(twice())
    assert first == fx.Fresh(CREATED)
    assert isinstance(second, fx.Replayed)
    assert second.response == CREATED
