"""The standard library's server, with a thread for each request."""

from __future__ import annotations

import signal
import sys
import threading
from socketserver import ThreadingMixIn
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from tests.servers.apps.wsgi_app import app


class Threads(ThreadingMixIn, WSGIServer):
    """As it is for tests and demonstrations everywhere, except for the threads."""

    daemon_threads = True


class Silent(WSGIRequestHandler):
    """Writes no access log."""

    def log_message(self, *_: object) -> None:
        pass


def main() -> None:
    """Serve until told to stop."""
    with make_server("127.0.0.1", int(sys.argv[1]), app, Threads, Silent) as server:
        signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
        server.serve_forever(poll_interval=0.05)


if __name__ == "__main__":
    main()
