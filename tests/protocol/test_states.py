"""The table of states, and what a claim finds in each of them."""

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from retrysafe.protocol.model import Ask, Checkpoint, Limits, Mode
from retrysafe.protocol.states import FINAL, LEASED, TRANSITIONS, State, allowed, sources
from retrysafe.protocol.verdicts import (
    ATTEMPTS_SPENT,
    LEASE_OVER_ONCE,
    Claimed,
    Expired,
    Finished,
    InFlight,
    Mismatch,
    Park,
    Parked,
    Replace,
    Take,
    judge,
    judge_abandoned,
)
from tests.protocol.samples import ASK, CHECKPOINT, DONE, NOW, OTHER_SECRET, asked

EVERY_STATE = list(State)
EVERY_MODE = list(Mode)
OTHER_REQUEST = replace(ASK, fingerprint=asked(b'{"amount": 2}'))


def met(state: State, **changes: object) -> Checkpoint:
    base = DONE if state in {State.DONE, State.UNDONE} else CHECKPOINT
    return replace(base, state=state, **changes)


# The table.


def test_every_state_says_where_it_may_lead() -> None:
    assert set(TRANSITIONS) == set(State)
    assert all(targets <= set(State) for targets in TRANSITIONS.values())


def test_a_final_state_leads_only_to_its_tombstone() -> None:
    """I1, S10."""
    assert {state: TRANSITIONS[state] for state in FINAL} == {
        State.DONE: {State.EXPIRED},
        State.UNDONE: {State.EXPIRED},
        State.EXPIRED: set(),
    }


def test_no_open_state_leads_to_a_tombstone() -> None:
    """S10: open and parked operations are never purged."""
    assert set(sources(State.EXPIRED)) == {State.DONE, State.UNDONE}


def test_every_state_can_be_reached() -> None:
    reached, frontier = {State.RUNNING}, {State.RUNNING}
    while frontier := {target for state in frontier for target in TRANSITIONS[state]} - reached:
        reached |= frontier
    assert reached == set(State)


def test_every_open_state_can_end() -> None:
    """Nothing stays open because there is no move: a person can always settle a parked operation."""
    assert all(allowed(state, State.PARKED) for state in set(State) - FINAL - {State.PARKED})
    assert allowed(State.PARKED, State.DONE)
    assert allowed(State.PARKED, State.UNDONE)


def test_sources_are_the_transitions_read_backwards() -> None:
    for current, target in product(State, State):
        assert (current in sources(target)) is allowed(current, target) is (target in TRANSITIONS[current])


def test_sources_come_in_the_order_of_the_enum() -> None:
    """The SQL that is generated from them is the same each time."""
    for target in State:
        assert list(sources(target)) == sorted(sources(target), key=EVERY_STATE.index)


# What a claim finds: the lease still runs.


@pytest.mark.parametrize("mode", EVERY_MODE)
@pytest.mark.parametrize("state", sorted(LEASED))
def test_a_running_lease_means_in_flight(state: State, mode: Mode) -> None:
    """C1."""
    checkpoint = met(state, mode=mode)
    assert judge(checkpoint, ASK) == InFlight(checkpoint)


@pytest.mark.parametrize("mode", EVERY_MODE)
def test_our_own_claim_is_recognised_when_its_acknowledgement_was_lost(mode: Mode) -> None:
    """D4: the claim is given again, under the same fence."""
    checkpoint = met(State.RUNNING, mode=mode, attempt_id=ASK.attempt_id)
    assert judge(checkpoint, ASK) == Claimed(checkpoint.claim(ASK.lease_seconds))


@pytest.mark.parametrize("state", [State.STREAMING])
def test_our_own_attempt_cannot_claim_what_it_has_moved_on(state: State) -> None:
    """D4."""
    checkpoint = met(state, attempt_id=ASK.attempt_id)
    assert judge(checkpoint, ASK) == InFlight(checkpoint)


# What a claim finds: the lease is over.


@pytest.mark.parametrize("state", sorted(LEASED))
def test_an_abandoned_once_operation_is_parked_and_never_taken(state: State) -> None:
    """C5: at the very instant at which the lease ends, judged on read."""
    assert judge(met(state, lease_until=NOW), ASK) == Park(LEASE_OVER_ONCE)


@pytest.mark.parametrize("state", [State.RUNNING, State.STREAMING])
def test_an_abandoned_again_operation_is_taken_over(state: State) -> None:
    """R8: and the attempt that ended without a word counts as dead."""
    assert judge(met(state, mode=Mode.AGAIN, lease_until=NOW), ASK) == Take(1)


def test_an_operation_that_kills_each_attempt_is_parked() -> None:
    """R8: three attempts are allowed; the third death parks."""
    deaths = {dead: judge_abandoned(met(State.RUNNING, mode=Mode.AGAIN, deaths=dead), Limits(3)) for dead in range(4)}
    assert deaths == {0: Take(1), 1: Take(2), 2: Park(ATTEMPTS_SPENT), 3: Park(ATTEMPTS_SPENT)}


def test_the_mode_of_the_claim_decides_and_not_the_mode_of_the_asker() -> None:
    """A deployment that changes the mode must not run again what was promised to run once."""
    once = met(State.RUNNING, mode=Mode.ONCE, lease_until=NOW - 1)
    assert judge(once, replace(ASK, mode=Mode.AGAIN)) == Park(LEASE_OVER_ONCE)


# What a claim finds: nobody holds it.


@pytest.mark.parametrize("mode", EVERY_MODE)
def test_a_released_key_is_claimed_again_and_nobody_died(mode: Mode) -> None:
    """S6."""
    assert judge(met(State.RELEASED, mode=mode), ASK) == Take(0)


