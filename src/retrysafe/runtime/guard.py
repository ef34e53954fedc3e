"""``RetrySafe``: one store, one way to name the caller, and how each operation is guarded. Surfaces contain one.

It holds no protocol.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import timedelta
from enum import Enum
from typing import TYPE_CHECKING, Any, Final, cast

from retrysafe.errors import ConfigurationError
from retrysafe.http.key import KeyRules
from retrysafe.http.profiles import IETF, Profile
from retrysafe.protocol.fingerprint import Secret
from retrysafe.protocol.policy import Policy
from retrysafe.runtime.engines import Engines
from retrysafe.runtime.events import Event, EventSink, LoggingSink
from retrysafe.runtime.functions import GuardedFunction, check_function
from retrysafe.runtime.routes import Guarded, Routes
from retrysafe.runtime.runs import AuthorizeReplay, Hooks, RebuildResponse
from retrysafe.stores.urls import open_store

if TYPE_CHECKING:
    from retrysafe.http.request import HttpRequest
    from retrysafe.runtime.engine import Engine
    from retrysafe.runtime.outbox import Publish
    from retrysafe.runtime.recovery import Rerun, Scanner
    from retrysafe.runtime.transactions import Bindings
    from retrysafe.stores.base import Store


class Shared(Enum):
    """Type of :data:`SHARED`."""

    SHARED = "shared"

    def __repr__(self) -> str:
        """Show the name users write."""
        return "SHARED"


SHARED: Final = Shared.SHARED
"""Spelled out as ``principal=SHARED``: all callers share one scope of keys.

Right for a service with a single caller; with more, whoever guesses a key sees another's answer (K5).
"""

Principal = Callable[["HttpRequest"], "str | Awaitable[str | None] | None"]
"""Returns the stable id of the authenticated party, or None when nobody is authenticated (K5)."""
RestorePrincipal = Callable[[Any, str], "Awaitable[None] | None"]
"""Puts the stored principal id back into a surface's own request (ASGI scope, WSGI environ) for a re-run (R13)."""

_PRINCIPAL_FIX = (
    "principal is not set: a key is only unique per caller, so say who calls. Fix:\n"
    "       RetrySafe(..., principal=lambda request: request.native['user'].id)   # after authentication\n"
    "       RetrySafe(..., principal=SHARED)                                      # one trusted caller only"
)


