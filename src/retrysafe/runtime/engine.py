"""The engine of one process: what every run needs, whether it is sync or async.

It turns effects into store programs, keeps the claims they win alive, wakes waiters, and emits events. ``runs.py``
awaits or blocks; everything that could differ between the two, and must not, is here.
"""

from __future__ import annotations

import asyncio
import math
import os
import threading
from functools import partial
from typing import TYPE_CHECKING, Any, assert_never

from retrysafe.errors import ConfigurationError, StoreError
from retrysafe.protocol import effects as fx
from retrysafe.protocol import verdicts
from retrysafe.protocol.encoding import encode_outcome
from retrysafe.protocol.fingerprint import Secret
from retrysafe.runtime import events
from retrysafe.runtime.backoff import backoff_seconds
from retrysafe.runtime.clock import SystemClock
from retrysafe.runtime.commits import Commits
from retrysafe.runtime.deferred import Deferred
from retrysafe.runtime.leases import LeaseKeeper
from retrysafe.runtime.replays import Replays
from retrysafe.runtime.replies import undone_reply
from retrysafe.runtime.waiting import Waiters
from retrysafe.stores.base import Capability, Terms

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from retrysafe.protocol.model import Checkpoint, Claim
    from retrysafe.protocol.policy import Policy
    from retrysafe.runtime.clock import Clock
    from retrysafe.runtime.transactions import Bindings
    from retrysafe.stores.base import AsyncStore, Meta, Store
    from retrysafe.stores.program import Factory

_ENDINGS = (fx.Record, fx.Release, fx.ParkClaim, fx.Postpone)
_LATEST_WEIGHT = 0.2
# Undeclared operations are named by their path, which may hold ids: what is remembered of them is only an estimate.
_MOST_NAMES = 1000