@pytest.mark.parametrize("mode", EVERY_MODE)
@pytest.mark.parametrize("tombstone_until", [NOW - 1, NOW + 1])
def test_a_parked_operation_stays_parked_even_beyond_its_tombstone(mode: Mode, tombstone_until: float) -> None:
    """S10."""
    checkpoint = met(State.PARKED, mode=mode, tombstone_until=tombstone_until, lease_until=NOW - 9)
    assert judge(checkpoint, ASK) == Parked(checkpoint)


@pytest.mark.parametrize("state", [State.DONE, State.UNDONE])
@pytest.mark.parametrize("mode", EVERY_MODE)
def test_a_final_outcome_is_replayed_until_its_retention_is_over(state: State, mode: Mode) -> None:
    """C5, S10: the purge may not have come by yet."""
    kept, over = met(state, mode=mode, outcome_until=NOW + 0.1), met(state, mode=mode, outcome_until=NOW)
    assert judge(kept, ASK) == Finished(kept)
    assert judge(over, ASK) == Expired(over)
    ever = met(state, mode=mode, outcome_until=None)
    assert judge(ever, ASK) == Finished(ever)


def test_a_tombstone_refuses_a_second_run() -> None:
    """S10."""
    checkpoint = met(State.EXPIRED)
    assert judge(checkpoint, ASK) == Expired(checkpoint)


@pytest.mark.parametrize("ask", [ASK, OTHER_REQUEST], ids=["same request", "other request"])
@pytest.mark.parametrize("state", sorted({*FINAL, State.RELEASED}))
def test_a_key_whose_tombstone_is_over_is_free(state: State, ask: Ask) -> None:
    """C6: whatever the purge has done, and for any request."""
    assert judge(met(state, tombstone_until=NOW, outcome_until=NOW - 1), ask) == Replace()


@pytest.mark.parametrize("state", sorted(LEASED))
def test_an_open_operation_outlives_its_tombstone(state: State) -> None:
    """S10: open operations are never purged, so their keys are not free either."""
    assert not isinstance(judge(met(state, tombstone_until=NOW - 1, lease_until=NOW - 1), ASK), Replace)


# The fingerprint comes first.


@pytest.mark.parametrize("mode", EVERY_MODE)
@pytest.mark.parametrize("lease_until", [NOW - 1, NOW + 1], ids=["abandoned", "in flight"])
@pytest.mark.parametrize("state", EVERY_STATE)
def test_another_request_is_refused_in_every_state(state: State, lease_until: float, mode: Mode) -> None:
    """F1, I12: before in flight, before a take-over, after a release, and after expiry."""
    checkpoint = met(state, mode=mode, lease_until=lease_until)
    assert judge(checkpoint, OTHER_REQUEST) == Mismatch(checkpoint)


def test_a_fingerprint_under_a_forgotten_secret_is_refused_and_never_run() -> None:
    """F2."""
    checkpoint = met(State.RELEASED, fingerprint=asked(b'{"amount": 1}', secrets=(OTHER_SECRET,)).stored)
    assert judge(checkpoint, ASK) == Mismatch(checkpoint)


def test_another_request_cannot_pass_for_our_own_claim() -> None:
    """F1, D4."""
    checkpoint = met(State.RUNNING, attempt_id=ASK.attempt_id)
    assert judge(checkpoint, OTHER_REQUEST) == Mismatch(checkpoint)


# All of it together.

instants = st.sampled_from([NOW - 1, NOW, NOW + 1])


@given(
    state=st.sampled_from(EVERY_STATE),
    mode=st.sampled_from(EVERY_MODE),
    deaths=st.integers(0, 4),
    lease_until=instants,
    outcome_until=st.none() | instants,
    tombstone_until=instants,
    ask=st.sampled_from([ASK, OTHER_REQUEST, replace(ASK, attempt_id=CHECKPOINT.attempt_id)]),
)
def test_whatever_is_met_the_judgement_keeps_the_promises(
    *,
    state: State,
    mode: Mode,
    deaths: int,
    lease_until: float,
    outcome_until: float | None,
    tombstone_until: float,
    ask: Ask,
) -> None:
    """C1, C5, F1, R8, S10: what may never happen, over every combination."""
    checkpoint = met(
        state,
        mode=mode,
        deaths=deaths,
        lease_until=lease_until,
        outcome_until=outcome_until,
        tombstone_until=tombstone_until,
    )
    match judge(checkpoint, ask):
        case Take(now_dead, into):
            assert ask.fingerprint.matches(checkpoint.fingerprint)
            assert (mode is not Mode.ONCE and lease_until <= NOW) if state in LEASED else state is State.RELEASED
            assert now_dead in {deaths, deaths + 1, 0}
            # What is being undone never goes forward again (I9); in other modes nothing can be undone.
            assert (
                into is State.UNDOING
                if (state, mode) == (State.UNDOING, Mode.STEPS)
                else allowed(state, into) or state is State.UNDOING
            )
        case Park():
            assert state in LEASED
            assert lease_until <= NOW
            assert allowed(state, State.PARKED)
        case Replace():
            assert state not in LEASED | {State.PARKED}
            assert tombstone_until <= NOW
        case Claimed(claim):
            assert (claim.fence, claim.operation_id) == (checkpoint.fence, checkpoint.operation_id)
            assert state in {State.RUNNING, State.UNDOING}
            assert lease_until > NOW
        case Finished(found):
            assert found is checkpoint
            assert found.outcome is not None
        case InFlight(found):
            waits = found.mode in {Mode.STEPS, Mode.TRANSACTION} and found.due_at > NOW
            assert found.lease_remaining_seconds > 0 or waits
        case Mismatch(found) | Parked(found) | Expired(found):
            assert found is checkpoint
