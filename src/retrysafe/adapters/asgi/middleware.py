"""The middleware: which requests are guarded, and the task each guarded operation runs in."""

from __future__ import annotations

import asyncio
import gc
import inspect
import sys
from functools import partial
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import quote

from msgspec.structs import replace

from retrysafe.adapters.asgi.body import RequestBody, length_of
from retrysafe.adapters.asgi.exchange import Exchange
from retrysafe.adapters.asgi.lifespan import Lifespan
from retrysafe.adapters.asgi.rerun import scope_template, stored_scope
from retrysafe.adapters.transactions.fastapi import refuse_late_commits
from retrysafe.errors import ConfigurationError, RequestRefused, RetrySafeError, StoreError, StoreUnavailable
from retrysafe.http.codes import code_of
from retrysafe.http.problem import problem_response
from retrysafe.http.request import HttpRequest
from retrysafe.protocol import effects as fx
from retrysafe.protocol.flows import adopt
from retrysafe.protocol.model import Mode
from retrysafe.protocol.ordinary import Ordinary
from retrysafe.runtime import events
from retrysafe.runtime.asking import call_principal, flow_for, key_of, known_principal, without_store
from retrysafe.runtime.context import joined
from retrysafe.runtime.recovery import PrincipalNotRestored
from retrysafe.runtime.runs import AsyncRun
from retrysafe.runtime.status import asks_for_status, status_program, status_response

if TYPE_CHECKING:
    from collections.abc import Coroutine, Sequence

    from retrysafe.adapters.asgi.types import App, Message, Receive, Scope, Send
    from retrysafe.protocol.effects import Flow
    from retrysafe.protocol.model import Checkpoint, Claim, Headers, StoredRequest
    from retrysafe.protocol.policy import Policy
    from retrysafe.runtime.engine import Engine
    from retrysafe.runtime.guard import RetrySafe
    from retrysafe.runtime.routes import Guarded

# After a drain, operations are cancelled; this long they may take to notice.
_STOP_SECONDS = 5.0


