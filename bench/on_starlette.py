"""The charge on Starlette."""

from __future__ import annotations

import asyncio

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from bench.charge import PATH, Effects


def starlette_app(effects: Effects) -> Starlette:
    """Make the application."""

    async def charge(request: Request) -> Response:
        asked = await request.json()
        if not asked["amount"]:
            await asyncio.to_thread(effects.hold)
        return JSONResponse(effects.charge(asked["amount"], asked["currency"]), 201)

    return Starlette(routes=[Route(PATH, charge, methods=["POST"])])
