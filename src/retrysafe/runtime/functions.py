"""Operations that are functions: of a typed command, called with a key, resumed by any process that has the function.

::

    @guard.operation("order.create", mode="steps")
    async def create_order(op: AsyncOperation, cmd: NewOrder) -> Response: ...


    answer = await create_order(NewOrder(...), key="order-42", principal="acme")

Inside a guarded request of the same operation it joins that request's claim (K9), so that an HTTP route and a worker
run the very same code.
"""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Callable
from functools import partial, update_wrapper
from typing import TYPE_CHECKING, Any, Protocol, cast

from retrysafe.errors import ConfigurationError, RetrySafeError
from retrysafe.http.replay import replay_response
from retrysafe.http.request import HttpRequest, request_fingerprint
from retrysafe.protocol import effects as fx
from retrysafe.protocol.encoding import encode_request
from retrysafe.protocol.fingerprint import identity_digest, key_hint
from retrysafe.protocol.flows import handle
from retrysafe.protocol.model import Ask, Identity, Mode, Response, StoredRequest
from retrysafe.protocol.steps import Halted
from retrysafe.runtime.calls import is_async
from retrysafe.runtime.clock import uuid7
from retrysafe.runtime.context import conclude, current_operation, enter, joined, leave
from retrysafe.runtime.recovery import CALL
from retrysafe.runtime.replies import raised, returned
from retrysafe.runtime.runs import AsyncRun, Run
from retrysafe.runtime.values import decode_arguments, encode_value

if TYPE_CHECKING:
    from retrysafe.http.profiles import Profile
    from retrysafe.protocol.effects import Flow
    from retrysafe.protocol.model import Checkpoint
    from retrysafe.protocol.policy import Policy
    from retrysafe.runtime.engine import Engine
    from retrysafe.runtime.operations import Operation


class Guard(Protocol):
    """What a function needs of the guard that it belongs to."""

    namespace: str
    profile: Profile

    def policy_of(self, name: str) -> Policy:
        """Return the policy of an operation."""
        ...

    def engine(self) -> Engine:
        """Return this process's engine, connected."""
        ...

    async def aengine(self) -> Engine:
        """Return this process's engine, connected, without blocking the loop."""
        ...

    def local_engine(self) -> Engine:
        """Return this process's engine as it is."""
        ...


