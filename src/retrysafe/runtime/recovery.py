"""Finding and settling what dead attempts left behind, in every serving process, without a leader (R1, R2, R13).

One thread looks once a second for abandoned operations, by the store's clock. ``once`` is parked; ``again`` is run
again by a surface that registered how. Any number of processes may do this at once: whoever acts must win the claim.
The same thread drops what retention allows, in small batches.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from functools import partial
from random import SystemRandom
from typing import TYPE_CHECKING, assert_never

from retrysafe.errors import RetrySafeError, StoreError
from retrysafe.protocol.encoding import decode_request
from retrysafe.protocol.flows import recover
from retrysafe.protocol.model import Mode
from retrysafe.protocol.verdicts import Park, judge_abandoned
from retrysafe.runtime.clock import uuid7
from retrysafe.runtime.retention import Retention
from retrysafe.runtime.runs import Run

if TYPE_CHECKING:
    from retrysafe.protocol.effects import Answer, Flow
    from retrysafe.protocol.model import Checkpoint, StoredRequest
    from retrysafe.protocol.policy import Policy
    from retrysafe.runtime.engine import Engine

Rerun = Callable[["Checkpoint", "StoredRequest", "Policy", "Flow[Answer | None]"], bool]
"""Takes over an abandoned ``again`` operation.

Starts driving the flow on the surface's own thread or loop and returns at once. False when the surface is not ready
or not able.
"""


class PrincipalNotRestored(BaseException):
    """``restore_principal`` raised, so the re-run never began: the attempt counts as dead, and another follows (R8)."""


# Of our own: an application may seed the shared one, and a test of it may watch that.
_CHANCE = SystemRandom()
_AT_ONCE = 100
# What waits for its client must not hide what is behind it; so many of those are looked past, not more, because each
# is read with its request.
_LOOKED_PAST = 1_000
_JITTER = 0.2
_BACKOFF_SECONDS = 1.0
_LONGEST_BACKOFF_SECONDS = 300.0


class Scanner:
    """The thread that looks for abandoned operations."""

    def __init__(
        self,
        engine: Engine,
        policy_of: Callable[[str], Policy],
        reruns: Sequence[Rerun],
        *,
        namespace: str,
        interval_seconds: float,
    ) -> None:
        """Prepare the scan.

        Args:
            engine: this process's engine.
            policy_of: returns the policy of an operation by its name.
            reruns: how surfaces run ``again`` operations again; may grow while the scan runs.
            namespace: whose operations they may run again; another application in the same store has its own.
            interval_seconds: time between two looks, varied by a fifth so that processes don't march in step.
        """
        self._engine = engine
        self._policy_of = policy_of
        self._reruns = reruns
        self._namespace = namespace
        self._interval_seconds = interval_seconds
        self._retention = Retention(engine)
        self._left_alone = 0
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._work, name="retrysafe-scan", daemon=True)

    def start(self) -> None:
        """Start looking."""
        self._thread.start()

    def close(self) -> None:
        """Stop looking; returns once the thread has ended."""
        self._closed.set()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join()

    def _work(self) -> None:
        while not self._closed.wait(self._interval_seconds * _CHANCE.uniform(1 - _JITTER, 1 + _JITTER)):
            try:
                self.look()
                self._retention.work(self._closed.is_set)
            except StoreError as error:
                self._engine.failed("*", "scan", error)

    def look(self) -> int:
        """Settle what is abandoned now; returns how many operations were seen.

        Raises:
            StoreError: the store cannot be read.
        """
        engine = self._engine
        limit = _AT_ONCE + min(self._left_alone, _LOOKED_PAST)
        found = engine.sync.query(partial(engine.sync.verbs.abandoned, limit))
        self._left_alone = 0
        for seen in found:
            if self._closed.is_set():
                break
            try:
                taken = self._settle(seen, self._policy_of(seen.name))
            except Exception as error:  # noqa: BLE001 - whatever it is, it concerns this operation only
                taken = False
                reason = str(error) if isinstance(error, RetrySafeError) else type(error).__name__
                engine.failed(seen.name, "recover", StoreError(reason))
            self._left_alone += not taken
        return len(found)

    def _settle(self, seen: Checkpoint, policy: Policy) -> bool:
        """Park an operation or have it run again; False when it is left alone."""
        flow = recover(seen, policy, uuid7(), backoff_seconds(seen.deaths + 1))
        match judge_abandoned(seen, policy.attempts):
            case Park():
                Run(self._engine, flow, policy, name=seen.name, stop=_nobody_to_stop).advance()
                return True
            case _:
                match seen.mode:
                    case Mode.ONCE:
                        return False
                    case Mode.AGAIN:
                        return self._rerun(seen, policy, flow)
                    case _:
                        assert_never(seen.mode)

    def _rerun(self, seen: Checkpoint, policy: Policy, flow: Flow[Answer | None]) -> bool:
        """Hand an operation to the surface it came in by."""
        if seen.namespace != self._namespace or seen.request is None or not self._reruns:
            return False
        request = decode_request(seen.request)
        # A surface that was built anew has a higher number than the one before, and is the same application.
        rerun = self._reruns[min(request.surface, len(self._reruns) - 1)]
        return rerun(seen, request, policy, flow)


def backoff_seconds(deaths: int) -> float:
    """Return how long to leave an operation alone after so many dead attempts.

    Full jitter of 1 s·2ⁿ, at most 5 min (R8).
    """
    longest = min(_BACKOFF_SECONDS * 2 ** min(deaths, 16), _LONGEST_BACKOFF_SECONDS)
    return _CHANCE.uniform(0.0, longest)


def _nobody_to_stop() -> None:
    """Parking runs no attempt."""
