"""Finding sessions that would commit after the response has left, before the first request does so (R11).

FastAPI (0.118 and later) runs the end of a ``yield`` dependency after the response was sent. A session that commits
there commits after the client has its 201, so such a route can't be an operation in mode ``transaction``. No framework
is imported for this: the application is looked at as it is.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any, get_args, get_type_hints

_WRITES = ("Session", "Connection")


def late_commits(app: Any, is_transaction: Callable[[str, str], bool]) -> list[str]:  # noqa: ANN401 - any framework
    """Name every dependency that yields a session in a route that runs in a transaction.

    Args:
        app: the application; one without FastAPI's routes has none.
        is_transaction: tells whether a method and a path belong to an operation in mode ``transaction``.

    Returns:
        A sentence with its fix for each.
    """
    problems: list[str] = []
    for route in getattr(app, "routes", ()):
        dependant, path = getattr(route, "dependant", None), getattr(route, "path", "")
        methods = getattr(route, "methods", None) or ()
        if dependant is not None and any(is_transaction(method, path) for method in methods):
            route_name = f"{', '.join(sorted(methods))} {path}"
            problems += [
                f"{route_name} runs in a transaction, and its dependency {name} yields a session that ends after the "
                "response has left: use current_operation().session, or give the dependency scope='function' and let "
                "it not commit"
                for name in _late(dependant)
            ]
    return problems


def _late(dependant: Any) -> Iterator[str]:  # noqa: ANN401 - FastAPI's, which is not imported
    for needed in getattr(dependant, "dependencies", ()):
        call = getattr(needed, "call", None)
        yields = inspect.isgeneratorfunction(call) or inspect.isasyncgenfunction(call)
        if call is not None and yields and getattr(needed, "scope", None) != "function" and _is_session(call):
            yield call.__qualname__
        yield from _late(needed)


def _is_session(call: Callable[..., Any]) -> bool:
    try:
        wanted = get_type_hints(call).get("return")
    except (NameError, TypeError):
        return False
    names = [getattr(part, "__name__", "") for part in get_args(wanted)]
    return any(name.endswith(_WRITES) for name in names)