class GuardedFunction:
    """An operation that is a function of its command.

    Attributes:
        name: of the operation; it is stored, so keep it.
        function: takes ``op`` and the command's arguments.
    """

    def __init__(self, guard: Guard, name: str, function: Callable[..., Any]) -> None:
        """Wrap a function; nothing connects."""
        self.name = name
        self.function = function
        self._guard = guard
        self._tasks: set[asyncio.Task[Any]] = set()
        update_wrapper(self, function)

    def __call__(self, *args: Any, key: str | None = None, principal: str = "") -> Any:  # noqa: ANN401 - sync or async
        """Run the operation once for this key, or answer what it answered before.

        Inside a guarded request of the same operation, ``key`` is left out: the request's claim is joined.

        Args:
            args: the command; JSON values, dataclasses, structs or models.
            key: the caller's name for this intent, 1 to 255 characters; kept for every retry.
            principal: whose key it is (K5).

        Returns:
            The :class:`~retrysafe.Response`; for an ``async`` function something to await. What the function returns
            besides a response becomes one with status 200.

        Raises:
            RequestRefused: it was not run: in flight, parked, another command under the same key, and so on.
            AttemptSuperseded: this attempt lost its claim.
            StoreError: the store is down, and it was not run.
            Exception: the operation's own, where the mode lets it out.
        """
        current = current_operation()
        if key is None:
            if current is None or current.name != self.name:
                raise ConfigurationError(
                    [f"{self.name} needs a key: call it with key=, or inside a guarded request of that operation"]
                )
            return self.function(current, *args)
        return self._acall(args, key, principal) if is_async(self.function) else self._call(args, key, principal)

    def rerun(self, seen: Checkpoint, request: StoredRequest, policy: Policy, flow: Flow[fx.Answer | None]) -> bool:
        """Run an abandoned call again from its stored command (R13)."""
        args = tuple(decode_arguments(self.function, request.body, skip=1))
        engine = self._guard.local_engine()
        if not is_async(self.function):
            run = Run(engine, flow, policy, name=seen.name, stop=_cannot_stop_a_thread)
            target = partial(self._drive_quietly, run, args, seen.digest)
            threading.Thread(target=target, name="retrysafe-rerun", daemon=True).start()
            return True
        loop = engine.loop
        if loop is None or not loop.is_running():
            return False
        loop.call_soon_threadsafe(
            self._spawn, partial(AsyncRun, engine, flow, policy, name=seen.name), args, seen.digest
        )
        return True

    # For threads.

    def _call(self, args: tuple[Any, ...], key: str, principal: str) -> Response:
        engine = self._guard.engine()
        policy = self._guard.policy_of(self.name)
        ask = self._ask(engine, policy, args, key, principal)
        if joined(ask.identity.digest):
            # The same key inside its own operation joins the outer claim (K9).
            return as_response(self.function(current_operation(), *args))
        run = Run(engine, handle(ask, policy), policy, name=self.name, stop=_cannot_stop_a_thread)
        try:
            return _response(self._drive(run, args, ask.identity.digest, recovering=False))
        finally:
            run.abandon()

    def _drive_quietly(self, run: Run[Any], args: tuple[Any, ...], digest: bytes) -> None:
        try:
            self._drive(run, args, digest, recovering=True)
        except RetrySafeError:
            # Told as events; nobody waits for this attempt.
            pass
        finally:
            run.abandon()

    def _drive(self, run: Run[Any], args: tuple[Any, ...], digest: bytes, *, recovering: bool) -> Any:  # noqa: ANN401
        step = run.advance()
        while isinstance(step, fx.Execute):
            operation = run.operation(step, recovering=recovering)
            token, _ = enter(partial(_given, operation), digest)
            try:
                reply = self._reply(step, operation, args)
                step = run.advance(reply)
                conclude()
            finally:
                leave(token)
        return step

    # For event loops.

    async def _acall(self, args: tuple[Any, ...], key: str, principal: str) -> Response:
        engine = await self._guard.aengine()
        if engine.loop is None or not engine.loop.is_running():
            engine.loop = asyncio.get_running_loop()
        policy = self._guard.policy_of(self.name)
        ask = self._ask(engine, policy, args, key, principal)
        if joined(ask.identity.digest):
            return as_response(await self.function(current_operation(), *args))
        flow = handle(ask, policy)
        make = partial(AsyncRun, engine, flow, policy, name=self.name)
        # A caller that is cancelled does not cancel the operation (S1).
        return _response(await asyncio.shield(self._spawn(make, args, ask.identity.digest, recovering=False)))

    def _spawn(
        self, make: Callable[..., AsyncRun[Any]], args: tuple[Any, ...], digest: bytes, *, recovering: bool = True
    ) -> asyncio.Task[Any]:
        loop = asyncio.get_running_loop()
        task = loop.create_task(self._adrive(make, args, digest, recovering=recovering))
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            # Where nobody listens, what it raised was told as an event.
            task.exception()

    async def _adrive(
        self, make: Callable[..., AsyncRun[Any]], args: tuple[Any, ...], digest: bytes, *, recovering: bool
    ) -> Any:  # noqa: ANN401 - the flow's answer
        task, loop = cast("asyncio.Task[Any]", asyncio.current_task()), asyncio.get_running_loop()
        run = make(stop=lambda: loop.is_closed() or loop.call_soon_threadsafe(task.cancel))
        try:
            step = await run.advance()
            while isinstance(step, fx.Execute):
                operation = run.operation(step, recovering=recovering)
                token, _ = enter(partial(_given, operation), digest)
                try:
                    reply = await self._areply(step, operation, args)
                    step = await run.advance(reply)
                    conclude()
                finally:
                    leave(token)
            return step
        finally:
            run.abandon()

    async def _areply(self, step: fx.Execute, operation: Operation | None, args: tuple[Any, ...]) -> fx.Reply:
        try:
            answer = await self.function(operation, *args)
        except (Exception, Halted, BaseExceptionGroup) as error:  # noqa: BLE001 - the protocol decides what it means
            return self._after(step, error)
        return self._returned(answer)

    # Both.

    def _reply(self, step: fx.Execute, operation: Operation | None, args: tuple[Any, ...]) -> fx.Reply:
        try:
            answer = self.function(operation, *args)
        except (Exception, Halted, BaseExceptionGroup) as error:  # noqa: BLE001 - the protocol decides what it means
            return self._after(step, error)
        return self._returned(answer)

    def _returned(self, answer: Any) -> fx.Returned:  # noqa: ANN401 - whatever the function returned
        response = as_response(answer)
        return returned(response, self._guard.policy_of(self.name).response_limit)

    def _after(self, step: fx.Execute, error: BaseException) -> fx.Reply:
        if not isinstance(error, Exception):
            # Groups of tasks wrap it.
            if step.trail is None or step.trail.halt is None:
                raise error
            return fx.Cut()
        return raised(error, self._guard.policy_of(self.name).response_limit, self._guard.profile)

    def _ask(self, engine: Engine, policy: Policy, args: tuple[Any, ...], key: str, principal: str) -> Ask:
        guard = self._guard
        body = encode_value(args)
        path = self.name.encode()
        request = HttpRequest(CALL, path, b"", ((b"content-type", b"application/json"),), body, {})
        mode = Mode(policy.mode)
        stored = None
        if mode is not Mode.ONCE:
            stored = encode_request(StoredRequest(CALL, path, (), body, self.name), policy.compression)
        return Ask(
            identity=Identity(
                digest=identity_digest(engine.pepper, guard.namespace, principal, key),
                namespace=guard.namespace,
                principal=principal,
                key_hint=key_hint(key),
            ),
            fingerprint=request_fingerprint(request, policy.fingerprint, engine.secrets),
            attempt_id=uuid7(),
            name=self.name,
            mode=mode,
            lease_seconds=policy.lease_seconds,
            tombstone_seconds=policy.tombstone_seconds,
            limits=policy.limits,
            request=stored,
            version=policy.version,
        )


def as_response(answer: Any) -> Response:  # noqa: ANN401 - whatever the function returned
    """Take what is no response for the content of one."""
    return answer if isinstance(answer, Response) else Response(200, answer)


def check_function(function: Callable[..., Any]) -> None:
    """Refuse a function that can't be an operation.

    Raises:
        ConfigurationError: it takes no ``op``.
    """
    if not list(inspect.signature(function).parameters):
        name = getattr(function, "__name__", repr(function))
        raise ConfigurationError([f"{name} takes no parameter: an operation's first one is op"])


def _response(answer: Any) -> Response:  # noqa: ANN401 - the flow's answer
    """Return an answer as the caller's response, or raise what the mode lets out."""
    match answer:
        case fx.Fresh(response):
            return response
        case fx.Replayed(_, response):
            return replay_response(response)
        case fx.Reraise(error):
            raise error
        case _:
            raise AssertionError(f"a function does not stream: {answer!r}")


def _given(operation: Operation | None) -> Operation | None:
    """Give what was made already, because a function of ours is called with it."""
    return operation


def _cannot_stop_a_thread() -> None:
    """Nothing stops a thread from outside; its writes are refused by the fence (C4)."""
