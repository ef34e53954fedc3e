"""A child: one WSGI application on gunicorn with one worker of 16 threads.

The worker, and not its master, speaks with the parent: it is the one that has the application.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from typing import Any

from gunicorn.app.base import BaseApplication

from bench.apps import make_app
from bench.charge import Effects
from bench.children import say
from bench.serving import answer_parent

THREADS = 16


class _Gunicorn(BaseApplication):
    """Gunicorn without a command line."""

    def __init__(self, name: str, store_url: str) -> None:
        self._name, self._store_url = name, store_url
        self._effects: Effects | None = None
        super().__init__()

    def load_config(self) -> None:
        settings = {
            "bind": "127.0.0.1:0",
            "worker_class": "gthread",
            "threads": THREADS,
            "keepalive": 75,
            "loglevel": "error",
            "graceful_timeout": 2,
            "post_worker_init": self._begin,
        }
        for name, value in settings.items():
            self.cfg.set(name, value)

    def load(self) -> Any:
        """Make the application, in the worker."""
        app, self._effects = make_app(self._name, self._store_url or None)
        return app

    def _begin(self, worker: Any) -> None:
        say({"port": worker.sockets[0].getsockname()[1]})

        def end() -> None:
            # A worker without its master ends by itself, and has somebody else for a parent.
            if os.getppid() == worker.ppid:
                os.kill(worker.ppid, signal.SIGTERM)

        threading.Thread(target=answer_parent, args=(self._effects, end), daemon=True).start()


def main(name: str, store_url: str = "") -> None:
    """Serve until standard input ends."""
    _Gunicorn(name, store_url).run()


if __name__ == "__main__":
    main(*sys.argv[1:])
