"""The lives of one server: it is started, killed, and started again, until its customers are done."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from retrysafe.demo.process import Server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from retrysafe.demo.serve import ServeSettings


async def live_and_die(
    settings: ServeSettings, log: Path, lives: Iterable[float], over: asyncio.Event, killed: Callable[[], None]
) -> None:
    """Kill a server at the end of each life; after the last one let it live until all is over.

    Args:
        settings: what it serves.
        log: takes what it has to say.
        lives: how long each life lasts, in seconds.
        over: set when the customers are done; then the server is stopped politely.
        killed: called at each ``kill -9``.

    Raises:
        DemoFailed: it ended by itself or did not start.
    """
    for seconds in (*lives, None):
        if over.is_set():
            return
        server = await Server.start(settings, log)
        try:
            await _first(over, server, seconds)
            if over.is_set():
                await server.stop()
            else:
                killed()
        finally:
            await server.kill()


async def _first(over: asyncio.Event, server: Server, seconds: float | None) -> None:
    """Return when the customers are done or the time is up, whichever comes first.

    Raises:
        DemoFailed: the server ended by itself before that.
    """
    waits: list[asyncio.Future[Any]] = [asyncio.ensure_future(over.wait()), asyncio.ensure_future(server.ended())]
    try:
        done, _ = await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        for wait in done:
            wait.result()
    finally:
        for wait in waits:
            wait.cancel()
        await asyncio.gather(*waits, return_exceptions=True)