class Engine:
    """What the runs of one process share.

    Attributes:
        sync: the store, for threads.
        aio: the same store, for event loops.
        transactions: of the application's database.
        loop: where the application's coroutines run when no request brings one along; None without one.
        pid: the process it belongs to; threads and connections do not survive a fork.
        answers_at_once: nothing that is asked of the store on an event loop has to be waited for.
    """

    def __init__(
        self,
        sync: Store,
        aio: AsyncStore,
        *,
        emit: Callable[[events.Event], None],
        max_waiters: int,
        replay_cache: int = 0,
        clock: Clock | None = None,
        transactions: Bindings | None = None,
    ) -> None:
        """Join a store with the runtime's parts; nothing starts and nothing connects yet."""
        self.transactions = Commits(sync, aio, transactions, lambda: self.pepper)
        self.loop: asyncio.AbstractEventLoop | None = None
        self.sync = sync
        self.aio = aio
        self.pid = os.getpid()
        self.answers_at_once = Capability.AT_ONCE in aio.traits.capabilities
        self.clock: Clock = clock or SystemClock()
        self.emit = emit
        self.keeper = LeaseKeeper(sync, self.clock, emit)
        self.replays = Replays(replay_cache, self.clock)
        self.waiters = Waiters(max_waiters, self.clock)
        self.deferred = Deferred()
        self.pepper = b""
        self.secrets: Sequence[Secret] = ()
        self._durations: dict[str, float] = {}
        self._opening = threading.Lock()

    @property
    def opened(self) -> bool:
        """Tell whether the store's meta row was read."""
        return bool(self.pepper)

    def open(self, *, pepper: bytes | None, secrets: Sequence[Secret]) -> None:
        """Connect to the store and take over its pepper (K4).

        Raises:
            ConfigurationError: the configured pepper is not the store's.
            StoreError: the store cannot be used.
        """
        with self._opening:
            if not self.opened:
                self._adopt(self.sync.open(), pepper, secrets)

    async def aopen(self, *, pepper: bytes | None, secrets: Sequence[Secret]) -> None:
        """Connect like :meth:`open`, without blocking the loop."""
        if not self.opened:
            self._adopt(await self.aio.aopen(), pepper, secrets)

    def _adopt(self, meta: Meta, pepper: bytes | None, secrets: Sequence[Secret]) -> None:
        if pepper is not None and pepper != meta.pepper:
            problem = "pepper is not the one this store was made with, so every key would be free again: remove it"
            raise ConfigurationError([problem])
        self.secrets = tuple(secrets) or (Secret.of(meta.fingerprint_secret),)
        self.pepper = meta.pepper

    # What a store effect is as a program.

    def program(self, effect: fx.StoreEffect, policy: Policy) -> Factory[Any]:
        """Return the store program that performs ``effect``."""
        verbs = self.sync.verbs
        match effect:
            case fx.Claim(ask):
                return partial(verbs.claim, ask)
            case fx.Record(claim, outcome, undone, messages):
                return partial(
                    verbs.record,
                    claim,
                    encode_outcome(outcome, policy.compression),
                    retention_seconds=policy.retention_seconds,
                    tombstone_seconds=policy.tombstone_seconds,
                    undone=undone,
                    messages=messages,
                )
            case fx.Release(claim):
                return partial(verbs.release, claim)
            case fx.BeginStream(claim):
                return partial(verbs.begin_stream, claim)
            case fx.Reclaim(seen, attempt_id, backoff_seconds):
                return partial(
                    verbs.reclaim, seen, Terms(attempt_id, policy.limits, policy.lease_seconds, backoff_seconds)
                )
            case fx.ParkClaim(claim, reason):
                return partial(verbs.park, claim, reason)
            case fx.Postpone(claim, seconds, reason):
                return partial(verbs.postpone, claim, seconds, reason)
            case fx.Read(digest):
                return partial(verbs.read, digest)
            case fx.ReadTrail(digest):
                return partial(verbs.trail, digest)
            case fx.Memoize(claim, memo):
                return partial(verbs.memoize, claim, memo)
            case fx.BeginUndo(claim, reason, outcome):
                encoded = None if outcome is None else encode_outcome(outcome, policy.compression)
                return partial(verbs.begin_undo, claim, reason, encoded)
            case _:
                assert_never(effect)

    # What follows from the store's answer.

    def observe(
        self,
        effect: fx.StoreEffect,
        reply: Any,  # noqa: ANN401 - each effect has its own type of answer
        *,
        sent_at: float,
        policy: Policy,
        stop: Callable[[], None],
    ) -> None:
        """Keep, forget, wake and tell, as ``reply`` demands.

        Args:
            effect: what was asked.
            reply: what the store answered.
            sent_at: monotonic instant at which it was asked.
            policy: how the operation is guarded.
            stop: tells the attempt to stop when its claim is lost.
        """
        match effect:
            case fx.Claim() | fx.Reclaim():
                if isinstance(reply, verdicts.Claimed):
                    self.keeper.watch(reply.claim, sent_at=sent_at, max_seconds=policy.max_duration_seconds, stop=stop)
                self._tell_verdict(reply, recovering=isinstance(effect, fx.Reclaim))
            case fx.Record(claim, outcome, undone):
                kind = events.Undone if undone else events.Recorded
                self._ended(claim, reply, lambda seconds: kind(claim.name, claim.operation_id, outcome.status, seconds))
            case fx.Release(claim):
                self._ended(claim, reply, lambda _: events.Released(claim.name, claim.operation_id))
            case fx.ParkClaim(claim, reason):
                self._ended(claim, reply, lambda _: events.Parked(claim.name, claim.operation_id, reason))
            case fx.BeginStream(claim):
                self._began(claim, reply, events.Streaming(claim.name, claim.operation_id))
            case fx.Postpone(claim, seconds, reason):
                self._ended(claim, reply, lambda _: events.Postponed(claim.name, claim.operation_id, seconds, reason))
            case fx.BeginUndo(claim, reason):
                self._began(claim, reply, events.Undoing(claim.name, claim.operation_id, reason))
            case fx.Memoize() | fx.Read() | fx.ReadTrail():
                pass
            case _:
                assert_never(effect)

    def _began(self, claim: Claim, reply: fx.Receipt, event: events.Event) -> None:
        """Note a write after which the attempt goes on."""
        if isinstance(reply, fx.Superseded):
            self._ended(claim, reply, lambda _: event)
        else:
            self.emit(event)

    def _ended(self, claim: Claim, receipt: fx.Receipt, event: Callable[[float], events.Event]) -> None:
        live = self.keeper.forget(claim)
        self.waiters.notify(claim.digest)
        if isinstance(receipt, fx.Superseded):
            self.emit(events.Superseded(claim.name, claim.operation_id))
            return
        seconds = self.clock.monotonic() - live.started_at if live else 0.0
        if live:
            usual = self._durations.get(claim.name, seconds)
            if len(self._durations) >= _MOST_NAMES and claim.name not in self._durations:
                self._durations.clear()
            self._durations[claim.name] = usual + _LATEST_WEIGHT * (seconds - usual)
        self.emit(event(seconds))

    def _tell_verdict(self, verdict: verdicts.Verdict | None, *, recovering: bool) -> None:
        match verdict:
            case None:
                pass
            case verdicts.Claimed(claim):
                if recovering:
                    self.emit(events.Recovered(claim.name, claim.operation_id, claim.attempt))
                self.emit(events.Claimed(claim.name, claim.operation_id, claim.attempt, claim.fence))
            case verdicts.Finished(met):
                self.emit(events.Replayed(met.name, met.operation_id))
            case verdicts.InFlight(met):
                self.emit(events.Conflicted(met.name, met.operation_id))
            case verdicts.Mismatch(met):
                self.emit(events.Mismatched(met.name, met.operation_id))
            case verdicts.Parked(met):
                self.waiters.notify(met.digest)
                self.emit(events.Parked(met.name, met.operation_id, met.reason or ""))
            case verdicts.Expired(met):
                self.emit(events.Expired(met.name, met.operation_id))
            case _:
                assert_never(verdict)

    # Effects that only this process can answer.

    def answer(self, effect: fx.LocalEffect, policy: Policy) -> bool | float | fx.Returned | None:
        """Perform an effect that needs no store round trip now."""
        match effect:
            case fx.StillHeld(claim):
                return self.keeper.holds(claim)
            case fx.RetryAfter(met):
                return self.retry_after_seconds(met)
            case fx.Abandon(claim):
                self.keeper.forget(claim)
                self.deferred.add(partial(self._end_leases, [claim]))
                return None
            case fx.RecordLater(record):
                claim = record.claim
                self.keeper.keep(claim)
                self.emit(events.RecordDeferred(claim.name, claim.operation_id))
                self.deferred.add(partial(self.perform, record, policy))
                return None
            case fx.ReleaseLater(claim):
                self.keeper.keep(claim)
                self.deferred.add(partial(self.perform, fx.Release(claim), policy))
                return None
            case fx.Backoff(deaths):
                return backoff_seconds(deaths)
            case fx.UndoneReply(claim):
                return undone_reply(claim, policy)
            case _:
                assert_never(effect)

    def perform(
        self, effect: fx.StoreEffect, policy: Policy, *, name: str | None = None, stop: Callable[[], None] | None = None
    ) -> Any:  # noqa: ANN401 - each effect has its own type of answer
        """Perform a store effect on the calling thread.

        Args:
            effect: what to ask.
            policy: how the operation is guarded.
            name: of the operation that waits for it; failures are told under it. None for work in the background,
                which tells by itself.
            stop: tells the attempt to stop when a claim that this wins is lost.

        Raises:
            StoreError: nothing is known.
        """
        if isinstance(effect, _ENDINGS):
            self.keeper.settling(effect.claim, begins=True)
        sent_at = self.clock.monotonic()
        try:
            reply = self._remembered(effect)
            if reply is None:
                reply = self.sync.run(self.program(effect, policy))
                self._remember(reply, sent_at)
        except StoreError as error:
            self._failed(effect, name, error)
            raise
        self.observe(effect, reply, sent_at=sent_at, policy=policy, stop=stop or _nobody_to_stop)
        return reply

    async def aperform(
        self, effect: fx.StoreEffect, policy: Policy, *, name: str | None = None, stop: Callable[[], None] | None = None
    ) -> Any:  # noqa: ANN401 - each effect has its own type of answer
        """Perform a store effect like :meth:`perform`, without blocking the loop."""
        if isinstance(effect, _ENDINGS):
            self.keeper.settling(effect.claim, begins=True)
        sent_at = self.clock.monotonic()
        try:
            reply = self._remembered(effect)
            if reply is None:
                reply = await self.aio.arun(self.program(effect, policy))
                self._remember(reply, sent_at)
        except StoreError as error:
            self._failed(effect, name, error)
            raise
        self.observe(effect, reply, sent_at=sent_at, policy=policy, stop=stop or _nobody_to_stop)
        return reply

    def _remembered(self, effect: fx.StoreEffect) -> verdicts.Verdict | None:
        """Return what this process knows by itself, where it keeps outcomes."""
        return self.replays.find(effect.ask) if self.replays.limit and isinstance(effect, fx.Claim) else None

    def _remember(self, reply: object, sent_at: float) -> None:
        """Keep what the store, and nobody else, has just said."""
        if self.replays.limit and isinstance(reply, verdicts.Finished):
            self.replays.keep(reply.checkpoint, sent_at)

    def _failed(self, effect: fx.StoreEffect, name: str | None, error: StoreError) -> None:
        if isinstance(effect, _ENDINGS):
            self.keeper.settling(effect.claim, begins=False)
        if name is not None:
            self.failed(name, type(effect).__name__.lower(), error)

    def retry_after_seconds(self, met: Checkpoint) -> int:
        """Estimate when an open operation has its outcome, at least 1 s.

        By its usual duration, at most its remaining lease; one that waits for its next attempt by when that is due.
        """
        if met.lease_until <= met.now < met.due_at:
            return max(1, math.ceil(met.due_at - met.now))
        lease = max(met.lease_remaining_seconds, 0.0)
        usual = self._durations.get(met.name)
        if usual is None:
            return max(1, math.ceil(lease))
        left = usual - met.age_seconds
        return max(1, math.ceil(min(lease, left if left > 0 else usual)))

    def failed(self, name: str, doing: str, error: StoreError) -> None:
        """Tell that the store failed."""
        self.emit(events.StoreFailed(name, doing, f"{type(error).__name__}: {error}"))

    def hand_over(self, claims: Sequence[Claim]) -> None:
        """End the leases of claims whose attempts have stopped, so that nobody waits for them to run out (C7)."""
        if not claims:
            return
        try:
            self._end_leases(claims)
        except StoreError as error:
            self.failed("*", "hand over", error)

    def _end_leases(self, claims: Sequence[Claim]) -> None:
        self.sync.run(partial(self.sync.verbs.hand_over, claims))

    def close(self) -> None:
        """Stop threads and close the store; claims are left to their leases."""
        self.keeper.close()
        self.deferred.close()
        self.sync.close()


def _nobody_to_stop() -> None:
    """Nobody runs an attempt here."""
