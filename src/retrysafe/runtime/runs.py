"""One run of one flow: a request that is being answered, or an abandoned operation that is being recovered.

A surface moves a run in at most three steps, and each ends at something the surface must do::

    advance()          → Execute: run the operation        or an Answer: send it
    advance(Returned)  → an Answer: send it                 (the operation gave a whole response)
    advance(Began)     → Forward: send the stream, then advance(Ended)
"""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, Never, TypeVar, assert_never, cast

from retrysafe.http.profiles import IETF
from retrysafe.protocol import effects as fx
from retrysafe.protocol import model, verdicts
from retrysafe.protocol.model import Mode
from retrysafe.protocol.ordinary import Ordinary
from retrysafe.runtime import events
from retrysafe.runtime.calls import atake_back, take_back
from retrysafe.runtime.drive import adrive, drive
from retrysafe.runtime.operations import AsyncOperation, Attempt, SyncOperation
from retrysafe.runtime.replies import raised

if TYPE_CHECKING:
    from retrysafe.http.request import HttpRequest
    from retrysafe.protocol.model import Checkpoint, Response
    from retrysafe.protocol.policy import Policy
    from retrysafe.runtime.engine import Engine
    from retrysafe.runtime.operations import Operation
    from retrysafe.runtime.transactions import AsyncTransaction, Transaction

A = TypeVar("A")

AuthorizeReplay = Callable[["HttpRequest", "Checkpoint"], "bool | Awaitable[bool]"]
"""Tells whether this caller may see the recorded outcome (K6)."""
RebuildResponse = Callable[["HttpRequest", "Checkpoint"], "Response | Awaitable[Response | None] | None"]
"""Makes the response of a finished operation again when its body was not kept; None when it cannot (S5)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hooks:
    """What the application may decide about replays."""

    authorize_replay: AuthorizeReplay | None = None
    rebuild: RebuildResponse | None = None


class _Run(Generic[A]):
    """What sync and async runs share."""

    operation: Callable[..., Operation | None]

    def __init__(
        self,
        engine: Engine,
        flow: fx.Flow[A] | Ordinary,
        policy: Policy,
        *,
        name: str,
        stop: Callable[[], None],
        request: HttpRequest | None = None,
        hooks: Hooks | None = None,
    ) -> None:
        """Prepare a run; nothing happens before the first ``advance``.

        Args:
            engine: the process's engine.
            flow: what is to be done; or a request, whose flow is made when its course is not the ordinary one.
            policy: how the operation is guarded.
            name: the operation's name, for events.
            stop: tells the attempt to stop when its claim is lost; called from another thread.
            request: the client's request, or None in recovery.
            hooks: what the application decides about replays.
        """
        self._engine = engine
        self._ordinary = flow if isinstance(flow, Ordinary) else None
        self._flow = None if isinstance(flow, Ordinary) else flow
        self._policy = policy
        self._name = name
        self._stop = stop
        self._request = request
        self._hooks = hooks or Hooks()

    def _hook(self, effect: fx.Authorize | fx.Rebuild) -> Any:  # noqa: ANN401 - the hooks' answers differ
        """Call the application's hook; its answer may be awaitable."""
        match effect:
            case fx.Authorize(checkpoint):
                decide = self._hooks.authorize_replay
                return True if decide is None or self._request is None else decide(self._request, checkpoint)
            case fx.Rebuild(checkpoint):
                rebuild = self._hooks.rebuild
                return None if rebuild is None or self._request is None else rebuild(self._request, checkpoint)
            case _:
                assert_never(effect)

    def _note(self, reply: fx.Reply | fx.Ended | None) -> None:
        """Tell about an exception that the operation's author did not declare."""
        match reply:
            case fx.Raised(error) if reply.undeclared:
                failed = type(error).__name__
            case fx.Ended(error=Exception() as error):
                failed = type(error).__name__
            case _:
                return
        self._engine.emit(events.HandlerFailed(self._name, self._claim.operation_id if self._claim else "", failed))

    def in_hand(self, step: fx.Execute, *, recovering: bool = False) -> Callable[[], Operation | None]:
        """Return what makes the operation's object when its code asks for it, which it seldom does."""
        make = partial(self.operation, step, recovering=recovering)
        if step.claim is None or step.claim.mode is not Mode.TRANSACTION:
            return make
        # Its transaction is open now, and is not its any more once the operation has ended.
        operation = make()
        return lambda: operation

    def abandon(self) -> None:
        """Leave the attempt's claim to its lease: what ran it was cut off (C7)."""
        # A flow that was cut off is part of a cycle, and what it does in the end must not wait for a collector.
        if self._flow is not None:
            with suppress(ValueError):
                self._flow.close()
        if self._claim is not None:
            self._engine.keeper.abandon(self._claim)
        # What would be stopped has its run in hand: together they would stay in memory until a collector comes by.
        self._stop = _nothing_to_stop

    def _committed(self, effect: fx.Commit, receipt: fx.Receipt | fx.Conflicted) -> fx.Receipt | fx.Conflicted:
        """Let the engine observe a record that the operation's own transaction has made."""
        if isinstance(receipt, fx.Conflicted):
            self._engine.keeper.settling(effect.claim, begins=False)
        else:
            record = fx.Record(effect.claim, effect.outcome)
            self._engine.observe(record, receipt, sent_at=0.0, policy=self._policy, stop=self._stop)
        return receipt

    def _leave(self, told: fx.Reply | fx.Ended | None = None) -> fx.Flow[A]:
        """Leave the ordinary course for the flow, at the effect whose answer is next.

        Args:
            told: what the operation did, if that effect is the one that follows it.
        """
        ordinary, self._ordinary = cast("Ordinary", self._ordinary), None
        flow = self._flow = cast("fx.Flow[A]", ordinary.flow(told))
        return flow

    def _goes_on(
        self, answer: verdicts.Verdict | fx.Receipt, reply: fx.Reply | fx.Ended | None
    ) -> fx.Execute | A | None:
        """Return what follows from the store's answer on the ordinary course; None when this is where it is left."""
        follows: fx.Execute | fx.Answer | None = None
        if isinstance(answer, verdicts.Claimed):
            self._claim = answer.claim
            follows = cast("Ordinary", self._ordinary).executes(answer)
        elif isinstance(answer, fx.Written) and isinstance(reply, fx.Returned):
            follows = fx.Fresh(reply.response)
        elif isinstance(answer, verdicts.Finished) and self._hooks.authorize_replay is None:
            follows = cast("Ordinary", self._ordinary).replays(answer)
        return cast("fx.Execute | A | None", follows)

    _claim: model.Claim | None = None

    def _begins_transaction(self, step: object) -> bool:
        """Note what is to be executed; tell whether that needs a transaction of its own."""
        if type(step) is not fx.Execute:
            return False
        if step.claim is None:
            self._engine.emit(events.Unprotected(self._name, "store unavailable"))
            return False
        self._claim = step.claim
        return step.claim.mode is Mode.TRANSACTION