class RetrySafeMiddleware:
    """Guards the writes of an ASGI application.

    Put it behind authentication, so that the guard's ``principal`` sees who calls (K5).

    A guarded operation runs in a task of its own: a client that disconnects, or a middleware outside of this one that
    gives up, does not cancel it (S1). Other requests are passed on untouched: nothing is buffered or wrapped (S8).
    Needs an asyncio server.
    """

    def __init__(self, app: App, guard: RetrySafe) -> None:
        """Wrap ``app``; nothing connects before the first lifespan or guarded request.

        Args:
            app: the application.
            guard: its store, principal and policies.
        """
        self._app = app
        self._guard = guard
        self._live: dict[asyncio.Task[None], Exchange] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._template: Scope = {}
        self._surface = 0 if guard.restore_principal is None else guard.add_rerun(self._rerun)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection scope."""
        if scope["type"] == "http":
            guard = self._guard
            if guard.status_path is not None and asks_for_status(guard, scope["method"], scope["path"]):
                await self._status(scope, receive, send)
                return
            route = guard.route(scope["method"], scope["path"])
            if route is not None:
                request = _request(scope)
                try:
                    key = key_of(guard, route, request)
                except RequestRefused as error:
                    await self._refuse(error, scope, RequestBody(receive), send, route.name)
                    return
                if key is not None:
                    await self._guarded(request, receive, send, key, route)
                    return
        elif scope["type"] == "lifespan":
            self._template = scope_template(scope)
            await Lifespan(self._start, self._drain)(self._app, scope, receive, send)
            return
        await self._app(scope, receive, send)

    async def _status(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Tell a client how its operation is, without running anything."""
        exchange = Exchange(scope, b"", send, response_limit=0, profile=self._guard.profile)
        try:
            request = _request(scope)
            principal = call_principal(self._guard, request)
            who = known_principal(self._guard, await principal if inspect.isawaitable(principal) else principal)
            engine = await self._guard.aengine()
            program = status_program(engine, self._guard, request, who)
            met = None if program is None else await engine.aio.aquery(program)
        except (RequestRefused, StoreError) as error:
            await self._refuse(error, scope, RequestBody(receive), send, "status")
            return
        await exchange.answer(fx.Fresh(status_response(engine, met)))

    # One request.

    async def _guarded(self, request: HttpRequest, receive: Receive, send: Send, key: str, route: Guarded) -> None:
        guard, policy, scope = self._guard, route.policy, cast("Scope", request.native)
        incoming = RequestBody(receive)
        try:
            principal = call_principal(guard, request)
            if not isinstance(principal, str) and inspect.isawaitable(principal):
                principal = await principal
            who = known_principal(guard, principal)
            engine = guard.ready_engine() or await self._opened(route)
            body = await incoming.read(policy.request_limit, length_of(request.firsts.get(b"content-length")))
        except (RequestRefused, StoreError) as error:
            await self._refuse(error, scope, incoming, send, route.name)
            return
        if body is None:
            return
        request = replace(request, body=body)
        exchange = Exchange(scope, body, send, response_limit=policy.response_limit, profile=guard.profile)
        flow, digest = flow_for(engine, guard, request, key=key, principal=who, route=route, surface=self._surface)
        if engine is not None and joined(digest):
            # A guard inside a guarded request joins the outer claim (K9).
            await self._app(scope, _again(body, receive), send)
            return
        engine = engine or guard.local_engine()
        run = AsyncRun(engine, flow, policy, name=route.name, stop=exchange.stop, request=request, hooks=guard.hooks)
        # A claim that has to be waited for could be cancelled on its way. What follows, but for a replay, needs a task.
        step = await run.claim() if engine.answers_at_once and isinstance(flow, Ordinary) else None
        if step is None or isinstance(step, fx.Execute):
            exchange.run, exchange.claim = run, None if step is None else step.claim
            await self._in_own_task(self._operate(run, exchange, digest, app=self._app, step=step), exchange)
        else:
            await exchange.answer(step)

    async def _opened(self, route: Guarded) -> Engine | None:
        """Connect to the store; None when it is down and the operation is declared ``fail_open`` (D1)."""
        try:
            return await self._guard.aengine()
        except StoreUnavailable as error:
            without_store(self._guard, route, error)
            return None

    async def _in_own_task(self, operation: Coroutine[Any, Any, None], exchange: Exchange) -> None:
        """Run an operation so that nothing but its own guard can cancel it (S1, C7)."""
        loop = self._loop = asyncio.get_running_loop()
        exchange.over = over = loop.create_future()
        task = self._start_task(operation, exchange, loop)
        if not task.done():
            try:
                await over
            except asyncio.CancelledError:
                exchange.hang_up()
                raise
        if task.cancelled():
            await self._stopped(exchange)
        else:
            task.result()

    def _start_task(
        self, operation: Coroutine[Any, Any, None], exchange: Exchange, loop: asyncio.AbstractEventLoop
    ) -> asyncio.Task[None]:
        if sys.version_info >= (3, 12):
            # Runs at once up to its first suspension, which spares a lap of the loop.
            task = asyncio.Task(operation, loop=loop, eager_start=True)
        else:
            task = loop.create_task(operation)
        exchange.task = task
        self._live[task] = exchange
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        exchange = self._live.pop(task)
        if not task.cancelled():
            # Where nobody listens any more, what the operation raised was told as an event and is recorded.
            task.exception()
        try:
            if exchange.run is not None:
                # Nothing is left to do for an attempt that ended in order.
                exchange.run.abandon()
        finally:
            if exchange.over is not None and not exchange.over.done():
                exchange.over.set_result(None)

    async def _operate(
        self,
        run: AsyncRun[Any],
        exchange: Exchange,
        digest: bytes,
        *,
        app: App,
        step: fx.Execute | None = None,
        recovering: bool = False,
    ) -> None:
        """Drive one run to its end; this is the body of an operation's own task.

        Args:
            run: what drives the flow.
            exchange: with the client.
            digest: of the operation's identity.
            app: what to run.
            step: where the flow waits, when it has begun already.
            recovering: no client waits for it.
        """
        if exchange.task is None:
            # Nobody had it in hand yet when it began.
            exchange.task = cast("asyncio.Task[None] | None", asyncio.current_task())
        begun = step or await _begin(run)
        if isinstance(begun, fx.Execute):
            exchange.claim = begun.claim
            await exchange.execute(app, run, begun, digest, recovering=recovering)
        elif begun is not None and not isinstance(begun, fx.Forward):
            await exchange.answer(begun)

    async def _stopped(self, exchange: Exchange) -> None:
        """Answer the client of an attempt that was told to stop: the winner's outcome or 503, never its own (C4)."""
        if exchange.answered:
            message = "the response was cut off: the attempt was told to stop"
            raise RuntimeError(message)
        if exchange.claim is None:
            message = "the process goes down; nothing is known of the claim"
            await exchange.answer(StoreUnavailable(message))
            return
        policy = self._guard.policy_of(exchange.claim.name)
        run = AsyncRun(
            self._guard.local_engine(), adopt(exchange.claim), policy, name=exchange.claim.name, stop=_nothing_to_stop
        )
        try:
            answer = await run.advance()
        except RetrySafeError as error:
            await exchange.answer(error)
        else:
            if not isinstance(answer, fx.Execute | fx.Forward):
                await exchange.answer(answer)

    async def _refuse(self, error: RetrySafeError, scope: Scope, body: RequestBody, send: Send, name: str) -> None:
        """Answer without running the operation."""
        response = problem_response(error, self._guard.profile)
        self._guard.emit(events.Refused(name, code_of(error).code))
        await body.drain()
        exchange = Exchange(scope, b"", send, response_limit=0, profile=self._guard.profile)
        await exchange.answer(fx.Fresh(response))

    # Recovery (R13).

    def _rerun(self, seen: Checkpoint, request: StoredRequest, policy: Policy, flow: Flow[fx.Answer | None]) -> bool:
        """Run an abandoned operation again on the application's loop; called from the scan's thread."""
        loop = self._loop
        if loop is None or loop.is_closed():
            return False
        exchange = Exchange(
            stored_scope(self._template, request),
            request.body,
            _nowhere,
            response_limit=policy.response_limit,
            profile=self._guard.profile,
        )
        exchange.run = run = AsyncRun(self._guard.local_engine(), flow, policy, name=seen.name, stop=exchange.stop)
        app = partial(self._as_principal, seen)
        loop.call_soon_threadsafe(self._spawn, run, exchange, seen.digest, app)
        return True

    def _spawn(self, run: AsyncRun[Any], exchange: Exchange, digest: bytes, app: App) -> asyncio.Task[None]:
        """Start the task of an operation that no client waits for."""
        loop = asyncio.get_running_loop()
        return self._start_task(self._operate(run, exchange, digest, app=app, recovering=True), exchange, loop)

    async def _as_principal(self, seen: Checkpoint, scope: Scope, receive: Receive, send: Send) -> None:
        """Call the application below authentication, for the stored principal (R9, R13)."""
        if self._guard.restore_principal is not None:
            try:
                restored = self._guard.restore_principal(scope, seen.principal)
                if inspect.isawaitable(restored):
                    await restored
            except Exception as error:
                self._guard.emit(events.HandlerFailed(seen.name, seen.operation_id, type(error).__name__))
                raise PrincipalNotRestored from error
        await self._app(scope, receive, send)

    # Start and stop.

    async def _start(self) -> None:
        # Among the middleware of an application, that is named in the scope; around it, it is what we have in hand.
        if problems := refuse_late_commits(self._template.get("app", self._app), self._is_transaction):
            raise ConfigurationError(problems)
        self._loop = asyncio.get_running_loop()
        self._guard.retain()
        engine = await self._guard.aengine()
        if engine.loop is None or not engine.loop.is_running():
            engine.loop = self._loop

    def _is_transaction(self, method: str, path: str) -> bool:
        route = self._guard.route(method, path)
        return route is not None and route.policy.mode is Mode.TRANSACTION

    async def _drain(self) -> None:
        """Let operations in flight end; then stop what is left, and hand over what has really stopped (C7)."""
        # What the scan finds from now on, such as what is handed over below, is for other processes.
        self._loop = None
        live = dict(self._live)
        if live:
            await asyncio.wait(live, timeout=self._guard.drain_seconds)
        left = {task: exchange for task, exchange in live.items() if not task.done()}
        live.clear()
        await asyncio.to_thread(self._hand_over, await _stop(left))

    def _hand_over(self, claims: Sequence[Claim]) -> None:
        engine = self._guard.local_engine()
        if engine.opened:
            engine.deferred.drain(self._guard.drain_seconds)
            engine.hand_over(claims)
        # Another application may go on with the same guard.
        self._guard.release()


