"""An application that is loaded for its operations and serves nobody: its lifespan is run as a server would (R13)."""

from __future__ import annotations

import asyncio
import inspect
from typing import Any

from retrysafe.cli.complaints import Complaint

Message = dict[str, Any]


class Hosted:
    """An application and its lifespan; nothing at all for a WSGI application, or without one."""

    def __init__(self, app: Any) -> None:  # noqa: ANN401 - whatever an application is
        """Know the application."""
        self._app = app
        self._incoming: asyncio.Queue[Message] = asyncio.Queue()
        self._outgoing: asyncio.Queue[Message] = asyncio.Queue()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Run the application's start-up.

        Raises:
            Complaint: it fails.
        """
        if self._app is None or not _is_asgi(self._app):
            return
        self._task = asyncio.create_task(self._run())
        await self._say("startup")

    async def stop(self) -> None:
        """Run the application's shut-down.

        Raises:
            Complaint: it fails.
        """
        if self._task is None or self._task.done():
            return
        await self._say("shutdown")
        await self._task

    async def _run(self) -> None:
        scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": {}}
        try:
            await self._app(scope, self._incoming.get, self._outgoing.put)
        except Exception as error:  # noqa: BLE001 - an application may have no lifespan, and says so like this
            await self._outgoing.put({"type": "ended", "message": f"{type(error).__name__}: {error}"})
        else:
            await self._outgoing.put({"type": "ended", "message": ""})

    async def _say(self, phase: str) -> None:
        await self._incoming.put({"type": f"lifespan.{phase}"})
        answer = await self._outgoing.get()
        if answer["type"] == f"lifespan.{phase}.failed":
            raise Complaint(f"the application's {phase} fails: {answer.get('message') or 'it gave no reason'}")


def _is_asgi(app: Any) -> bool:  # noqa: ANN401 - whatever an application is
    return inspect.iscoroutinefunction(app) or inspect.iscoroutinefunction(type(app).__call__)