_LEFT: set[asyncio.Future[bool]] = set()
"""Transactions that are being rolled back for attempts that were cut off; a loop alone would forget them."""


class Run(_Run[A]):
    """A run for threads."""

    _transaction: Transaction | None = None

    def advance(self, reply: fx.Reply | fx.Ended | None = None) -> fx.Execute | fx.Forward | A:
        """Go on from what the surface did; see the module's picture.

        Raises:
            RequestRefused: the operation was not run.
            AttemptSuperseded: this attempt lost its claim.
            StoreError: the store is down and the operation was not run.
        """
        ordinary = self._ordinary
        if ordinary is not None and (effect := ordinary.asks(reply)) is not None:
            try:
                answer = self._engine.perform(effect, self._policy, name=self._name, stop=self._stop)
            except Exception as error:  # noqa: BLE001 - the flow decides what it means
                step = drive(self._leave(reply), self._perform, raised=error)
            else:
                follows = self._goes_on(answer, reply)
                if follows is not None:
                    return follows
                step = drive(self._leave(reply), self._perform, answer)
        else:
            self._note(reply)
            step = drive(self._flow or self._leave(), self._perform, reply)
        if not self._begins_transaction(step):
            return step
        try:
            self._transaction = self._engine.transactions.begin(self._policy.transaction_seconds)
        except Exception as error:  # noqa: BLE001 - the flow decides what it means
            return self.advance(raised(error, 0, IETF))
        return step

    def operation(self, step: fx.Execute, *, recovering: bool = False) -> SyncOperation | None:
        """Return what the operation's code has in hand; None when it runs unprotected."""
        if step.claim is None:
            return None
        attempt = Attempt(self._engine, step.claim, self._policy, step.trail, recovering=recovering)
        return SyncOperation(attempt, self._transaction)

    def abandon(self) -> None:
        """Leave the attempt's claim to its lease: what ran it was cut off (C7). Its transaction is rolled back."""
        super().abandon()
        open_, self._transaction = self._transaction, None
        if open_ is not None:
            open_.rollback()

    def _perform(self, effect: fx.AnyEffect) -> Any:  # noqa: ANN401 - each effect has its own type of answer
        engine = self._engine
        if isinstance(effect, fx.StoreEffect):
            reply = engine.perform(effect, self._policy, name=self._name, stop=self._stop)
            if isinstance(reply, verdicts.Claimed):
                # As soon as it is won: whatever fails then, it is left to its lease.
                self._claim = reply.claim
            return reply
        if isinstance(effect, fx.LocalEffect):
            return engine.answer(effect, self._policy)
        match effect:
            case fx.Wait(checkpoint, seconds):
                return engine.waiters.wait(engine.sync, checkpoint, seconds)
            case fx.Pause(seconds):
                return time.sleep(seconds)
            case fx.Authorize() | fx.Rebuild():
                return self._hook(effect)
            case fx.Undo(claim, memo):
                return take_back(claim, memo, self._policy.step_timeout_seconds, engine.loop)
            case fx.Commit():
                open_, self._transaction = self._transaction, None
                engine.keeper.settling(effect.claim, begins=True)
                try:
                    receipt = engine.transactions.commit(open_, effect, self._policy)
                except BaseException:
                    engine.keeper.settling(effect.claim, begins=False)
                    raise
                return self._committed(effect, receipt)
            case fx.Rollback(error=error):
                open_, self._transaction = self._transaction, None
                return engine.transactions.roll_back(open_, error)
            case _:
                return _never_here(effect)


