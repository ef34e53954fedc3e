"""An operation as plain functions have it in hand.

::

    hold = op.step(reserve, cmd.sku, undo=release)
    paid = op.step(charge, cmd.card, cmd.cents, undo=refund, unknown=Probe(find_charge))
    op.pivot()
    op.step(ship, hold.id, unknown=retry(key_retention=timedelta(days=7)))
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar, cast

from retrysafe.protocol import effects as fx
from retrysafe.protocol.model import Mode
from retrysafe.protocol.stepping import take_step
from retrysafe.protocol.steps import StepKind
from retrysafe.runtime.calls import answer_of
from retrysafe.runtime.drive import drive
from retrysafe.runtime.operations.asked import PARK, Asked, Unknown, ask_step, find_out, result_of
from retrysafe.runtime.operations.operation import Operation

if TYPE_CHECKING:
    from retrysafe.protocol.model import Claim

T = TypeVar("T")


class SyncOperation(Operation):
    """An attempt as plain functions have it in hand, in a thread."""

    def step(
        self,
        function: Callable[..., T],
        /,
        *args: Any,  # noqa: ANN401 - what the function takes
        undo: Callable[..., Any] | None = None,
        unknown: Unknown = PARK,
        name: str | None = None,
        index: int = 0,
        timeout: timedelta | None = None,
    ) -> T:
        """Run an external step once, effectively, and return what it gave; in a later attempt, what it gave then.

        Args:
            function: a plain function that receives its :class:`Call` and ``args``. It may raise ``NoEffect``: the
                step was refused for good and had no effect. Anything else that it raises leaves its outcome unknown.
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
        return cast("T", result_of(asked, self._drive(take_step(self._attempt.claim, trail, asked.step), asked)))

    def local(
        self,
        function: Callable[..., T],
        /,
        *args: Any,  # noqa: ANN401 - what the function takes
        undo: Callable[..., Any] | None = None,
        name: str | None = None,
        index: int = 0,
    ) -> T:
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
        return cast("T", result_of(asked, self._drive(take_step(self._attempt.claim, trail, asked.step), asked)))

    def _drive(self, flow: fx.Flow[Any], asked: Asked) -> Any:  # noqa: ANN401 - what the flow returns
        return drive(flow, lambda effect: self._perform(effect, asked))

    def _perform(self, effect: fx.AnyEffect, asked: Asked) -> Any:  # noqa: ANN401 - each effect has its own
        engine, policy = self._attempt.engine, self._attempt.policy
        match effect:
            case fx.Call(claim):
                call = asked.call(claim)
                return answer_of(lambda: asked.function(call, *asked.args), self._attempt.trail)
            case fx.Probe(claim):
                return self._probe(asked, claim)
            case fx.Transact(claim, _, memo):
                return engine.transactions.transact(
                    policy, claim, memo, lambda handle: asked.function(handle, *asked.args)
                )
            case fx.Pause(seconds):
                return time.sleep(seconds)
            case fx.Memoize() | fx.ReadTrail():
                return engine.perform(effect, policy, name=self._attempt.claim.name)
            case fx.StillHeld():
                return engine.answer(effect, policy)
            case _:
                raise AssertionError(f"a step does not ask for {type(effect).__name__}")

    def _probe(self, asked: Asked, claim: Claim) -> Any:  # noqa: ANN401 - what the flow is answered
        try:
            return find_out(cast("Callable[..., Any]", asked.probe)(asked.call(claim), *asked.args))
        except Exception as error:  # noqa: BLE001 - the flow decides what it means
            return fx.Failed(error)
