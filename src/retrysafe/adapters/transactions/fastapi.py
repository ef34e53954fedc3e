"""A look at a FastAPI application, before it serves: which guarded routes would commit after their answer has left.

Nothing is imported for this: the application is looked at as it is, and one of another framework has no such routes.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, get_args, get_type_hints

_DRIVERS = frozenset({"aiosqlite", "asyncpg", "django", "psycopg", "psycopg2", "sqlalchemy", "sqlite3"})
_CONNECTIONS = ("Session", "Connection", "Cursor")

Guarded = Callable[[str, str], bool]
"""Tells whether the route of a method and a path, such as ``/orders/{id}``, is guarded in mode ``transaction``."""


def refuse_late_commits(app: Any, guarded: Guarded) -> list[str]:  # noqa: ANN401 - any framework's
    """List the dependencies of guarded routes that may commit apart from the outcome, one sentence each (R11).

    FastAPI since 0.118 runs the end of a ``yield`` dependency after the response has left. One that yields a session or
    a connection mostly commits there: after the client has its answer, and apart from the outcome. Found are those
    that say what they yield in their return annotation; the SQLAlchemy binding refuses what the others write.

    Args:
        app: with all its routes; routers that are included and applications that are mounted are looked at, too.
        guarded: which routes are guarded in mode ``transaction``.

    Returns:
        Problems with their fixes, for :class:`~retrysafe.ConfigurationError`; empty when there are none.
    """
    problems: dict[str, None] = {}
    for methods, path, dependant in _routes(app, ""):
        for method in sorted(method for method in methods if guarded(method, path)):
            for call in _late(dependant):
                problems[
                    f"{method} {path} is guarded in mode 'transaction', but depends on {_name(call)}, which ends after "
                    "the response has left, so that a commit there is apart from the outcome: let the route use "
                    "current_operation().session instead; where the dependency only reads, say "
                    'Depends(..., scope="function")'
                ] = None
    return list(problems)


def _routes(app: Any, prefix: str) -> Iterator[tuple[set[str], str, Any]]:  # noqa: ANN401 - any framework's
    """Give every route with dependencies, below whatever it is mounted."""
    for listed in getattr(app, "routes", None) or ():
        for route in _effective(listed):
            if (dependant := getattr(route, "dependant", None)) is not None:
                yield set(getattr(route, "methods", None) or ()), prefix + route.path, dependant
                continue
            plain = getattr(route, "starlette_route", None) or route
            yield from _routes(getattr(plain, "app", None), prefix + (getattr(plain, "path", None) or ""))


def _effective(route: Any) -> Iterator[Any]:  # noqa: ANN401 - FastAPI's, which differ between its versions
    """Give the routes of an included router, with its prefix and its dependencies; other routes are themselves."""
    candidates = getattr(route, "effective_candidates", None)
    if candidates is None:
        yield route
        return
    for candidate in candidates():
        yield from _effective(candidate)


def _late(dependant: Any) -> Iterator[Any]:  # noqa: ANN401 - FastAPI's, which is not imported
    for needed in dependant.dependencies:
        if needed.call is not None and getattr(needed, "scope", None) != "function" and _yields_connection(needed.call):
            yield needed.call
        yield from _late(needed)


def _function(call: Any) -> Any:  # noqa: ANN401 - whatever Depends takes
    """Return the function below partials, decorators, and objects that can be called."""
    while isinstance(call, partial):
        call = call.func
    function = inspect.unwrap(call)
    return function if inspect.isroutine(function) else type(function).__call__


def _name(call: Any) -> str:  # noqa: ANN401 - whatever Depends takes
    function = _function(call)
    return f"{function.__module__}.{function.__qualname__}"


def _yields_connection(call: Any) -> bool:  # noqa: ANN401 - whatever Depends takes
    function = _function(call)
    if not (inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function)):
        return False
    try:
        hints = get_type_hints(function)
    except Exception:  # noqa: BLE001 - an annotation that only type checkers can read says nothing here
        return False
    return any(_is_connection(kind) for kind in _yielded(hints.get("return")))


def _yielded(annotation: Any) -> Iterator[Any]:  # noqa: ANN401 - an annotation
    """Give the types that a generator yields, also those of unions."""
    for argument in get_args(annotation)[:1]:
        yield argument
        yield from get_args(argument)


def _is_connection(kind: Any) -> bool:  # noqa: ANN401 - an annotation
    if not isinstance(kind, type):
        return False
    return any(
        base.__module__.partition(".")[0] in _DRIVERS and base.__name__.endswith(_CONNECTIONS) for base in kind.__mro__
    )
