"""The WSGI middleware: which requests are guarded, on the server's own threads."""

from __future__ import annotations

import atexit
import inspect
import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, cast

from msgspec.structs import replace

from retrysafe.adapters.wsgi.body import drain_body, give_body, has_unknown_end, path_of, read_body, request_of
from retrysafe.adapters.wsgi.exchange import Exchange
from retrysafe.adapters.wsgi.rerun import nowhere, stored_environ
from retrysafe.errors import (
    ConfigurationError,
    RequestRefused,
    RetrySafeError,
    StoreError,
    StoreUnavailable,
)
from retrysafe.http.codes import code_of
from retrysafe.protocol import effects as fx
from retrysafe.protocol.model import Response
from retrysafe.runtime import events
from retrysafe.runtime.asking import call_principal, flow_for, key_of, known_principal, without_store
from retrysafe.runtime.context import joined
from retrysafe.runtime.recovery import PrincipalNotRestored
from retrysafe.runtime.runs import Run
from retrysafe.runtime.status import asks_for_status, status_program, status_response

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from retrysafe.adapters.wsgi.types import App, Environ, StartResponse
    from retrysafe.http.request import HttpRequest
    from retrysafe.protocol.effects import Flow
    from retrysafe.protocol.model import Checkpoint, Claim, StoredRequest
    from retrysafe.protocol.policy import Policy
    from retrysafe.runtime.engine import Engine
    from retrysafe.runtime.guard import RetrySafe
    from retrysafe.runtime.routes import Guarded

_RERUNS_AT_ONCE = 4


