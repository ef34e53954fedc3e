"""A child: one application on one uvicorn worker (uvloop, httptools).

It says its port when it is ready, and its counters when asked.
"""

from __future__ import annotations

import socket
import sys
import threading
import time

import uvicorn

from bench.apps import Effects, make_app
from bench.children import say


class _Server(uvicorn.Server):
    """A server that says when it is ready."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if not self.should_exit and sockets:
            say({"port": sockets[0].getsockname()[1]})


def _answer(server: uvicorn.Server, effects: Effects) -> None:
    """Answer each line with the counters; the end of the input is the end of the server."""
    for _ in sys.stdin:
        say({"effects": effects.count, "cpu_seconds": time.process_time()})
    server.should_exit = True


def main(kind: str, store_url: str = "") -> None:
    """Serve until standard input ends."""
    app, effects = make_app(kind, store_url or None)
    config = uvicorn.Config(
        app,
        loop="uvloop",
        http="httptools",
        access_log=False,
        log_level="warning",
        timeout_graceful_shutdown=2,
    )
    server = _Server(config)
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    threading.Thread(target=_answer, args=(server, effects), daemon=True).start()
    server.run(sockets=[listener])


if __name__ == "__main__":
    main(*sys.argv[1:])
