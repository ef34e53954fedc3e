"""An operation as coroutines have it in hand: the same names as for plain functions, awaited.

::

    hold = await op.step(reserve, cmd.sku, undo=release)
    paid = await op.step(charge, cmd.card, cmd.cents, undo=refund, unknown=Probe(find_charge))
    op.pivot()
    await op.step(ship, hold.id, unknown=retry(key_retention=timedelta(days=7)))
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, cast, overload

from retrysafe.protocol import effects as fx
from retrysafe.protocol.model import Mode
from retrysafe.protocol.stepping import take_step
from retrysafe.protocol.steps import StepKind
from retrysafe.runtime.calls import awaited_answer_of, is_async
from retrysafe.runtime.drive import adrive
from retrysafe.runtime.operations.asked import PARK, Asked, Unknown, ask_step, find_out, result_of
from retrysafe.runtime.operations.operation import Operation
from retrysafe.runtime.operations.sync import SyncOperation

if TYPE_CHECKING:
    from retrysafe.protocol.model import Claim

T = TypeVar("T")


class AsyncOperation(Operation):
    """An attempt as coroutines have it in hand, on an event loop."""

    def here(self) -> Operation:
        """Return it for where the calling code runs: a thread that was given the context has steps of its own kind."""
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return SyncOperation(self._attempt, self._transaction)
        return self

    @overload
    async def step(
        self,
        function: Callable[..., Awaitable[T]],
        /,
        *args: Any,  # noqa: ANN401 - what the function takes
        undo: Callable[..., Any] | None = None,
        unknown: Unknown = PARK,
        name: str | None = None,
        index: int = 0,
        timeout: timedelta | None = None,  # noqa: ASYNC109 - see below
    ) -> T: ...

    @overload
    async def step(
        self,
        function: Callable[..., T],
        /,
        *args: Any,  # noqa: ANN401 - what the function takes
        undo: Callable[..., Any] | None = None,
        unknown: Unknown = PARK,
        name: str | None = None,
        index: int = 0,
        timeout: timedelta | None = None,  # noqa: ASYNC109 - see below
    ) -> T: ...

    async def step(
        self,
        function: Callable[..., Any],
        /,
        *args: Any,
        undo: Callable[..., Any] | None = None,
        unknown: Unknown = PARK,
        name: str | None = None,
        index: int = 0,
        timeout: timedelta | None = None,  # noqa: ASYNC109 - the author's declaration, stored with the step
    ) -> Any:
        """Run an external step once, effectively, and return what it gave; in a later attempt, what it gave then.

        Args:
            function: receives its :class:`Call` and ``args``; a plain one runs in a thread. It may raise ``NoEffect``:
                the step was refused for good, without effect. Anything else that it raises leaves its outcome unknown.
            args: JSON values, dataclasses, structs or models.
            undo: a plain function of a module that takes the step back. It receives a ``Call`` of its own, the step's
                result (None when the step may not have happened) and ``args``, and must accept being called again.
                Without it there is nothing to take back.
            unknown: what follows when an attempt died inside the step: ``PARK``, ``retry(key_retention=...)`` or
                ``Probe(fn)`` (R6).
            name: of the step; by default the function's. It is how an attempt finds the memo: keep it (R4).
            index: which lap, in a loop.
            timeout: how long the call may take; by default the policy's ``step_timeout``.

        Raises:
            ValueError: the name came twice without an index, or the undo is no plain function of a module.
            NoEffect: the step refused, now or in an earlier attempt.
            Exception: what the step raised.

        Rules: R4, R5, R6, R7.
        """
        asked = ask_step(
            self._attempt.policy,
            function,
            args,
            kind=StepKind.EXTERNAL,
            undo=undo,
            unknown=unknown,
            name=name,
            index=index,
            timeout=timeout,
        )
        trail = self._attempt.trail_for("step", Mode.STEPS)
        return result_of(asked, await self._drive(take_step(self._attempt.claim, trail, asked.step), asked))

    @overload
    async def local(
        self,
        function: Callable[..., Awaitable[T]],
        /,
        *args: Any,  # noqa: ANN401 - what the function takes
        undo: Callable[..., Any] | None = None,
        name: str | None = None,
        index: int = 0,
    ) -> T: ...

    @overload
    async def local(
        self,
        function: Callable[..., T],
        /,
        *args: Any,  # noqa: ANN401 - what the function takes
        undo: Callable[..., Any] | None = None,
        name: str | None = None,
        index: int = 0,
    ) -> T: ...

    async def local(
        self,
        function: Callable[..., Any],
        /,
        *args: Any,
        undo: Callable[..., Any] | None = None,
        name: str | None = None,
        index: int = 0,
    ) -> Any:
        """Run a local step: what it writes and its memo are one transaction of the application's database (R5, I10).

        Args:
            function: receives what the guard's ``transactions`` give (a session, a connection) and ``args``.
            args: JSON values, dataclasses, structs or models.
            undo: as in :meth:`step`.
            name: of the step; by default the function's.
            index: which lap, in a loop.

        Raises:
            ConfigurationError: the guard has no ``transactions``.
            Exception: what the step raised; it was rolled back.
        """
        asked = ask_step(
            self._attempt.policy,
            function,
            args,
            kind=StepKind.LOCAL,
            undo=undo,
            unknown=PARK,
            name=name,
            index=index,
            timeout=None,
        )
        trail = self._attempt.trail_for("local", Mode.STEPS)
        return result_of(asked, await self._drive(take_step(self._attempt.claim, trail, asked.step), asked))

    async def _drive(self, flow: fx.Flow[Any], asked: Asked) -> Any:  # noqa: ANN401 - what the flow returns
        return await adrive(flow, lambda effect: self._perform(effect, asked))

    async def _perform(self, effect: fx.AnyEffect, asked: Asked) -> Any:  # noqa: ANN401 - each has its own
        engine, policy = self._attempt.engine, self._attempt.policy
        match effect:
            case fx.Call(claim):
                call, trail = asked.call(claim), self._attempt.trail
                run = partial(asked.function, call, *asked.args)
                return await awaited_answer_of(run, function=asked.function, call=call, trail=trail)
            case fx.Probe(claim):
                return await self._probe(asked, claim)
            case fx.Transact(claim, _, memo):
                return await engine.transactions.atransact(
                    policy, claim, memo, lambda handle: asked.function(handle, *asked.args)
                )
            case fx.Pause(seconds):
                return await asyncio.sleep(seconds)
            case fx.Memoize() | fx.ReadTrail():
                return await engine.aperform(effect, policy, name=self._attempt.claim.name)
            case fx.StillHeld():
                return engine.answer(effect, policy)
            case _:
                raise AssertionError(f"a step does not ask for {type(effect).__name__}")

    async def _probe(self, asked: Asked, claim: Claim) -> Any:  # noqa: ANN401 - what the flow is answered
        probe, call = cast("Callable[..., Any]", asked.probe), asked.call(claim)
        try:
            if not is_async(probe):
                return find_out(await asyncio.to_thread(probe, call, *asked.args))
            async with asyncio.timeout(call.time_left):
                return find_out(await probe(call, *asked.args))
        except Exception as error:  # noqa: BLE001 - the flow decides what it means
            return fx.Failed(error)
