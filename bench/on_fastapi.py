"""The charge on FastAPI; a module of its own because importing FastAPI takes longer than everything else."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel

from bench.apps import PATH, Effects
from retrysafe import RetrySafe
from retrysafe.adapters.asgi import RetrySafeMiddleware
from retrysafe.adapters.asgi.types import App


class Charge(BaseModel):
    """What a client sends."""

    amount: int
    currency: str
    customer: str


def fastapi_app(effects: Effects, guard: RetrySafe | None) -> App:
    """Make the application, guarded as its users would guard it."""
    app = FastAPI()

    @app.post(PATH, status_code=201)
    async def charge(asked: Charge) -> dict[str, Any]:
        return effects.charge(asked.amount, asked.currency)

    if guard is not None:
        app.add_middleware(RetrySafeMiddleware, guard=guard)
    return app
