"""Finding and settling what dead attempts left behind, in every process, without a leader (R1, R2, R13).

One thread looks once a second for abandoned operations, by the store's clock. What can't be run again is parked; what
can is handed to the surface it came in by, or, if it is to be undone, to a thread. Any number of processes may do this
at once: the store gives each operation to one of them for a while, and whoever acts must win the claim all the same.
The same thread drops what retention allows, in small batches.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Protocol

import msgspec

from retrysafe.errors import RetrySafeError, StoreError
from retrysafe.protocol.encoding import decode_request
from retrysafe.protocol.flows import give_up, recover
from retrysafe.protocol.model import Mode
from retrysafe.protocol.states import LEASED, State
from retrysafe.protocol.verdicts import Park, judge_abandoned
from retrysafe.runtime.backoff import CHANCE, backoff_seconds
from retrysafe.runtime.clock import uuid7
from retrysafe.runtime.retention import Retention
from retrysafe.runtime.runs import Run
from retrysafe.stores.base import Wanted

if TYPE_CHECKING:
    from retrysafe.protocol.effects import Answer, Flow
    from retrysafe.protocol.model import Checkpoint, StoredRequest
    from retrysafe.protocol.policy import Policy
    from retrysafe.runtime.engine import Engine
    from retrysafe.runtime.outbox import Relay

Rerun = Callable[["Checkpoint", "StoredRequest", "Policy", "Flow[Answer | None]"], bool]
"""Takes over an abandoned operation.

