"""The charge on FastAPI. Peers' environments import it too."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel

from bench.charge import PATH, Effects


class Charge(BaseModel):
    """What a client sends."""

    amount: int
    currency: str
    customer: str


def fastapi_app(effects: Effects) -> FastAPI:
    """Make the application."""
    app = FastAPI()

    @app.post(PATH, status_code=201)
    async def charge(asked: Charge) -> dict[str, Any]:
        if not asked.amount:
            await asyncio.to_thread(effects.hold)
        return effects.charge(asked.amount, asked.currency)

    return app
