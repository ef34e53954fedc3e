"""Promises about the store's own clock, which a test cannot move: it waits a moment for it (C2)."""

# ruff: noqa: S101 - a promise is asserted

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from retrysafe.protocol.model import Ask, Claim, Message, Mode
from retrysafe.protocol.verdicts import Claimed, Expired, InFlight
from retrysafe.stores.traits import Clock
from retrysafe.testing.asks import an_ask
from retrysafe.testing.runner import Runner

_A_MOMENT_SECONDS = 0.4
_LOOK_EVERY_SECONDS = 0.05
_PATIENCE_SECONDS = 30.0
"""How long a promise waits beyond what it waits for; only a defect takes as long."""
_UNEVEN_SECONDS = 0.1
"""By how much two clocks may disagree about what lies between two instants, because one is being set right."""


class TickingPromises:
    """How time passes in a store by itself."""

    def test_time_passes_in_the_store_as_it_does_here(self, runner: Runner) -> None:
        """C2: neither slower nor faster."""
        claim = runner.claimed(an_ask())
        first = _Look(runner, claim)
        time.sleep(_A_MOMENT_SECONDS)
        second = _Look(runner, claim)
        shortest, longest = second.before - first.after, second.after - first.before
        assert shortest - _UNEVEN_SECONDS <= second.now - first.now <= longest + _UNEVEN_SECONDS

    @pytest.mark.parametrize("hours", [1, -1])
    def test_the_clock_of_this_host_decides_nothing(
        self, runner: Runner, monkeypatch: pytest.MonkeyPatch, hours: int
    ) -> None:
        """C2: where the store declares that its instants are the server's."""
        if runner.store.traits.clock is not Clock.SERVER:
            pytest.skip("the store declares another clock")
        claim = runner.claimed(an_ask())
        first = _Look(runner, claim)
        wall, nanoseconds = time.time, time.time_ns
        monkeypatch.setattr(time, "time", lambda: wall() + hours * 3600)
        monkeypatch.setattr(time, "time_ns", lambda: nanoseconds() + hours * 3_600_000_000_000)
        second = _Look(runner, claim)
        assert isinstance(runner.claim(an_ask()), InFlight)
        assert 0 <= second.now - first.now <= second.after - first.before + _UNEVEN_SECONDS

    def test_a_lease_is_kept_for_its_length_and_the_margin_of_the_clocks(self, runner: Runner) -> None:
        """C2, C5: then the next claim takes over, and no sweeper has to come by first."""
        margin = runner.store.traits.margin_seconds
        runner.claimed(an_ask("held", mode=Mode.AGAIN, lease_seconds=600))
        verdict = runner.claim(an_ask("held", mode=Mode.AGAIN))
        assert isinstance(verdict, InFlight)
        assert 0 < verdict.checkpoint.lease_remaining_seconds <= 600 + margin
        sent = time.monotonic()
        runner.claimed(an_ask("over", mode=Mode.AGAIN, lease_seconds=_A_MOMENT_SECONDS))
        _until(lambda: isinstance(runner.claim(an_ask("over", mode=Mode.AGAIN)), Claimed), _A_MOMENT_SECONDS + margin)
        assert time.monotonic() - sent >= _A_MOMENT_SECONDS + margin - _UNEVEN_SECONDS

    def test_a_renewal_counts_from_its_own_instant(self, runner: Runner) -> None:
        """C3: and with the margin, like a claim."""
        margin = runner.store.traits.margin_seconds
        claim = runner.claimed(an_ask(lease_seconds=600))
        before = runner.read(claim)
        time.sleep(_A_MOMENT_SECONDS)
        runner.renew(claim)
        after = runner.read(claim)
        assert after.lease_until - before.lease_until >= _A_MOMENT_SECONDS - _UNEVEN_SECONDS
        assert 0 < after.lease_remaining_seconds <= 600 + margin

    def test_the_scan_finds_what_is_abandoned(self, runner: Runner) -> None:
        """R2: its statements have the same clock."""
        claim = runner.claimed(an_ask(lease_seconds=_A_MOMENT_SECONDS))
        held = runner.claimed(an_ask("held", lease_seconds=600))
        _until(lambda: len(runner.abandoned()) == 1, _A_MOMENT_SECONDS + runner.store.traits.margin_seconds)
        assert [seen.operation_id for seen in runner.dispatch()] == [claim.operation_id]
        assert held.operation_id not in {seen.operation_id for seen in runner.abandoned()}

    def test_retention_ends_by_itself(self, runner: Runner) -> None:
        """S10, C5: first the outcome's, then the tombstone's; a purge leaves nothing of it."""
        claim = runner.claimed(an_ask())
        runner.record(claim, retention_seconds=_A_MOMENT_SECONDS, tombstone_seconds=600)
        _until(lambda: isinstance(runner.claim(an_ask()), Expired), _A_MOMENT_SECONDS)
        runner.record(
            runner.claimed(an_ask("short")), retention_seconds=_A_MOMENT_SECONDS, tombstone_seconds=_A_MOMENT_SECONDS
        )
        _until(lambda: _is_purged(runner, an_ask("short")), _A_MOMENT_SECONDS)
        assert runner.read(claim).outcome is None

    def test_a_message_that_did_not_leave_is_taken_again(self, runner: Runner) -> None:
        """R12: when the lease of whoever took it is over."""
        claim = runner.claimed(an_ask())
        runner.record(claim, messages=[Message("payments", b"paid")])
        sent = time.monotonic()
        taken = list(runner.take_messages(lease_seconds=_A_MOMENT_SECONDS))
        assert len(taken) == 1
        _until(lambda: list(runner.take_messages()) == taken, _A_MOMENT_SECONDS)
        assert time.monotonic() - sent >= _A_MOMENT_SECONDS - _UNEVEN_SECONDS


class _Look:
    """An instant of the store's clock, and between which instants of ours it was read."""

    def __init__(self, runner: Runner, holder: Claim) -> None:
        self.before = time.monotonic()
        self.now = runner.read(holder).now
        self.after = time.monotonic()


def _is_purged(runner: Runner, ask: Ask) -> bool:
    runner.purge_all()
    return runner.look_up(ask) is None


def _until(holds: Callable[[], bool], seconds: float) -> None:
    """Look again and again until it holds, which should be so after some seconds."""
    give_up_at = time.monotonic() + seconds + _PATIENCE_SECONDS
    while not holds():
        assert time.monotonic() < give_up_at, f"it did not come to pass {_PATIENCE_SECONDS:.0f} s after it should have"
        time.sleep(_LOOK_EVERY_SECONDS)
