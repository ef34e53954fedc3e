"""What every server child does: serve one application with one worker, say its port, and answer the parent.

Peers' environments import it too, so it knows nothing of retrysafe.
"""

from __future__ import annotations

import socket
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import uvicorn

from bench.charge import Effects
from bench.children import say


class _Server(uvicorn.Server):
    """A server that says when it is ready."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if not self.should_exit and sockets:
            say({"port": sockets[0].getsockname()[1]})


def answer_parent(effects: Effects, end: Callable[[], None]) -> None:
    """Carry out each line and answer it with the counters; the end of the input is the end of the server."""
    for line in sys.stdin:
        if "until held" in line:
            effects.until_held()
        elif "let go" in line:
            effects.let_go()
        say({"effects": effects.count, "cpu_seconds": time.process_time()})
    end()


def serve(app: Any, effects: Effects) -> None:
    """Serve an ASGI application on uvicorn with uvloop and httptools until standard input ends."""
    config = uvicorn.Config(
        app,
        loop="uvloop",
        http="httptools",
        access_log=False,
        log_level="warning",
        timeout_graceful_shutdown=2,
    )
    server = _Server(config)

    def end() -> None:
        server.should_exit = True

    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    threading.Thread(target=answer_parent, args=(effects, end), daemon=True).start()
    server.run(sockets=[listener])
