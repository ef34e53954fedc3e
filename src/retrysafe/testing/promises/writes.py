"""Promises about the writes of an attempt: each proves its right, and each may be made again."""

# ruff: noqa: S101 - a promise is asserted

from __future__ import annotations

from collections.abc import Callable

import pytest

from retrysafe.protocol.effects import Receipt, Superseded, Written
from retrysafe.protocol.model import Claim, Mode
from retrysafe.protocol.states import State
from retrysafe.protocol.verdicts import InFlight, Parked
from retrysafe.stores.base import Held, Lost
from retrysafe.testing.asks import an_ask
from retrysafe.testing.clock import ManualClock
from retrysafe.testing.runner import Runner

WRITES: dict[str, Callable[[Runner, Claim], Receipt]] = {
    "begin_stream": Runner.begin_stream,
    "record": Runner.record,
    "release": Runner.release,
    "park": Runner.park,
    "memoize": Runner.memoize,
    "postpone": Runner.postpone,
    "begin_undo": Runner.begin_undo,
}
"""Every write that answers with a receipt."""

every_write = pytest.mark.parametrize("write", WRITES.values(), ids=list(WRITES))


class WritePromises:
    """What an attempt may write."""

    def test_a_record_is_final_and_erases_the_request(self, runner: Runner, clock: ManualClock) -> None:
        """S1, R13: outcome and both retentions are in the one write."""
        claim = runner.claimed(an_ask(mode=Mode.AGAIN, request=b"card number"))
        clock.advance(1)
        receipt = runner.record(claim, b"\x00made\xff", retention_seconds=60, tombstone_seconds=90)
        assert receipt == Written()
        met = runner.read(claim)
        assert (met.state, met.outcome, met.request) == (State.DONE, b"\x00made\xff", None)
        assert (met.finished_at, met.outcome_until, met.tombstone_until) == (met.now, met.now + 60, met.now + 90)

    def test_an_outcome_of_a_mebibyte_comes_back_as_it_was(self, runner: Runner) -> None:
        """S2: byte-identical, whatever the bytes."""
        outcome = bytes(range(256)) * 4096
        claim = runner.claimed(an_ask())
        runner.record(claim, outcome)
        assert runner.read(claim).outcome == outcome

    def test_the_first_outcome_stays(self, runner: Runner) -> None:
        """D4: recording again is accepted, because the first answer may have been lost, and changes nothing."""
        claim = runner.claimed(an_ask())
        runner.record(claim, b"first")
        before = runner.read(claim)
        assert runner.record(claim, b"second") == Written()
        assert runner.read(claim) == before

    @every_write
    def test_a_write_made_twice_is_written_once(
        self, runner: Runner, write: Callable[[Runner, Claim], Receipt]
    ) -> None:
        """D4: the second time it is accepted, and changes nothing."""
        claim = runner.claimed(an_ask())
        assert write(runner, claim) == Written()
        before = runner.read(claim)
        assert write(runner, claim) == Written()
        assert runner.read(claim) == before

    @every_write
    def test_a_write_of_a_lost_claim_is_refused(
        self, runner: Runner, clock: ManualClock, write: Callable[[Runner, Claim], Receipt]
    ) -> None:
        """C4: once another attempt has the claim, as a value and without a trace."""
        lost = runner.claimed(an_ask(mode=Mode.AGAIN, lease_seconds=10))
        clock.advance(10)
        runner.claimed(an_ask(mode=Mode.AGAIN))
        before = runner.read(lost)
        assert write(runner, lost) == Superseded()
        assert runner.read(lost) == before

    @every_write
    def test_a_write_of_an_earlier_operation_of_the_key_is_refused(
        self, runner: Runner, clock: ManualClock, write: Callable[[Runner, Claim], Receipt]
    ) -> None:
        """C4: fences of a new operation start anew, so the operation is compared as well."""
        old = runner.claimed(an_ask(tombstone_seconds=100))
        runner.release(old)
        clock.advance(100)
        new = runner.claimed(an_ask())
        assert (old.fence, old.digest) == (new.fence, new.digest)
        before = runner.read(new)
        assert write(runner, old) == Superseded()
        assert runner.renew(old) == [Lost()]
        runner.hand_over(old)
        assert runner.read(new) == before

    @every_write
    def test_a_write_to_a_deleted_checkpoint_is_refused(
        self, runner: Runner, clock: ManualClock, write: Callable[[Runner, Claim], Receipt]
    ) -> None:
        """C4: there is nothing left that could have this fence."""
        claim = runner.claimed(an_ask(tombstone_seconds=100))
        runner.release(claim)
        clock.advance(101)
        runner.purge_all()
        assert runner.look_up(claim) is None
        assert write(runner, claim) == Superseded()

    def test_an_attempt_that_overran_its_lease_may_still_record(self, runner: Runner, clock: ManualClock) -> None:
        """C4: the fence decides, not the clock; nobody else has run it."""
        claim = runner.claimed(an_ask(lease_seconds=10))
        clock.advance(60)
        assert runner.record(claim) == Written()

    def test_a_final_outcome_can_be_neither_released_nor_parked_nor_put_off(self, runner: Runner) -> None:
        """C4: a write may only leave the states that it may leave."""
        claim = runner.claimed(an_ask())
        runner.record(claim)
        before = runner.read(claim)
        for write in (runner.release, runner.park, runner.begin_stream, runner.postpone, runner.begin_undo):
            assert write(claim) == Superseded()
        assert runner.read(claim) == before

    def test_a_release_keeps_the_operation_and_erases_the_request(self, runner: Runner) -> None:
        """S6: fingerprint, operation id and fence stay; the next claim brings a request of its own."""
        ask = an_ask(mode=Mode.AGAIN, request=b"card number")
        claim = runner.claimed(ask)
        assert runner.release(claim) == Written()
        met = runner.read(claim)
        assert (met.state, met.request, met.finished_at) == (State.RELEASED, None, None)
        assert (met.operation_id, met.fence) == (claim.operation_id, 1)
        assert met.fingerprint == ask.fingerprint.stored

    def test_a_stream_that_began_is_in_flight_until_it_is_recorded(self, runner: Runner) -> None:
        """S5: it can't be released any more, because bytes may have left."""
        claim = runner.claimed(an_ask())
        assert runner.begin_stream(claim) == Written()
        verdict = runner.claim(an_ask())
        assert isinstance(verdict, InFlight)
        assert verdict.checkpoint.state is State.STREAMING
        assert runner.release(claim) == Superseded()
        assert runner.record(claim) == Written()

    def test_a_parked_operation_takes_the_truth_from_its_late_attempt(self, runner: Runner, clock: ManualClock) -> None:
        """C4: it keeps its fence, so whoever holds that may still record, but not free the key."""
        claim = runner.claimed(an_ask(lease_seconds=10))
        clock.advance(10)
        assert isinstance(runner.claim(an_ask()), Parked)
        assert runner.release(claim) == Superseded()
        assert runner.record(claim, b"late") == Written()
        met = runner.read(claim)
        assert (met.state, met.outcome, met.reason) == (State.DONE, b"late", None)

    def test_an_attempt_parks_itself_with_a_reason(self, runner: Runner) -> None:
        """S5: under its own fence; nobody died."""
        claim = runner.claimed(an_ask())
        assert runner.park(claim, "the stream broke") == Written()
        met = runner.read(claim)
        assert (met.state, met.reason, met.deaths) == (State.PARKED, "the stream broke", 0)

    def test_a_renewal_moves_the_lease_end(self, runner: Runner, clock: ManualClock) -> None:
        """C3: to the claim's own lease from now, also when the old one had run out and nobody noticed."""
        claim = runner.claimed(an_ask(lease_seconds=10))
        for pause in (6, 14):
            clock.advance(pause)
            assert runner.renew(claim) == [Held()]
            met = runner.read(claim)
            assert (met.lease_until, met.due_at) == (met.now + 10, met.now + 10)

    def test_a_lost_claim_cannot_be_renewed(self, runner: Runner, clock: ManualClock) -> None:
        """C3, C4: beside one that is still held, and without a trace."""
        lost = runner.claimed(an_ask(mode=Mode.AGAIN, lease_seconds=10))
        held = runner.claimed(an_ask("another-key", lease_seconds=60))
        clock.advance(10)
        winner = runner.claimed(an_ask(mode=Mode.AGAIN, lease_seconds=10))
        before = runner.read(lost)
        assert runner.renew(lost, held) == [Lost(), Held()]
        assert runner.read(lost) == before
        assert runner.renew(winner) == [Held()]

    def test_a_renewal_keeps_the_back_off(self, runner: Runner, clock: ManualClock) -> None:
        """R8: an attempt that ran for long is left alone as long as one that died at once."""
        runner.claimed(an_ask(mode=Mode.AGAIN, lease_seconds=10))
        clock.advance(10)
        claim = runner.claimed(an_ask(mode=Mode.AGAIN, lease_seconds=10, backoff_seconds=4))
        clock.advance(5)
        runner.renew(claim)
        met = runner.read(claim)
        assert (met.lease_until, met.due_at) == (met.now + 10, met.now + 14)

    def test_many_claims_are_renewed_at_once_and_answered_in_order(self, runner: Runner, clock: ManualClock) -> None:
        """C3, C4: each by its own fence; what is finished, released, parked or unknown is lost."""
        claims = [runner.claimed(an_ask(f"key-{number}", lease_seconds=10 + number)) for number in range(450)]
        runner.record(claims[3])
        runner.release(claims[5])
        runner.park(claims[7])
        runner.begin_stream(claims[9])
        clock.advance(5)
        renewals = runner.renew(*claims)
        assert [number for number, renewal in enumerate(renewals) if renewal == Lost()] == [3, 5, 7]
        met = runner.read(claims[449])
        assert met.lease_until == met.now + 459
        assert runner.renew() == []