Starts driving the flow on the surface's own thread or loop and returns at once. False when the surface is not ready
or not able.
"""

Send = Callable[[Sequence["Checkpoint"]], bool]
"""Sends a hint about each operation to whoever takes it (R2). False: the queue could not."""

Alone = Callable[["Checkpoint"], None]
"""Runs an operation in a process of its own, and returns when that has ended (R8)."""


class PrincipalNotRestored(BaseException):
    """``restore_principal`` raised, so the re-run never began: the attempt counts as dead, and another follows (R8)."""


class Runnable(Protocol):
    """A function that is an operation by itself and can be run again from its stored command."""

    def rerun(self, seen: Checkpoint, request: StoredRequest, policy: Policy, flow: Flow[Answer | None]) -> bool:
        """Take over an abandoned call; see :data:`Rerun`."""
        ...


CALL = "CALL"
"""The method of a stored request that is the typed command of a function."""

PARALLEL = 16
"""How many abandoned operations one process runs at once by default."""

_RUNNABLE = frozenset({Mode.AGAIN, Mode.STEPS, Mode.TRANSACTION})
_JITTER = 0.2
_GRACE_SECONDS = 86_400.0
_HINTS_AT_ONCE = 100
# A note holds for a second at least; who was due so long ago has been told about before, and nobody came.
_HEAD_START_SECONDS = 0.9
_NOBODY_KNOWS = "no process knew this operation for a day; was it renamed, or its code removed?"


class Scanner:
    """The thread that looks for abandoned operations.

    Attributes:
        send: tells others what is abandoned, where there is a queue.
        alone: runs what has killed its processes before, where there is somebody who can.
        relay: sends what operations tell others, where that was declared.
        looked_at: when it last looked, by the process's monotonic clock.
    """

    def __init__(
        self,
        engine: Engine,
        policy_of: Callable[[str], Policy],
        reruns: Sequence[Rerun],
        *,
        namespace: str,
        interval_seconds: float,
        functions: Mapping[str, Runnable] | None = None,
        parallel: int = PARALLEL,
    ) -> None:
        """Prepare the scan.

        Args:
            engine: this process's engine.
            policy_of: returns the policy of an operation by its name.
            reruns: how surfaces run operations again; may grow while the scan runs.
            namespace: whose operations they may run again; another application in the same store has its own.
            interval_seconds: time between two looks, varied by a fifth so that processes don't march in step.
            functions: operations that are functions, by name; may grow while the scan runs.
            parallel: how many operations are run at once.
        """
        self.send: Send | None = None
        self.alone: Alone | None = None
        self.relay: Relay | None = None
        self.looked_at = engine.clock.monotonic()
        self._engine = engine
        self._policy_of = policy_of
        self._reruns = reruns
        self._functions: Mapping[str, Runnable] = {} if functions is None else functions
        self._namespace = namespace
        self._interval_seconds = interval_seconds
        self._parallel = parallel
        self._busy: set[str] = set()
        self._idle = threading.Condition()
        self._retention = Retention(engine)
        self._closed = threading.Event()
        self._wake = threading.Event()
        self._threads = ThreadPoolExecutor(parallel, thread_name_prefix="retrysafe-recovery")
        self._thread = threading.Thread(target=self._work, name="retrysafe-scan", daemon=True)

    def wait_until_idle(self, seconds: float | None = None) -> bool:
        """Wait until nothing is being recovered; False when the time is over first."""
        with self._idle:
            return self._idle.wait_for(lambda: not self._busy, seconds)

    @property
    def busy(self) -> int:
        """How many operations are being recovered now."""
        return len(self._busy)

    def start(self) -> None:
        """Start looking."""
        self._thread.start()
        if self.relay is not None:
            threading.Thread(
                target=self._send_messages, args=(self.relay,), name="retrysafe-relay", daemon=True
            ).start()

    def _send_messages(self, relay: Relay) -> None:
        """Send what operations tell others, on a thread of its own: whoever publishes slowly must not stop recovery."""
        while not self._closed.wait(self._interval_seconds):
            try:
                relay.work(self._closed.is_set)
            except Exception as error:  # noqa: BLE001 - what is in the outbox stays there, and the next turn tries again
                self._engine.failed("*", "relay", StoreError(type(error).__name__))

    def close(self) -> None:
        """Stop looking; returns once the thread has ended."""
        self._closed.set()
        self._wake.set()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join()
        self._threads.shutdown(wait=False)

    def _work(self) -> None:
        while not self._closed.is_set():
            self._wake.wait(self._interval_seconds * CHANCE.uniform(1 - _JITTER, 1 + _JITTER))
            self._wake.clear()
            try:
                # A full batch says that there is more, so the next one does not wait.
                while not self._closed.is_set() and self.look() >= self._batch > 0:
                    pass
                self._retention.work(self._closed.is_set)
            except StoreError as error:
                self._engine.failed("*", "scan", error)
            except Exception as error:  # noqa: BLE001 - a thread that ended for it would leave every operation to others
                self._engine.failed("*", "scan", StoreError(type(error).__name__))

    @property
    def _batch(self) -> int:
        return self._parallel - len(self._busy)

    def look(self) -> int:
        """Settle what is abandoned now; returns how many operations were seen.

        Raises:
            StoreError: the store cannot be read.
        """
        names = None if self._reruns else frozenset(self._functions)
        wanted = Wanted(self._namespace, _RUNNABLE, names)
        batch = self._batch
        if batch <= 0:
            return 0
        limit = batch if self.send is None else _HINTS_AT_ONCE
        store = self._engine.sync
        # Mostly there is nothing, and reading that disturbs no writer.
        anything = store.query(partial(store.verbs.abandoned, 1))
        self.looked_at = self._engine.clock.monotonic()
        found = store.run(partial(store.verbs.dispatch, wanted, limit)) if anything else ()
        for seen in self._after_hints(found)[:batch]:
            if self._closed.is_set():
                break
            self.settle(seen)
        return len(found)

    def _after_hints(self, found: Sequence[Checkpoint]) -> Sequence[Checkpoint]:
        """Send hints; return what is left to do here: everything if there is no queue, and what no hint has moved.

        The scan stays on, whatever becomes of hints: an operation that was due a while ago is claimed here (R1, R2).
        """
        if self.send is None:
            return found
        fresh = [seen for seen in found if seen.now - max(seen.lease_until, seen.due_at) < _HEAD_START_SECONDS]
        if fresh and self.send(fresh):
            hinted = {seen.operation_id for seen in fresh}
            return [seen for seen in found if seen.operation_id not in hinted]
        return found

    def settle(self, seen: Checkpoint) -> bool:
        """Park an operation, have it run again or undone; False when it is left alone.

        Whether it is still abandoned is for the claim to find out (R1).
        """
        with self._idle:
            if self._closed.is_set() or seen.state not in LEASED or seen.operation_id in self._busy:
                return False
            self._busy.add(seen.operation_id)
        taken = False
        try:
            taken = self._settle(seen, self._policy_of(seen.name))
        except Exception as error:  # noqa: BLE001 - whatever it is, it concerns this operation only
            reason = str(error) if isinstance(error, RetrySafeError) else type(error).__name__
            self._engine.failed(seen.name, "recover", StoreError(reason))
        finally:
            if not taken:
                self._done(seen.operation_id)
        return taken

    def _settle(self, seen: Checkpoint, policy: Policy) -> bool:
        verdict = judge_abandoned(seen, policy.limits)
        flow = self._counted(seen, recover(seen, policy, uuid7(), backoff_seconds(seen.deaths + 1)))
        if isinstance(verdict, Park):
            self._here(seen, policy, flow)
            return True
        if seen.namespace != self._namespace:
            return False
        if _suspect(seen, policy) and self.alone is not None:
            self._threads.submit(self._alone, self.alone, seen)
            return True
        if verdict.state is State.UNDOING:
            self._threads.submit(self._here, seen, policy, flow)
            return True
        return self._rerun(seen, policy, flow)

    def _rerun(self, seen: Checkpoint, policy: Policy, flow: Flow[Answer | None]) -> bool:
        """Hand an operation to the surface it came in by."""
        if seen.request is None:
            return False
        request = decode_request(seen.request)
        if request.method == CALL:
            function = self._functions.get(request.operation)
            if function is not None:
                try:
                    return function.rerun(seen, request, policy, flow)
                except (msgspec.MsgspecError, TypeError) as error:
                    reason = f"its stored command does not fit the function any more: {error}"
                    self._here(seen, policy, self._counted(seen, give_up(seen, uuid7(), reason)))
                    return False
            if seen.age_seconds > _GRACE_SECONDS:
                self._here(seen, policy, self._counted(seen, give_up(seen, uuid7(), _NOBODY_KNOWS)))
            return False
        if not self._reruns:
            return False
        # A surface that was built anew has a higher number than the one before, and is the same application.
        rerun = self._reruns[min(request.surface, len(self._reruns) - 1)]
        return rerun(seen, request, policy, flow)

    def _alone(self, alone: Alone, seen: Checkpoint) -> None:
        try:
            alone(seen)
        except Exception as error:  # noqa: BLE001 - such as a process that can't be started
            self._engine.failed(seen.name, "recover alone", StoreError(type(error).__name__))
        finally:
            self._done(seen.operation_id)

    def _here(self, seen: Checkpoint, policy: Policy, flow: Flow[Answer | None]) -> None:
        """Drive a flow that needs no surface to its end."""
        run = Run(self._engine, flow, policy, name=seen.name, stop=_nobody_to_stop)
        try:
            run.advance()
        except RetrySafeError as error:
            if isinstance(error, StoreError):
                self._engine.failed(seen.name, "recover", error)
        except Exception as error:  # noqa: BLE001 - whatever it is, it concerns this operation only
            self._engine.failed(seen.name, "recover", StoreError(type(error).__name__))
        finally:
            run.abandon()

    def _counted(self, seen: Checkpoint, flow: Flow[Answer | None]) -> Flow[Answer | None]:
        """Count an operation as busy until its flow has ended."""
        try:
            return (yield from flow)
        finally:
            self._done(seen.operation_id)

    def _done(self, operation_id: str) -> None:
        with self._idle:
            self._busy.discard(operation_id)
            self._idle.notify_all()
        self._wake.set()


def _suspect(seen: Checkpoint, policy: Policy) -> bool:
    """Tell whether an operation seems to kill its processes: two deaths, the last within one lease of its start (R8).

    Its attempt's id says when it began, by the clock of the host that ran it; that is good enough to be careful.
    """
    if seen.deaths < 1:
        return False
    began_at = int(seen.attempt_id.replace("-", "")[:12], 16) / 1000
    return seen.lease_until - began_at < 2 * policy.lease_seconds


def _nobody_to_stop() -> None:
    """What runs here is no attempt that could be stopped from outside."""
