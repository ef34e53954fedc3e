"""Keeps the claims of this process alive, and tells attempts to stop when they no longer hold one (C3, C8).

Two threads of our own, so that neither a blocking handler nor a busy event loop starves them, and so that a renewal
that hangs in the store does not blind the watchdog:

- the *renewer* renews every claim that is due, all of them in one batched statement;
- the *watchdog* counts from the moment the last good renewal was **sent**, so the local view always ends before the
  store's.

An operation shorter than a third of its lease costs two dictionary writes here and no statement.
"""

from __future__ import annotations

import threading
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from retrysafe.errors import StoreError
from retrysafe.runtime import events
from retrysafe.stores.base import Lost

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from retrysafe.protocol.model import Claim
    from retrysafe.runtime.clock import Clock
    from retrysafe.stores.base import Store

_RENEW_AT = 1 / 3
# The watchdog acts this share of the lease before its end, to leave the attempt time to stop.
_MARGIN = 1 / 10
# Both threads look twice in the shortest interval that matters, so nothing is later than half of it.
_TICK = 1 / 6
_RENEW_AT_MOST = 500


@dataclass(slots=True, eq=False)
class Live:
    """One claim that this process holds."""

    claim: Claim
    renewed_at: float
    """When the last good claim or renewal was sent, by our monotonic clock."""
    ends_at: float
    """When ``max_duration`` is over, by our monotonic clock."""
    started_at: float
    stop: Callable[[], None] = field(repr=False)
    """Tells the attempt to stop; called at most once, from the watchdog's thread."""
    stopping: bool = False
    overran: bool = False
    gone: bool = False
    """The store said that the claim is not ours any more."""
    kept: bool = False
    """The attempt has ended; its outcome waits to be recorded (D2)."""
    settling: bool = False
    """The attempt has its outcome, and the write that says so is under way: nothing of it is to be stopped."""