class RetrySafeMiddleware:
    """Guards the writes of a WSGI application.

    Put it behind authentication, so that ``principal`` sees who calls (K5).
    """

    def __init__(self, app: App, guard: RetrySafe) -> None:
        """Wrap ``app``; nothing connects before the first guarded request, so a pre-forking server may import it.

        Args:
            app: the application.
            guard: its store, principal and policies.

        Raises:
            ConfigurationError: a callable of the guard is ``async``, which a WSGI application cannot await.
        """
        hooks = {
            "principal": guard.principal,
            "authorize_replay": guard.hooks.authorize_replay,
            "rebuild": guard.hooks.rebuild,
            "restore_principal": guard.restore_principal,
        }
        problems = [
            f"{name} is async and WSGI cannot await it: make it a plain function"
            for name, hook in hooks.items()
            if inspect.iscoroutinefunction(hook)
        ]
        if problems:
            raise ConfigurationError(problems)
        self._app = app
        self._guard = guard
        self._stopped: list[Claim] = []
        self._pid = 0
        self._executor: ThreadPoolExecutor | None = None
        self._lined_up: set[str] = set()
        self._surface = 0 if guard.restore_principal is None else guard.add_rerun(self._rerun)
        atexit.register(self._at_exit)

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """Serve one request."""
        if self._pid != os.getpid():
            self._wake_up()
        if asks_for_status(self._guard, environ["REQUEST_METHOD"], path_of(environ)):
            return self._status(environ, start_response)
        route = self._guard.route(environ["REQUEST_METHOD"], path_of(environ))
        if route is None:
            return self._app(environ, start_response)
        exchange = Exchange(
            environ, start_response, response_limit=route.policy.response_limit, profile=self._guard.profile
        )
        try:
            serve = self._prepare(exchange, route)
        except (RequestRefused, StoreError) as error:
            self._guard.emit(events.Refused(route.name, code_of(error).code))
            drain_body(environ)
            return exchange.answer(error)
        # Out here, because what the application raises is its own.
        return serve()

    def _status(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """Tell a client how its operation is, without running anything."""
        exchange = Exchange(environ, start_response, response_limit=0, profile=self._guard.profile)
        try:
            request = request_of(environ)
            principal = known_principal(self._guard, cast("str | None", call_principal(self._guard, request)))
            engine = self._guard.engine()
            program = status_program(engine, self._guard, request, principal)
            met = None if program is None else engine.sync.query(program)
        except (RequestRefused, StoreError) as error:
            self._guard.emit(events.Refused("status", code_of(error).code))
            return exchange.answer(error)
        return exchange.answer(fx.Fresh(status_response(engine, met)))

    def _wake_up(self) -> None:
        """Begin to recover what others left behind with the first request of this process, whatever it is for (R2).

        A pre-forking server imports the application before it forks, so it cannot begin earlier.
        """
        self._pid = os.getpid()
        self._executor = None
        self._lined_up = set()
        if self._guard.scan_seconds is not None:
            # A store that is down is tried again by the first guarded request, which also tells what is wrong.
            with suppress(RetrySafeError):
                self._guard.engine()

    def _prepare(self, exchange: Exchange, route: Guarded) -> Callable[[], Iterable[bytes]]:
        """Find out how a request is to be served."""
        request = request_of(exchange.environ)
        key = key_of(self._guard, route, request)
        if key is None:
            return partial(exchange.untouched, self._app)
        return self._guarded(exchange, request, key, route)

    def _guarded(
        self, exchange: Exchange, request: HttpRequest, key: str, route: Guarded
    ) -> Callable[[], Iterable[bytes]]:
        name, policy = route.name, route.policy
        principal = known_principal(self._guard, cast("str | None", call_principal(self._guard, request)))
        engine = self._opened(route)
        if has_unknown_end(exchange.environ):
            return partial(exchange.answer, fx.Fresh(Response(411, "This server needs a Content-Length.")))
        body = read_body(exchange.environ, policy.request_limit)
        if body is None:
            # The client went away before its request was complete: nothing is claimed, and nobody hears this.
            return partial(exchange.answer, fx.Fresh(Response(400, "The request ended before it was complete.")))
        give_body(exchange.environ, body)
        request = replace(request, body=body)
        flow, digest = flow_for(
            engine, self._guard, request, key=key, principal=principal, route=route, surface=self._surface
        )
        if engine is not None and joined(digest):
            # A guard inside a guarded request joins the outer claim (K9).
            return partial(exchange.untouched, self._app)
        engine = engine or self._guard.local_engine()
        run = Run(engine, flow, policy, name=name, stop=_cannot_stop_a_thread, request=request, hooks=self._guard.hooks)
        return partial(self._operate, run, exchange, digest, app=self._app)

    def _operate(
        self,
        run: Run[fx.Answer] | Run[fx.Answer | None],
        exchange: Exchange,
        digest: bytes,
        *,
        app: App,
        recovering: bool = False,
    ) -> Iterable[bytes]:
        """Drive one run to its end on this thread."""
        try:
            step = run.advance()
        except RetrySafeError as error:
            run.abandon()
            return exchange.answer(error)
        match step:
            case fx.Execute(claim):
                try:
                    return exchange.execute(app, cast("Run[fx.Answer]", run), step, digest, recovering=recovering)
                except Exception:
                    run.abandon()
                    raise
                except BaseException:
                    # The server ends this thread in the middle of the operation. It has stopped, so its claim may be
                    # handed over when the process goes down (C7); its outcome stays unknown.
                    if claim is not None:
                        run.abandon()
                        self._stopped.append(claim)
                    raise
            case fx.Forward() | None:
                return ()
            case _:
                return exchange.answer(step)

    def _opened(self, route: Guarded) -> Engine | None:
        """Connect to the store; None when it is down and the operation is declared ``fail_open`` (D1)."""
        try:
            return self._guard.engine()
        except StoreUnavailable as error:
            without_store(self._guard, route, error)
            return None

    # Recovery (R13).

    def _rerun(self, seen: Checkpoint, request: StoredRequest, policy: Policy, flow: Flow[fx.Answer | None]) -> bool:
        """Run an abandoned operation again on a thread of our own."""
        if self._executor is None:
            self._executor = ThreadPoolExecutor(_RERUNS_AT_ONCE, thread_name_prefix="retrysafe-rerun")
        # The scan looks more often than a thread becomes free.
        if seen.operation_id not in self._lined_up:
            environ = stored_environ(request)
            self._lined_up.add(seen.operation_id)
            self._executor.submit(self._rerun_here, seen, policy, flow, environ)
        return True

    def _rerun_here(self, seen: Checkpoint, policy: Policy, flow: Flow[fx.Answer | None], environ: Environ) -> None:
        exchange = Exchange(environ, nowhere, response_limit=policy.response_limit, profile=self._guard.profile)
        run = Run(self._guard.local_engine(), flow, policy, name=seen.name, stop=_cannot_stop_a_thread)
        app = partial(self._as_principal, seen)
        try:
            response = self._operate(run, exchange, seen.digest, app=app, recovering=True)
            for _ in response:
                pass
            close = getattr(response, "close", None)
            if close is not None:
                close()
        finally:
            self._lined_up.discard(seen.operation_id)

    def _as_principal(self, seen: Checkpoint, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """Call the application below authentication, for the stored principal (R9, R13)."""
        if self._guard.restore_principal is not None:
            try:
                self._guard.restore_principal(environ, seen.principal)
            except Exception as error:
                self._guard.emit(events.HandlerFailed(seen.name, seen.operation_id, type(error).__name__))
                raise PrincipalNotRestored from error
        return self._app(environ, start_response)

    # Going down.

    def _at_exit(self) -> None:
        """Record what still waits to be recorded, and hand over what has really stopped (C7)."""
        engine = self._guard.local_engine()
        if engine.opened:
            engine.deferred.drain(self._guard.drain_seconds)
            engine.hand_over(self._stopped)
        self._guard.close()


def _cannot_stop_a_thread() -> None:
    """Nothing stops a thread from outside; its writes are refused by the fence (C4)."""
