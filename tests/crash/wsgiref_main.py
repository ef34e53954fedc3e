"""The shop on the standard library's own WSGI server, with a thread for each request: ``python -m … FD``."""

from __future__ import annotations

import socket
import sys
from socketserver import ThreadingMixIn
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from tests.crash.shop import wsgi


class Server(ThreadingMixIn, WSGIServer):
    """A thread for each request."""

    daemon_threads = True


def main() -> None:
    listener = socket.socket(fileno=int(sys.argv[1]))
    server = Server(listener.getsockname(), WSGIRequestHandler, bind_and_activate=False)
    server.socket.close()
    server.socket = listener
    server.server_name, server.server_port = "127.0.0.1", listener.getsockname()[1]
    server.setup_environ()
    server.set_app(wsgi())
    server.serve_forever()


if __name__ == "__main__":
    main()