class LeaseKeeper:
    """Renews the claims of one process and stops attempts that lost theirs."""

    def __init__(self, store: Store, clock: Clock, emit: Callable[[events.Event], None]) -> None:
        """Keep claims in ``store``; threads start with the first claim."""
        self._store = store
        self._clock = clock
        self._emit = emit
        self._live: dict[str, Live] = {}
        self._tick_seconds = 5.0
        self._started = False
        self._closed = threading.Event()
        # One for each thread: a shared one would be cleared by the first to wake.
        self._wakes = (threading.Event(), threading.Event())
        self._lock = threading.Lock()

    def watch(self, claim: Claim, *, sent_at: float, max_seconds: float, stop: Callable[[], None]) -> None:
        """Keep ``claim`` alive until :meth:`forget`, its loss, or the end of its ``max_seconds``.

        Args:
            claim: the claim.
            sent_at: monotonic instant at which the claim was sent to the store.
            max_seconds: how long the operation may run.
            stop: tells the attempt to stop.
        """
        now = self._clock.monotonic()
        before = self._live.get(claim.operation_id)
        if before is not None:
            # The store's clock ran ahead of ours, and this very process took over from itself.
            self._lose(before)
        tick = min(claim.lease_seconds, max_seconds) * _TICK
        if tick < self._tick_seconds or not self._started:
            # First: if no thread can be started, the request fails and its claim is left to its lease (C7).
            self._start(tick)
        self._live[claim.operation_id] = Live(claim, sent_at, now + max_seconds, now, stop)

    def forget(self, claim: Claim) -> Live | None:
        """Stop renewing ``claim``; returns what was known of it."""
        return self._live.pop(claim.operation_id, None) if self._known(claim) is not None else None

    def keep(self, claim: Claim) -> None:
        """Keep ``claim`` alive although its attempt has ended: its outcome waits to be recorded (D2)."""
        live = self._known(claim)
        if live is not None:
            live.kept = live.stopping = True
            # What would be stopped has a whole request in hand, and the store may be down for long.
            live.stop = _nothing_to_stop

    def settling(self, claim: Claim, *, begins: bool) -> None:
        """Tell that the write that ends ``claim`` is sent, or has failed.

        Stopping the attempt while it is under way would lose its outcome.
        A renewal that comes behind that write finds the operation ended, and that is no loss.
        """
        live = self._known(claim)
        if live is not None:
            live.settling = begins

    def abandon(self, claim: Claim) -> None:
        """Leave ``claim`` to its lease, as its attempt was cut off; unless its outcome waits to be recorded (C7)."""
        live = self._known(claim)
        if live is not None and not live.kept:
            self.forget(claim)

    def holds(self, claim: Claim) -> bool:
        """Tell whether the lease of ``claim`` certainly still runs, by the local watchdog."""
        live = self._known(claim)
        return live is not None and not live.gone and self._clock.monotonic() < self._deadline(live)

    def claims(self) -> Sequence[Claim]:
        """Return the claims that are kept alive now."""
        return [live.claim for live in tuple(self._live.values())]

    def close(self) -> None:
        """Stop both threads; claims are left to their leases."""
        self._closed.set()
        self._wake_threads()

    def _known(self, claim: Claim) -> Live | None:
        """Return what is known of ``claim`` itself, and not of a later claim of the same operation."""
        live = self._live.get(claim.operation_id)
        return live if live is not None and live.claim.fence == claim.fence else None

    def _start(self, tick_seconds: float) -> None:
        with self._lock:
            self._tick_seconds = min(self._tick_seconds, tick_seconds)
            self._wake_threads()
            if not self._started:
                works = ((self._renew_due, "renewer"), (self._stop_lost, "watchdog"))
                for (work, name), wake in zip(works, self._wakes, strict=True):
                    target = partial(self._every_tick, work, wake)
                    threading.Thread(target=target, name=f"retrysafe-{name}", daemon=True).start()
                # Only now: a process that can start no thread at this moment tries again with its next claim.
                self._started = True

    def _wake_threads(self) -> None:
        for wake in self._wakes:
            wake.set()

    def _every_tick(self, work: Callable[[], None], wake: threading.Event) -> None:
        while not self._closed.is_set():
            # A shorter lease than any before wakes the threads; afterwards they keep the shorter rhythm.
            wake.wait(self._tick_seconds)
            wake.clear()
            if not self._closed.is_set():
                # A sink that raises, a loop that closes just now: a thread that ended for it would cost every claim.
                with suppress(Exception):
                    work()

    def _renew_due(self) -> None:
        now = self._clock.monotonic()
        due = [
            live
            for live in tuple(self._live.values())
            if not (live.overran or live.gone) and now - live.renewed_at >= live.claim.lease_seconds * _RENEW_AT
        ]
        for start in range(0, len(due), _RENEW_AT_MOST):
            self._renew(due[start : start + _RENEW_AT_MOST])

    def _renew(self, due: Sequence[Live]) -> None:
        sent_at = self._clock.monotonic()
        try:
            renewals = self._store.run(partial(self._store.verbs.renew, [live.claim for live in due]))
        except StoreError as error:
            # Not a lost lease: the next tick tries again, and the watchdog counts on.
            self._emit(events.StoreFailed("*", "renew", type(error).__name__))
            return
        for live, renewal in zip(due, renewals, strict=True):
            if isinstance(renewal, Lost):
                live.gone = True
                self._lose(live)
            else:
                live.renewed_at = sent_at

    def _stop_lost(self) -> None:
        now = self._clock.monotonic()
        for live in tuple(self._live.values()):
            if now >= live.ends_at and not live.overran:
                live.overran = True
                if live.settling:
                    continue
                seconds = now - live.started_at
                self._emit(events.Overran(live.claim.name, live.claim.operation_id, seconds))
                self._tell_to_stop(live)
            elif now >= self._deadline(live):
                self._lose(live)

    def _lose(self, live: Live) -> None:
        # The attempt may have ended, and so given its claim back, while the renewal was under way.
        if self._live.get(live.claim.operation_id) is live and not live.stopping and not live.settling:
            self._emit(events.LeaseLost(live.claim.name, live.claim.operation_id))
            self._tell_to_stop(live)

    def _tell_to_stop(self, live: Live) -> None:
        with self._lock:
            if live.stopping:
                return
            live.stopping = True
        live.stop()

    @staticmethod
    def _deadline(live: Live) -> float:
        return live.renewed_at + live.claim.lease_seconds * (1 - _MARGIN)


def _nothing_to_stop() -> None:
    """The attempt has ended."""
