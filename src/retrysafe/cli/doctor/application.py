"""Checks of an application: where its guard stands, and how it is set up. No framework is imported for that."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from importlib import import_module
from pathlib import Path
from traceback import extract_tb
from typing import Any
from urllib.parse import quote

from retrysafe.cli.complaints import Complaint, Misuse
from retrysafe.cli.doctor.findings import Finding, Level
from retrysafe.protocol.model import Mode
from retrysafe.runtime.guard import SHARED, RetrySafe
from retrysafe.stores.base import Durability
from retrysafe.stores.urls import unknown

_AUTHENTICATES = re.compile(r"auth|jwt|oidc|session|login|identity", re.IGNORECASE)
_WRAPPED = ("app", "_app", "wsgi_app")
_DEEPEST = 50


@dataclass(frozen=True, slots=True)
class Layer:
    """One middleware, or the application in the middle.

    Attributes:
        name: of its class.
        guard: what it guards with, if it is ours.
    """

    name: str
    guard: RetrySafe | None


def load(target: str) -> Any:  # noqa: ANN401 - whatever an application is
    """Import what ``module:attribute`` names, the way servers do: the working directory comes first.

    Raises:
        Complaint: there is no such thing, or importing it fails.
    """
    name, _, path = target.partition(":")
    if not name or not path:
        raise Misuse(f"{target!r} is not MODULE:ATTR", fixes=["write it like shop:app"])
    sys.path.insert(0, str(Path.cwd()))
    try:
        module = import_module(name)
    except (Exception, SystemExit) as error:
        if isinstance(error, ModuleNotFoundError) and error.name and f"{name}.".startswith(f"{error.name}."):
            raise Misuse(f"there is no module {name}, looked for from {Path.cwd()}") from error
        place = extract_tb(error.__traceback__)[-1]
        what = f"importing {name} fails: {type(error).__name__}: {error}"
        raise Complaint(what, where=f"{place.filename}:{place.lineno}") from error
    try:
        return reduce(getattr, path.split("."), module)
    except AttributeError as error:
        names = [public for public in vars(module) if not public.startswith("_")]
        raise Misuse(unknown(f"attribute of {name}", path, names)) from error


def store_url_of(app: Any) -> str | None:  # noqa: ANN401 - whatever an application is
    """Return the URL of the first guard's store, where that is a file that can be looked at from here."""
    for layer in layers(app):
        if layer.guard is not None:
            store: Any = layer.guard.local_engine().sync
            if store.traits.name == "sqlite":
                weak = "?synchronous=normal" if store.traits.durability is Durability.PROCESS else ""
                return f"sqlite:///{quote(store.path)}{weak}"
    return None


def layers(app: Any) -> list[Layer]:  # noqa: ANN401 - whatever an application is
    """List what a request passes, outermost first, as far as it can be seen from outside."""
    found: list[Layer] = []
    while app is not None and len(found) < _DEEPEST:
        attributes: dict[str, Any] = getattr(app, "__dict__", {})
        guard = app if isinstance(app, RetrySafe) else _guard_among(attributes.values())
        found.append(Layer(type(app).__name__, guard))
        if isinstance(app, RetrySafe):
            break
        found += [_declared(entry) for entry in getattr(app, "user_middleware", ())]
        app = next((inner for name in _WRAPPED if (inner := getattr(app, name, None)) is not None), None)
    return found


def application_checks(app: Any) -> Iterator[Finding]:  # noqa: ANN401 - whatever an application is
    """Look at an application, or at a guard by itself."""
    stack = layers(app)
    places = [place for place, layer in enumerate(stack) if layer.guard is not None]
    if not places:
        fix = "app.add_middleware(RetrySafeMiddleware, guard=guard), or look at the guard itself: --app module:guard"
        yield Finding(Level.FAIL, "guard", "none is seen in the middlewares of this application", fix)
        return
    for place in places:
        guard = stack[place].guard
        if guard is not None:
            yield from _order(stack, place)
            yield from _guard_checks(guard)
    yield from _route_security(app)


def _guard_among(values: Any) -> RetrySafe | None:  # noqa: ANN401 - the attributes of anything
    return next((value for value in values if isinstance(value, RetrySafe)), None)


