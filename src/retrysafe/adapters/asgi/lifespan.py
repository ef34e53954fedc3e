"""Starting with the application and draining before it stops (C7)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from retrysafe.errors import RetrySafeError, StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from retrysafe.adapters.asgi.types import App, Message, Receive, Scope, Send


class Lifespan:
    """One pass of the lifespan protocol, with two moments of our own: after start-up, and before shutdown."""

    def __init__(self, start: Callable[[], Awaitable[None]], drain: Callable[[], Awaitable[None]]) -> None:
        """Call ``start`` once the application is up, and ``drain`` before it goes down."""
        self._start = start
        self._drain = drain
        self._received = 0
        self._answered = False

    async def __call__(self, app: App, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the application's lifespan; an application without one still gets ours."""

        async def tapped_receive() -> Message:
            message = await receive()
            self._received += 1
            if message["type"] == "lifespan.shutdown":
                await self._drain()
            return message

        async def tapped_send(message: Message) -> None:
            self._answered = True
            await send(await self._started(message))

        try:
            await app(scope, tapped_receive, tapped_send)
        except Exception:
            # An application that fails to start has taken the message; one that does not know the protocol has not.
            if self._answered or self._received:
                raise
        if not self._answered:
            # The application does not know the protocol: it raised, or it returned. Operations must still be drained.
            await self._alone(tapped_receive, tapped_send)

    async def _started(self, message: Message) -> Message:
        """Start with the application; what cannot work is told to the server now, not to the first request."""
        if message["type"] != "lifespan.startup.complete":
            return message
        try:
            await self._start()
        except StoreUnavailable:
            # Transient: until the store is back, guarded requests are answered 503 (D1).
            return message
        except RetrySafeError as error:
            return {"type": "lifespan.startup.failed", "message": str(error)}
        return message

    async def _alone(self, receive: Receive, send: Send) -> None:
        if self._received == 0:
            await receive()
        await send({"type": "lifespan.startup.complete"})
        while (await receive())["type"] != "lifespan.shutdown":
            pass
        await send({"type": "lifespan.shutdown.complete"})
