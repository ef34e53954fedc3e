"""One run of one flow: a request that is being answered, or an abandoned operation that is being recovered.

A surface moves a run in at most three steps, and each ends at something the surface must do::

    advance()          → Execute: run the operation        or an Answer: send it
    advance(Returned)  → an Answer: send it                 (the operation gave a whole response)
    advance(Began)     → Forward: send the stream, then advance(Ended)
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Never, TypeVar, assert_never

from retrysafe.errors import StoreError
from retrysafe.protocol import effects as fx
from retrysafe.protocol import model
from retrysafe.runtime import events
from retrysafe.runtime.drive import adrive, drive

if TYPE_CHECKING:
    from retrysafe.http.request import HttpRequest
    from retrysafe.protocol.model import Checkpoint, Response
    from retrysafe.protocol.policy import Policy
    from retrysafe.runtime.engine import Engine

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

    def __init__(
        self,
        engine: Engine,
        flow: fx.Flow[A],
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
            flow: what is to be done.
            policy: how the operation is guarded.
            name: the operation's name, for events.
            stop: tells the attempt to stop when its claim is lost; called from another thread.
            request: the client's request, or None in recovery.
            hooks: what the application decides about replays.
        """
        self._engine = engine
        self._flow = flow
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

    def _failed(self, effect: fx.StoreEffect, error: StoreError) -> None:
        self._engine.sent(effect, failed=True)
        self._engine.failed(self._name, type(effect).__name__.lower(), error)

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

    def abandon(self) -> None:
        """Leave the attempt's claim to its lease: what ran it was cut off (C7)."""
        if self._claim is not None:
            self._engine.keeper.abandon(self._claim)

    _claim: model.Claim | None = None

    def _remember(self, step: fx.Execute | fx.Forward | A) -> fx.Execute | fx.Forward | A:
        match step:
            case fx.Execute(None):
                self._engine.emit(events.Unprotected(self._name, "store unavailable"))
            case fx.Execute(model.Claim() as claim):
                self._claim = claim
            case _:
                pass
        return step


class Run(_Run[A]):
    """A run for threads."""

    def advance(self, reply: fx.Reply | fx.Ended | None = None) -> fx.Execute | fx.Forward | A:
        """Go on from what the surface did; see the module's picture.

        Raises:
            RequestRefused: the operation was not run.
            AttemptSuperseded: this attempt lost its claim.
            StoreError: the store is down and the operation was not run.
        """
        self._note(reply)
        return self._remember(drive(self._flow, self._perform, reply))

    def _perform(self, effect: fx.AnyEffect) -> Any:  # noqa: ANN401 - each effect has its own type of answer
        engine = self._engine
        if isinstance(effect, fx.StoreEffect):
            sent_at = engine.clock.monotonic()
            engine.sent(effect)
            try:
                reply = engine.sync.run(engine.program(effect, self._policy))
            except StoreError as error:
                self._failed(effect, error)
                raise
            engine.observe(effect, reply, sent_at=sent_at, policy=self._policy, stop=self._stop)
            return reply
        if isinstance(effect, fx.LocalEffect):
            return engine.answer(effect, self._policy)
        if isinstance(effect, fx.Wait):
            return engine.waiters.wait(engine.sync, effect.checkpoint, effect.seconds)
        if isinstance(effect, fx.Authorize | fx.Rebuild):
            return self._hook(effect)
        return _never_here(effect)


class AsyncRun(_Run[A]):
    """A run for event loops."""

    async def advance(self, reply: fx.Reply | fx.Ended | None = None) -> fx.Execute | fx.Forward | A:
        """Go on from what the surface did; see :meth:`Run.advance`."""
        self._note(reply)
        return self._remember(await adrive(self._flow, self._perform, reply))

    async def _perform(self, effect: fx.AnyEffect) -> Any:  # noqa: ANN401 - each effect has its own type of answer
        engine = self._engine
        if isinstance(effect, fx.StoreEffect):
            sent_at = engine.clock.monotonic()
            engine.sent(effect)
            try:
                reply = await engine.aio.arun(engine.program(effect, self._policy))
            except StoreError as error:
                self._failed(effect, error)
                raise
            engine.observe(effect, reply, sent_at=sent_at, policy=self._policy, stop=self._stop)
            return reply
        if isinstance(effect, fx.LocalEffect):
            return engine.answer(effect, self._policy)
        if isinstance(effect, fx.Wait):
            return await engine.waiters.await_(engine.aio, effect.checkpoint, effect.seconds)
        if isinstance(effect, fx.Authorize | fx.Rebuild):
            answer = self._hook(effect)
            return await answer if inspect.isawaitable(answer) else answer
        return _never_here(effect)


def _never_here(effect: fx.SurfaceEffect) -> Never:
    """Both type checkers see that only effects of the surface are left; the driver pauses at those."""
    message = f"{type(effect).__name__} is performed by the surface"
    raise AssertionError(message)