class AsyncRun(_Run[A]):
    """A run for event loops."""

    _transaction: Transaction | AsyncTransaction | None = None

    async def claim(self) -> fx.Execute | A | None:
        """Claim, and return what follows on the ordinary course; None when it is more, which ``advance`` then does.

        It runs nothing of the application's, so it may be called outside of the operation's own task.
        """
        try:
            ask = fx.Claim(cast("Ordinary", self._ordinary).ask)
            answer = await self._engine.aperform(ask, self._policy, name=self._name, stop=self._stop)
            follows = self._goes_on(answer, None)
        except Exception as error:  # noqa: BLE001 - the flow decides what it means
            self._met = None, error
            return None
        if follows is None:
            self._met = answer, None
        return follows

    _met: tuple[object, Exception | None] | None = None
    """What the store answered to a claim that was made before."""

    async def advance(self, reply: fx.Reply | fx.Ended | None = None) -> fx.Execute | fx.Forward | A:
        """Go on from what the surface did; see :meth:`Run.advance`."""
        ordinary = self._ordinary
        if self._met is not None:
            (answer, failed), self._met = self._met, None
            step = await adrive(self._leave(), self._perform, answer, raised=failed)
        elif ordinary is not None and (effect := ordinary.asks(reply)) is not None:
            try:
                answer = await self._engine.aperform(effect, self._policy, name=self._name, stop=self._stop)
            except Exception as error:  # noqa: BLE001 - the flow decides what it means
                step = await adrive(self._leave(reply), self._perform, raised=error)
            else:
                follows = self._goes_on(answer, reply)
                if follows is not None:
                    return follows
                step = await adrive(self._leave(reply), self._perform, answer)
        else:
            self._note(reply)
            step = await adrive(self._flow or self._leave(), self._perform, reply)
        if not self._begins_transaction(step):
            return step
        try:
            self._transaction = await self._engine.transactions.abegin(self._policy.transaction_seconds)
        except Exception as error:  # noqa: BLE001 - the flow decides what it means
            return await self.advance(raised(error, 0, IETF))
        return step

    def abandon(self) -> None:
        """Leave the attempt's claim to its lease, like :meth:`Run.abandon`; only in the loop's own thread."""
        super().abandon()
        open_, self._transaction = self._transaction, None
        if open_ is not None:
            left = asyncio.ensure_future(self._engine.transactions.aroll_back(open_, None))
            _LEFT.add(left)
            left.add_done_callback(_LEFT.discard)

    def operation(self, step: fx.Execute, *, recovering: bool = False) -> AsyncOperation | None:
        """Return what the operation's code has in hand; None when it runs unprotected."""
        if step.claim is None:
            return None
        attempt = Attempt(self._engine, step.claim, self._policy, step.trail, recovering=recovering)
        return AsyncOperation(attempt, self._transaction)

    async def _perform(self, effect: fx.AnyEffect) -> Any:  # noqa: ANN401 - each effect has its own type of answer
        engine = self._engine
        if isinstance(effect, fx.StoreEffect):
            reply = await engine.aperform(effect, self._policy, name=self._name, stop=self._stop)
            if isinstance(reply, verdicts.Claimed):
                self._claim = reply.claim
            return reply
        if isinstance(effect, fx.LocalEffect):
            return engine.answer(effect, self._policy)
        match effect:
            case fx.Wait(checkpoint, seconds):
                return await engine.waiters.await_(engine.aio, checkpoint, seconds)
            case fx.Pause(seconds):
                return await asyncio.sleep(seconds)
            case fx.Authorize() | fx.Rebuild():
                answer = self._hook(effect)
                return await answer if inspect.isawaitable(answer) else answer
            case fx.Undo(claim, memo):
                return await atake_back(claim, memo, self._policy.step_timeout_seconds)
            case fx.Commit():
                open_, self._transaction = self._transaction, None
                engine.keeper.settling(effect.claim, begins=True)
                try:
                    receipt = await engine.transactions.acommit(open_, effect, self._policy)
                except BaseException:
                    engine.keeper.settling(effect.claim, begins=False)
                    raise
                return self._committed(effect, receipt)
            case fx.Rollback(error=error):
                open_, self._transaction = self._transaction, None
                return await engine.transactions.aroll_back(open_, error)
            case _:
                return _never_here(effect)


def _nothing_to_stop() -> None:
    """The attempt has ended."""


def _never_here(effect: fx.SurfaceEffect | fx.StepEffect) -> Never:
    """Both type checkers see which effects are left: the driver pauses at some, the operation performs the others."""
    message = f"{type(effect).__name__} is performed by the surface or by the operation"
    raise AssertionError(message)
