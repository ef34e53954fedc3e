"""The applications under load: the same charge, once on bare ASGI and once on FastAPI, with and without a guard.

The request is about 100 bytes of JSON and the response about 1 KB. Each charge counts itself, so that a run can tell
whether every key had exactly one effect, and its response carries that number, so that a replay can be recognised.
"""

from __future__ import annotations

import json
from random import Random
from string import ascii_lowercase
from typing import Any

from retrysafe import SHARED, RetrySafe
from retrysafe.adapters.asgi import RetrySafeMiddleware
from retrysafe.adapters.asgi.types import App, Message, Receive, Scope, Send

PATH = "/charges"


def _receipt(length: int) -> str:
    """Return text that compresses about as well as prose does: words from a small vocabulary, the same each time."""
    chance = Random(7)
    words = ["".join(chance.choices(ascii_lowercase, k=chance.randint(2, 9))) for _ in range(150)]
    return " ".join(chance.choices(words, k=length))[:length]


_RECEIPT = _receipt(880)


class Effects:
    """Counts what was really done."""

    def __init__(self) -> None:
        self.count = 0

    def charge(self, amount: int, currency: str) -> dict[str, Any]:
        """Do the thing that must not happen twice."""
        self.count += 1
        return {
            "id": f"ch_{self.count:012d}",
            "object": "charge",
            "amount": amount,
            "currency": currency,
            "status": "succeeded",
            "receipt": _RECEIPT,
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


def make_app(kind: str, store_url: str | None) -> tuple[App, Effects]:
    """Make an application.

    Args:
        kind: ``bare`` or ``fastapi``.
        store_url: the guard's store, or None for no guard.
    """
    effects = Effects()
    guard = None if store_url is None else guard_on(store_url)
    if kind == "fastapi":
        from bench.on_fastapi import fastapi_app  # noqa: PLC0415 - servers without it start in half the time

        return fastapi_app(effects, guard), effects
    app = bare_app(effects)
    return (app if guard is None else RetrySafeMiddleware(app, guard)), effects