def _declared(entry: Any) -> Layer:  # noqa: ANN401 - a framework's description of a middleware
    options: Mapping[str, Any] = getattr(entry, "kwargs", None) or getattr(entry, "options", None) or {}
    values: Sequence[Any] = (*getattr(entry, "args", ()), *options.values())
    return Layer(getattr(getattr(entry, "cls", None), "__name__", "?"), _guard_among(values))


def _order(stack: Sequence[Layer], place: int) -> Iterator[Finding]:
    """Compare the guard's place with what must be outside of it (K5)."""
    inside = stack[place + 1 :]
    late = [layer.name for layer in inside if _AUTHENTICATES.search(layer.name)]
    if late:
        yield Finding(
            Level.WARN,
            "order",
            f"the guard is outside of {', '.join(late)}: principal is asked before anybody is authenticated (K5)",
            f"call add_middleware for RetrySafeMiddleware before that of {late[0]}: the last added is outermost",
        )
    if "CORSMiddleware" in [layer.name for layer in inside]:
        yield Finding(
            Level.WARN,
            "order",
            "the guard is outside of CORSMiddleware: browsers can read neither replays nor refusals",
            "call add_middleware for RetrySafeMiddleware before that of CORSMiddleware",
        )
    if not late:
        outside = [layer.name for layer in stack[:place] if _AUTHENTICATES.search(layer.name)]
        text = f"the guard is inside of {', '.join(outside)}" if outside else "no authentication is inside of the guard"
        yield Finding(Level.OK, "order", text)


def _guard_checks(guard: RetrySafe) -> Iterator[Finding]:
    if guard.principal is SHARED:
        text = "SHARED: all callers share one scope, so who guesses a key sees another's answer (K5)"
        yield Finding(Level.WARN, "principal", text, "principal=<callable that names the authenticated caller>")
    else:
        yield Finding(Level.OK, "principal", "named by a callable")
    if guard.local_engine().sync.traits.name == "memory":
        text = "in memory: nothing survives a restart, and each worker process has its own"
        yield Finding(Level.WARN, "durability", text, "RetrySafe('sqlite:///checkpoints.db', ...)")
    policies = {"every other operation": guard.default_policy, **guard.policies}
    yield _reruns(guard, [name for name, policy in policies.items() if policy.mode is Mode.AGAIN])
    if any(policy.require_key for policy in policies.values()):
        yield Finding(Level.OK, "keys", "at least one operation requires a key")
    else:
        text = "no operation requires a key: a request without one passes unprotected (K7)"
        yield Finding(Level.INFO, "keys", text, "guard.protect('POST /charges', require_key=True)")
    if guard.scan_seconds is None:
        text = "off here: another process must take over and park what is abandoned"
        yield Finding(Level.INFO, "recovery scan", text)


def _reruns(guard: RetrySafe, again: Sequence[str]) -> Finding:
    if not again or guard.restore_principal is not None:
        return Finding(Level.OK, "re-runs", f"{len(again)} of the declared operations run again after a crash")
    text = f"{', '.join(again)}: without restore_principal only the retrying client runs them again (R13)"
    return Finding(Level.WARN, "re-runs", text, "RetrySafe(..., restore_principal=<puts the stored principal id back>)")


def _route_security(app: Any) -> Iterator[Finding]:  # noqa: ANN401 - whatever an application is
    """Find authentication that FastAPI runs inside of every middleware, in a route's dependencies (K5)."""
    secured = [route for route in getattr(app, "routes", ()) if _asks_who(getattr(route, "dependant", None))]
    if secured:
        text = f"{len(secured)} routes authenticate in their dependencies, which run after the guard (K5)"
        yield Finding(Level.INFO, "order", text, "let principal check the credentials itself")


def _asks_who(dependant: Any) -> bool:  # noqa: ANN401 - a framework's description of a dependency
    if dependant is None:
        return False
    bases = [base.__name__ for base in type(getattr(dependant, "call", None)).__mro__]
    return "SecurityBase" in bases or any(map(_asks_who, getattr(dependant, "dependencies", ())))
