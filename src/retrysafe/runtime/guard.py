"""``RetrySafe``: one store, one way to name the caller, and how each operation is guarded. Surfaces contain one.

It holds no protocol.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, fields, replace
from datetime import timedelta
from difflib import get_close_matches
from enum import Enum
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

from retrysafe.errors import ConfigurationError
from retrysafe.http.key import KeyRules
from retrysafe.http.profiles import IETF, Profile
from retrysafe.protocol.fingerprint import Secret
from retrysafe.protocol.policy import Policy
from retrysafe.runtime.engine import Engine
from retrysafe.runtime.events import Event, EventSink, LoggingSink
from retrysafe.runtime.recovery import Scanner
from retrysafe.runtime.runs import AuthorizeReplay, Hooks, RebuildResponse
from retrysafe.stores.urls import open_store

if TYPE_CHECKING:
    from retrysafe.http.request import HttpRequest
    from retrysafe.runtime.recovery import Rerun
    from retrysafe.stores.base import AsyncStore, Store


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

_ROUTE = re.compile(r"(?P<methods>[A-Z*]+(?:,[A-Z]+)*) (?P<path>/\S*)")
_PRINCIPAL_FIX = (
    "principal is not set: a key is only unique per caller, so say who calls. Fix:\n"
    "       RetrySafe(..., principal=lambda request: request.native['user'].id)   # after authentication\n"
    "       RetrySafe(..., principal=SHARED)                                      # one trusted caller only"
)


class Guarded(NamedTuple):
    """An operation as a request meets it."""

    name: str
    policy: Policy


@dataclass(frozen=True, slots=True)
class Route:
    """Which requests belong to an operation, and how it is guarded."""

    name: str
    methods: frozenset[str]
    pattern: re.Pattern[str]
    policy: Policy | None
    """None exempts the requests."""

    def covers(self, method: str, path: str) -> bool:
        """Tell whether a request belongs to this operation."""
        return (method in self.methods or "*" in self.methods) and self.pattern.fullmatch(path) is not None


class RetrySafe:
    """Makes writes safe to repeat: contains the store, the scope of keys and the policies.

    Attributes:
        keys: which headers carry a key and what a key looks like.
        profile: how refusals look on the wire.
        methods: HTTP methods that are guarded when a request has a key.
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
        pepper: bytes | None = None,
        fingerprint_secrets: Sequence[bytes] = (),
        sinks: Sequence[EventSink] | None = None,
        scan: timedelta | None = timedelta(seconds=1),
        drain: timedelta = timedelta(seconds=10),
        max_waiters: int = 64,
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
            restore_principal: lets the recovery scan re-run abandoned ``again`` operations (R13); without it only the
                retrying client does.
            pepper: refuse to start on a store made with another one (K4); by default the store's own is used.
            fingerprint_secrets: secrets of fingerprints, current one first; by default the store keeps one (F2).
            sinks: take every event; by default the standard library's logger ``retrysafe``.
            scan: how often this process looks for abandoned operations, or None to leave that to others (R2).
            drain: how long a shutdown waits for operations in flight before it stops and hands them over (C7).
            max_waiters: how many requests may wait for operations in flight at once (S9).

        Raises:
            ConfigurationError: every problem is listed with its fix.
        """
        problems: list[str] = []
        if principal is None:
            problems.append(_PRINCIPAL_FIX)
        self._store = _collect(problems, lambda: open_store(store) if isinstance(store, str) else store)
        self._secrets = _collect(problems, lambda: tuple(Secret.of(secret) for secret in fingerprint_secrets)) or ()
        if scan is not None and scan <= timedelta(0):
            problems.append(f"scan is {scan}: choose a positive duration, or None to leave recovery to other processes")
        if problems:
            raise ConfigurationError(problems)
        self.keys = keys or KeyRules()
        self.profile = profile
        self.methods = frozenset(method.upper() for method in methods)
        self.namespace = namespace
        self.principal = cast("Principal | Shared", principal)
        self.restore_principal = restore_principal
        self.hooks = Hooks(authorize_replay=authorize_replay, rebuild=rebuild)
        self.drain_seconds = drain.total_seconds()
        self.default_policy = policy or Policy()
        self.scan_seconds = None if scan is None else scan.total_seconds()
        self._pepper = pepper
        self._sinks = (LoggingSink(),) if sinks is None else tuple(sinks)
        self._max_waiters = max_waiters
        self._routes: list[Route] = []
        self._policies: dict[str, Policy] = {}
        self._reruns: list[Rerun] = []
        self._lock = threading.Lock()
        self._engine: Engine | None = None
        self._scanner: Scanner | None = None

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
        problems = [problem for route in routes for problem in _route_problems(route)]
        if not routes:
            problems.append("protect() needs at least one route such as 'POST /charges'")
        base = changes.pop("policy", self.default_policy)
        problems.extend(_unknown_fields(changes))
        if problems:
            raise ConfigurationError(problems)
        policy = replace(base, **changes)
        label = name or routes[0]
        self._policies[label] = policy
        self._routes.extend(_route(route, label, policy) for route in routes)

    def exempt(self, *routes: str) -> None:
        """Leave some routes alone, whatever headers their requests have; same syntax as :meth:`protect`."""
        if problems := [problem for route in routes for problem in _route_problems(route)]:
            raise ConfigurationError(problems)
        self._routes.extend(_route(route, route, None) for route in routes)

    def route(self, method: str, path: str) -> Guarded | None:
        """Return the operation a request belongs to, or None when it is none of ours."""
        for route in self._routes:
            if route.covers(method, path):
                return None if route.policy is None else Guarded(route.name, route.policy)
        if method not in self.methods:
            return None
        return Guarded(f"{method} {path}", self.default_policy)

    def policy_of(self, name: str) -> Policy:
        """Return the policy of an operation by the name its checkpoints carry."""
        return self._policies.get(name, self.default_policy)

    # Running.

    def engine(self) -> Engine:
        """Return this process's engine, connected; a forked child gets its own.

        Raises:
            ConfigurationError: the configured pepper is not the store's.
            StoreError: the store cannot be used now; calling again tries again.
        """
        engine = self.local_engine()
        if not engine.opened:
            engine.open(pepper=self._pepper, secrets=self._secrets)
            self._start_scanner(engine)
        return engine

    async def aengine(self) -> Engine:
        """Return this process's engine like :meth:`engine`, without blocking the loop."""
        engine = self.local_engine()
        if not engine.opened:
            await engine.aopen(pepper=self._pepper, secrets=self._secrets)
            self._start_scanner(engine)
        return engine

    def emit(self, event: Event) -> None:
        """Give an event to every sink."""
        for sink in self._sinks:
            sink(event)

    def add_rerun(self, rerun: Rerun) -> None:
        """Register how a surface runs an abandoned ``again`` operation again (R13)."""
        self._reruns.append(rerun)

    def close(self) -> None:
        """Stop threads and close the store; the guard may be used again afterwards."""
        with self._lock:
            engine, scanner = self._engine, self._scanner
            self._engine = self._scanner = None
        if scanner is not None:
            scanner.close()
        if engine is not None and engine.pid == os.getpid():
            engine.close()

    def local_engine(self) -> Engine:
        """Return this process's engine as it is; it may not be connected yet."""
        engine = self._engine
        if engine is not None and engine.pid == os.getpid():
            return engine
        with self._lock:
            if self._engine is None or self._engine.pid != os.getpid():
                store = cast("Store", self._store)
                self._engine = Engine(store, cast("AsyncStore", store), emit=self.emit, max_waiters=self._max_waiters)
                self._scanner = None
            return self._engine

    def _start_scanner(self, engine: Engine) -> None:
        with self._lock:
            if self._scanner is None and self.scan_seconds is not None:
                self._scanner = Scanner(engine, self.policy_of, self._reruns, interval_seconds=self.scan_seconds)
                self._scanner.start()


