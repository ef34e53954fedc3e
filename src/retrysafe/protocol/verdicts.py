"""What a store answers to a claim, and the one pure function that decides it for every store.

``judge`` sees the checkpoint that a claim met, as read inside the claim's own atomic operation, and says what must
happen to it. A store only has to carry that out under the fence it read; so memory, SQLite and every other store
decide alike.
"""

from __future__ import annotations

from typing import assert_never

import msgspec

from retrysafe.protocol.model import Ask, Checkpoint, Claim, Limits, Mode
from retrysafe.protocol.states import LEASED, State


class Claimed(msgspec.Struct, frozen=True, gc=False):
    """The caller holds the claim and must execute."""

    claim: Claim


class Finished(msgspec.Struct, frozen=True, gc=False):
    """The operation has its outcome: replay it."""

    checkpoint: Checkpoint


class InFlight(msgspec.Struct, frozen=True, gc=False):
    """Another attempt holds the claim and its lease runs."""

    checkpoint: Checkpoint


class Mismatch(msgspec.Struct, frozen=True, gc=False):
    """The key was used for another request (F1); judged before everything else, also while in flight."""

    checkpoint: Checkpoint


class Parked(msgspec.Struct, frozen=True, gc=False):
    """The outcome is unknown; a person or a probe must settle it."""

    checkpoint: Checkpoint


class Expired(msgspec.Struct, frozen=True, gc=False):
    """The outcome's retention is over; the tombstone refuses a second run (S10)."""

    checkpoint: Checkpoint


Verdict = Claimed | Finished | InFlight | Mismatch | Parked | Expired


class Take(msgspec.Struct, frozen=True, gc=False):
    """Carry out: give the asker the claim under the next fence.

    Attributes:
        deaths: how many attempts ended without record or release, from now on (R8).
        state: ``RUNNING`` to run the operation, ``UNDOING`` to undo it (R7).
    """

    deaths: int
    state: State = State.RUNNING


class Park(msgspec.Struct, frozen=True, gc=False):
    """Carry out: park the checkpoint under the fence that was read."""

    reason: str


class Replace(msgspec.Struct, frozen=True, gc=False):
    """Carry out: the tombstone is over, so the key is free and is claimed anew (C6)."""


Judgement = Verdict | Take | Park | Replace

LEASE_OVER_ONCE = "the attempt ended without an outcome; the operation may have happened"
ATTEMPTS_SPENT = "every allowed attempt ended without an outcome"
UNDO_ATTEMPTS_SPENT = "every allowed attempt to undo it ended without success; some effects may be left"

_PATIENT = frozenset({Mode.STEPS, Mode.TRANSACTION})
"""Modes in which a retrying client waits for the due time as well."""


def judge(met: Checkpoint, ask: Ask) -> Judgement:
    """Decide what a claim finds at a checkpoint that already exists.

    Args:
        met: the checkpoint, read inside the claim's atomic operation.
        ask: what the request asks for.

    Rules: F1, C1, C5, C6, S6, S10, R8, D4.
    """
    if met.state not in LEASED and met.state is not State.PARKED and met.tombstone_until <= met.now:
        return Replace()
    if not ask.fingerprint.matches(met.fingerprint):
        return Mismatch(met)
    match met.state:
        case State.DONE | State.UNDONE:
            # Expiry is judged on read (C5); the purge may not have come by yet.
            return Finished(met) if met.outcome_until is None or met.now < met.outcome_until else Expired(met)
        case State.EXPIRED:
            return Expired(met)
        case State.RELEASED:
            return Take(met.deaths)
        case State.PARKED:
            return Parked(met)
        case State.RUNNING | State.STREAMING | State.UNDOING:
            return _judge_leased(met, ask)
        case _:
            assert_never(met.state)


def _judge_leased(met: Checkpoint, ask: Ask) -> Judgement:
    if met.lease_until > met.now:
        # Our own claim, committed before its acknowledgement was lost (D4).
        ours = met.attempt_id == ask.attempt_id and met.state is not State.STREAMING
        return Claimed(met.claim(ask.lease_seconds)) if ours else InFlight(met)
    if met.mode in _PATIENT and met.due_at > met.now:
        # A retrying client must not hurry what backs off, or what waits until a late call can no longer land.
        return InFlight(met)
    return judge_abandoned(met, ask.limits)


def judge_abandoned(met: Checkpoint, limits: Limits) -> Take | Park:
    """Decide what happens to a checkpoint whose lease is over, by the mode it was claimed with.

    Args:
        met: an abandoned checkpoint.
        limits: how long recovery goes on by itself (R8).
    """
    deaths = met.deaths + 1
    if met.state is State.UNDOING and met.mode is not Mode.ONCE:
        return Park(UNDO_ATTEMPTS_SPENT) if deaths >= limits.undo_attempts else Take(deaths, State.UNDOING)
    match met.mode:
        case Mode.ONCE:
            return Park(LEASE_OVER_ONCE)
        case Mode.AGAIN | Mode.TRANSACTION:
            return Park(ATTEMPTS_SPENT) if deaths >= limits.attempts else Take(deaths)
        case Mode.STEPS:
            if deaths < limits.attempts:
                return Take(deaths)
            # What has begun to leave as a success is not undone behind its client's back.
            undo = limits.undo and met.state is not State.STREAMING
            return Take(0, State.UNDOING) if undo else Park(ATTEMPTS_SPENT)
        case _:
            assert_never(met.mode)