def _request(scope: Scope) -> HttpRequest:
    raw_path = scope.get("raw_path")
    return HttpRequest(
        method=scope["method"],
        path=raw_path if raw_path is not None else quote(scope["path"]).encode("ascii"),
        query=scope.get("query_string", b""),
        headers=_pairs(scope["headers"]),
        body=b"",
        native=scope,
    )


def _pairs(headers: Sequence[Sequence[bytes]]) -> Headers:
    """Return header pairs that nobody changes; nearly every server gives them as tuples."""
    pairs = tuple(headers)
    return cast("Headers", pairs if {tuple}.issuperset(map(type, pairs)) else tuple(map(tuple, pairs)))


def _again(body: bytes, receive: Receive) -> Receive:
    """Return a ``receive`` that gives a body that was read already, then what the server has."""
    given = False

    async def receive_again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return receive_again


async def _begin(run: AsyncRun[Any]) -> fx.Execute | fx.Forward | fx.Answer | RetrySafeError | None:
    """Claim; an error of the protocol is an answer like any other."""
    try:
        return await run.advance()
    except RetrySafeError as error:
        return error


async def _stop(left: dict[asyncio.Task[None], Exchange]) -> list[Claim]:
    """Cancel what is left, and return the claims of which nothing runs any more: no task and no thread (C7)."""
    if not left:
        return []
    await _cancelled(tuple(left))
    ended = [
        (exchange.claim, exchange.presence)
        for task, exchange in left.items()
        if task.done() and exchange.claim is not None
    ]
    # Tracebacks of the cancelled tasks, and timers that were cancelled but are not yet due, hold contexts as well.
    left.clear()
    for timer in getattr(asyncio.get_running_loop(), "_scheduled", ()):
        if timer.cancelled():
            timer._context = None  # noqa: SLF001 - it never runs; there is no other way to let go of it
    gc.collect()
    return [claim for claim, presence in ended if presence is None or presence() is None]


async def _cancelled(tasks: Sequence[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks, timeout=_STOP_SECONDS)


async def _nowhere(_: Message) -> None:
    """Send to nobody: no client waits for a recovered operation."""


def _nothing_to_stop() -> None:
    """Reading the winner's outcome holds no claim."""
