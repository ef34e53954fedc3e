"""The applications under load: the same charge on bare ASGI and on frameworks, with and without a guard."""

from __future__ import annotations

import asyncio
import json
from importlib import import_module
from typing import Any, NamedTuple

from bench.charge import PATH, Effects
from retrysafe import SHARED, RetrySafe
from retrysafe.adapters import asgi, wsgi
from retrysafe.adapters.asgi.types import App, Message, Receive, Scope, Send


class Kind(NamedTuple):
    """How one application is made.

    Attributes:
        make: module and function; a module of its own, so that servers without the framework start sooner.
        server: the module that serves it.
    """

    make: str
    server: str

    @property
    def is_wsgi(self) -> bool:
        return self.server == "bench.gunicorn_server"


KINDS = {
    "bare": Kind("bench.apps:bare_app", "bench.server"),
    "starlette": Kind("bench.on_starlette:starlette_app", "bench.server"),
    "fastapi": Kind("bench.on_fastapi:fastapi_app", "bench.server"),
    "flask": Kind("bench.on_flask:flask_app", "bench.gunicorn_server"),
    "django": Kind("bench.on_django:django_app", "bench.gunicorn_server"),
}


def bare_app(effects: Effects) -> App:
    """Make the application without any framework."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise RuntimeError("this application has no lifespan")
        body, more = b"", True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        asked = json.loads(body)
        if not asked["amount"]:
            await asyncio.to_thread(effects.hold)
        answer = json.dumps(effects.charge(asked["amount"], asked["currency"])).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(answer))]
        start: Message = {"type": "http.response.start", "status": 201, "headers": headers}
        await send(start)
        await send({"type": "http.response.body", "body": answer})

    return app


def guard_on(store_url: str) -> RetrySafe:
    """Make a guard as the documentation shows it, with one declared operation."""
    guard = RetrySafe(store_url, principal=SHARED)
    guard.protect(f"POST {PATH}")
    return guard


def make_app(name: str, store_url: str | None) -> tuple[Any, Effects]:
    """Make an application.

    Args:
        name: one of ``KINDS``.
        store_url: the guard's store, or None for no guard.
    """
    effects, kind = Effects(), KINDS[name]
    module, _, function = kind.make.partition(":")
    app = getattr(import_module(module), function)(effects)
    if store_url is None:
        return app, effects
    surface: Any = wsgi if kind.is_wsgi else asgi
    return surface.RetrySafeMiddleware(app, guard_on(store_url)), effects
