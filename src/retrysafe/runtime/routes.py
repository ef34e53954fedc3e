"""Which requests belong to which operation, and how each operation is guarded."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields, replace
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, NamedTuple, cast
from urllib.parse import quote

from retrysafe.errors import ConfigurationError
from retrysafe.protocol.model import Mode
from retrysafe.protocol.policy import Policy

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

_MOST_PATHS = 1000
_LONG_PATH = 200
_REMEMBERED = frozenset({Mode.STEPS, Mode.TRANSACTION})

_ROUTE = re.compile(r"(?P<methods>[A-Z*]+(?:,[A-Z]+)*) (?P<path>/\S*)")


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


class Routes:
    """The declared operations of an application; the first declaration that covers a request wins.

    Attributes:
        policies: the declared operations' policies, by name.
    """

    def __init__(self, default: Policy, methods: Iterable[str], forgetful: str | None = None) -> None:
        """Start with no declaration.

        Args:
            default: guards operations that are not declared.
            methods: HTTP methods of operations that are guarded without being declared (K7).
            forgetful: why the store can't hold operations that must not be forgotten (D3).

        Raises:
            ConfigurationError: the store can't hold operations of the default policy.
        """
        self._forgetful = forgetful
        self._check(default)
        self._default = default
        self._methods = frozenset(method.upper() for method in methods)
        self._routes: list[Route] = []
        self._found: dict[tuple[str, str], Guarded | None] = {}
        self.policies: dict[str, Policy] = {}

    def protect(self, routes: Sequence[str], name: str | None, changes: Mapping[str, Any]) -> None:
        """Declare how the operation behind some routes is guarded; see :meth:`~retrysafe.RetrySafe.protect`."""
        if not routes:
            raise ConfigurationError(["protect() needs at least one route such as 'POST /charges'"])
        self.declare(name or routes[0], routes, changes)

    def declare(self, label: str, routes: Sequence[str], changes: Mapping[str, Any]) -> None:
        """Declare how the operation of a name is guarded, and which requests belong to it; there may be none."""
        problems = [problem for route in routes for problem in _route_problems(route)]
        problems.extend(_unknown_fields(changes))
        if problems:
            raise ConfigurationError(problems)
        changes = dict(changes)
        policy = replace(changes.pop("policy", self._default), **changes)
        self._check(policy)
        self.policies[label] = policy
        self._add([_route(route, label, policy) for route in routes])

    def _check(self, policy: Policy) -> None:
        if self._forgetful is not None and policy.mode in _REMEMBERED:
            raise ConfigurationError([f"mode {policy.mode} needs a store that does not forget: {self._forgetful}"])

    def exempt(self, routes: Sequence[str]) -> None:
        """Leave some routes alone."""
        if problems := [problem for route in routes for problem in _route_problems(route)]:
            raise ConfigurationError(problems)
        self._add([_route(route, route, None) for route in routes])

    def _add(self, routes: Sequence[Route]) -> None:
        self._routes.extend(routes)
        # Last: who looks at this moment, on another thread, remembers in what is thrown away here.
        self._found = {}

    def find(self, method: str, path: str) -> Guarded | None:
        """Return the operation a request belongs to, or None when it is none of ours."""
        known = self._found
        try:
            return known[method, path]
        except KeyError:
            found = self._find(method, path)
        # Paths may hold ids: what is remembered stays small whatever clients send.
        if len(known) < _MOST_PATHS and len(method) + len(path) < _LONG_PATH:
            known[method, path] = found
        return found

    def _find(self, method: str, path: str) -> Guarded | None:
        for route in self._routes:
            if route.covers(method, path):
                return None if route.policy is None else Guarded(route.name, route.policy)
        if method not in self._methods:
            return None
        # Control characters of a path must not write lines of their own into a log.
        shown = path if path.isprintable() else quote(path)
        return Guarded(f"{method} {shown}", self._default)

    def policy_of(self, name: str) -> Policy:
        """Return the policy of an operation by the name its checkpoints carry."""
        return self.policies.get(name, self._default)


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


def _unknown_fields(changes: Mapping[str, Any]) -> list[str]:
    known = [*(field.name for field in fields(Policy)), "policy"]
    problems: list[str] = []
    for name in changes:
        if name not in known:
            near = get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"the fields are {', '.join(known)}"
            problems.append(f"a policy has no field {name!r}: {hint}")
    return problems