class RetrySafe:
    """Makes writes safe to repeat: contains the store, the scope of keys and the policies.

    Attributes:
        keys: which headers carry a key and what a key looks like.
        profile: how refusals look on the wire.
        default_policy: how operations are guarded that are not declared with :meth:`protect`.
    """

    def __init__(  # noqa: PLR0913 - the whole configuration of an application, each with a default
        self,
        store: str | Store,
        *,
        principal: Principal | Shared | None = None,
        namespace: str = "default",
        policy: Policy | None = None,
        keys: KeyRules | None = None,
        profile: Profile = IETF,
        methods: Sequence[str] = ("POST", "PUT", "PATCH", "DELETE"),
        authorize_replay: AuthorizeReplay | None = None,
        rebuild: RebuildResponse | None = None,
        restore_principal: RestorePrincipal | None = None,
        transactions: Bindings | None = None,
        status: str | None = None,
        pepper: bytes | None = None,
        fingerprint_secrets: Sequence[bytes] = (),
        sinks: Sequence[EventSink] | None = None,
        scan: timedelta | None = timedelta(seconds=1),
        drain: timedelta = timedelta(seconds=10),
        max_waiters: int = 64,
        replay_cache: int = 0,
    ) -> None:
        """Configure a guard; nothing connects and no thread starts before it is used.

        Args:
            store: URL such as ``sqlite:///checkpoints.db`` or ``memory://``, or a store object.
            principal: names the caller, **after** authentication; or ``SHARED`` (K5).
            namespace: keeps several applications apart in one store (K4).
            policy: how operations are guarded that are not declared with :meth:`protect`.
            keys: which headers carry a key and what a key looks like (K1–K3).
            profile: how refusals look on the wire.
            methods: HTTP methods that are guarded when a request has a key (K7).
            authorize_replay: may refuse to show a recorded outcome to a caller (K6).
            rebuild: makes a response again that was too large to keep (S5).
            restore_principal: lets the recovery scan re-run abandoned operations of HTTP surfaces (R13); without it
                only the retrying client does.
            transactions: the application's own database, for mode ``transaction`` and for local steps (R11).
            status: path such as ``/operations/status`` where a client learns, by ``GET`` with its key, how its
                operation is; None offers nothing.
            pepper: refuse to start on a store made with another one (K4); by default the store's own is used.
            fingerprint_secrets: secrets of fingerprints, current one first; by default the store keeps one (F2).
            sinks: take every event; by default the standard library's logger ``retrysafe``.
            scan: how often this process looks for abandoned operations, or None to leave that to others (R2).
            drain: how long a shutdown waits for operations in flight before it stops and hands them over (C7).
            max_waiters: how many requests may wait for operations in flight at once (S9).
            replay_cache: how many bytes of final outcomes each process keeps, so that a storm of retries does not ask
                the store; 0 keeps none. What is kept is not asked for again until it expires.

        Raises:
            ConfigurationError: every problem is listed with its fix.
        """
        self.keys, self.profile, self.namespace = keys or KeyRules(), profile, namespace
        self.principal = cast("Principal | Shared", principal)
        self.restore_principal, self.status_path = restore_principal, status
        self.hooks, self.drain_seconds = (
            Hooks(authorize_replay=authorize_replay, rebuild=rebuild),
            drain.total_seconds(),
        )
        self.scan_seconds = None if scan is None else scan.total_seconds()
        self.default_policy = policy or Policy()
        self._sinks = (LoggingSink(),) if sinks is None else tuple(sinks)
        places = _checked(store, principal, fingerprint_secrets, scan)
        self._routes = Routes(self.default_policy, methods, places[0].traits.forgetful)
        self._engines = self._join(
            *places, pepper=pepper, max_waiters=max_waiters, replay_cache=replay_cache, transactions=transactions
        )

    def _join(self, store: Store, secrets: Sequence[Secret], **further: Any) -> Engines:  # noqa: ANN401 - see Engines
        return Engines(
            store,
            secrets,
            emit=self.emit,
            policy_of=self.policy_of,
            namespace=self.namespace,
            scan_seconds=self.scan_seconds,
            **further,
        )

    # Declaring operations.

    def protect(self, *routes: str, name: str | None = None, **changes: Any) -> None:  # noqa: ANN401 - the fields of Policy
        """Declare how the operation behind some routes is guarded.

        Args:
            routes: such as ``POST /charges``, ``PUT,PATCH /orders/{id}`` or ``* /admin/*``; ``{…}`` is one path
                segment, a final ``*`` the rest.
            name: the operation's name; by default the first route.
            changes: fields of :class:`~retrysafe.Policy` that differ from the guard's policy, or ``policy=`` itself.

        Raises:
            ConfigurationError: every problem is listed with its fix.
        """
        self._routes.protect(routes, name, changes)

    def operation(
        self,
        name: str,
        *routes: str,
        **changes: Any,  # noqa: ANN401 - the fields of Policy
    ) -> Callable[[Callable[..., Any]], GuardedFunction]:
        """Declare a function as an operation of its own, of ``op`` and a typed command.

        Args:
            name: the operation's name; it is stored, so keep it.
            routes: HTTP routes whose handler calls it, guarded alike; see :meth:`protect`.
            changes: fields of :class:`~retrysafe.Policy` that differ from the guard's policy, or ``policy=`` itself.

        Returns:
            A decorator that makes a :class:`~retrysafe.runtime.functions.GuardedFunction` of the function.

        Raises:
            ConfigurationError: every problem is listed with its fix.
        """
        self._routes.declare(name, routes, changes)

        def decorate(function: Callable[..., Any]) -> GuardedFunction:
            check_function(function)
            guarded = GuardedFunction(self, name, function)
            self._engines.functions[name] = guarded
            return guarded

        return decorate

    def exempt(self, *routes: str) -> None:
        """Leave some routes alone, whatever headers their requests have; same syntax as :meth:`protect`."""
        self._routes.exempt(routes)

    def route(self, method: str, path: str) -> Guarded | None:
        """Return the operation a request belongs to, or None when it is none of ours."""
        return self._routes.find(method, path)

    def policy_of(self, name: str) -> Policy:
        """Return the policy of an operation by the name its checkpoints carry."""
        return self._routes.policy_of(name)

    @property
    def policies(self) -> Mapping[str, Policy]:
        """The declared operations and their policies, by name."""
        return self._routes.policies

    # Running.

    def engine(self) -> Engine:
        """Return this process's engine, connected; a forked child gets its own.

        Raises:
            ConfigurationError: the configured pepper is not the store's.
            StoreError: the store cannot be used now; calling again tries again.
        """
        return self._engines.opened()

    async def aengine(self) -> Engine:
        """Return this process's engine like :meth:`engine`, without blocking the loop."""
        return await self._engines.aopened()

    def ready_engine(self) -> Engine | None:
        """Return this process's engine if it is connected; None when :meth:`aengine` has to be awaited."""
        engine = self._engines.local()
        return engine if engine.opened else None

    def emit(self, event: Event) -> None:
        """Give an event to every sink."""
        for sink in self._sinks:
            try:
                sink(event)
            except Exception:
                # It must not; but no operation, and no thread that keeps claims alive, may suffer for it.
                logging.getLogger("retrysafe").exception(
                    "a sink raised over an event of the kind %s", type(event).__name__
                )

    def relay(self, publish: Publish) -> Publish:
        """Declare who sends what operations tell others with ``op.send`` (R12); a decorator.

        Args:
            publish: a plain or ``async`` function of one :class:`~retrysafe.stores.base.Outgoing`. It returns when the
                message has certainly arrived, and raises to have it sent again. Repeats are possible: pass ``id`` on.
        """
        self._engines.publish = publish
        return publish

    def recover(self, *, parallel: int, scan: timedelta = timedelta(seconds=1)) -> Scanner:
        """Return the scan of a worker, not yet started; see :meth:`~retrysafe.runtime.engines.Engines.recover`."""
        return self._engines.recover(parallel=parallel, scan_seconds=scan.total_seconds())

    def add_rerun(self, rerun: Rerun) -> int:
        """Register how a surface runs an abandoned ``again`` operation again (R13).

        Returns:
            The surface's number, the same in every process that builds the application alike.
        """
        self._engines.reruns.append(rerun)
        return len(self._engines.reruns) - 1

    def retain(self) -> None:
        """Note that one more application has started with this guard; each gives it back with :meth:`release`."""
        self._engines.retain()

    def release(self) -> None:
        """Note that an application has stopped; the last one closes the guard."""
        self._engines.release()

    def close(self) -> None:
        """Stop threads and close the store; the guard may be used again afterwards."""
        self._engines.close()

    def local_engine(self) -> Engine:
        """Return this process's engine as it is; it may not be connected yet."""
        return self._engines.local()


def _checked(
    store: str | Store,
    principal: Principal | Shared | None,
    fingerprint_secrets: Sequence[bytes],
    scan: timedelta | None,
) -> tuple[Store, Sequence[Secret]]:
    """Return the store and the secrets.

    Raises:
        ConfigurationError: every problem is listed with its fix.
    """
    problems: list[str] = []
    if principal is None:
        problems.append(_PRINCIPAL_FIX)
    place = _collect(problems, lambda: open_store(store) if isinstance(store, str) else store)
    secrets = _collect(problems, lambda: tuple(Secret.of(secret) for secret in fingerprint_secrets))
    if scan is not None and scan <= timedelta(0):
        problems.append(f"scan is {scan}: choose a positive duration, or None to leave recovery to other processes")
    if problems:
        raise ConfigurationError(problems)
    return place, secrets


def _collect(problems: list[str], make: Callable[[], Any]) -> Any:  # noqa: ANN401 - whatever ``make`` returns
    """Return what ``make`` returns, or add its problems to the list."""
    try:
        return make()
    except ConfigurationError as error:
        problems.extend(error.problems)
        return None