def _collect(problems: list[str], make: Callable[[], Any]) -> Any:  # noqa: ANN401 - whatever ``make`` returns
    """Return what ``make`` returns, or add its problems to the list."""
    try:
        return make()
    except ConfigurationError as error:
        problems.extend(error.problems)
        return None


def _route_problems(route: str) -> list[str]:
    if _ROUTE.fullmatch(route) is None:
        return [f"route {route!r} is not understood: write 'POST /path', 'PUT,PATCH /path/{{id}}' or '* /path/*'"]
    return []


def _route(route: str, name: str, policy: Policy | None) -> Route:
    found = cast("re.Match[str]", _ROUTE.fullmatch(route))
    path = found["path"]
    rest = path.endswith("*")
    parts = re.split(r"\{[^{}/]*\}", path.removesuffix("*"))
    pattern = "[^/]+".join(re.escape(part) for part in parts) + (".*" if rest else "")
    return Route(name, frozenset(found["methods"].split(",")), re.compile(pattern), policy)


def _unknown_fields(changes: dict[str, Any]) -> list[str]:
    known = [field.name for field in fields(Policy)]
    problems: list[str] = []
    for name in changes:
        if name not in known:
            near = get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"the fields are {', '.join(known)}"
            problems.append(f"a policy has no field {name!r}: {hint}")
    return problems
