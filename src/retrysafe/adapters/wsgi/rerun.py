"""A stored request as a WSGI environ, for a re-run that enters below authentication (R13)."""

from __future__ import annotations

import io
import sys
from typing import TYPE_CHECKING
from urllib.parse import unquote_to_bytes

if TYPE_CHECKING:
    from retrysafe.adapters.wsgi.types import Environ, Headers, Write
    from retrysafe.protocol.model import StoredRequest

_UNPREFIXED = frozenset({"CONTENT_TYPE", "CONTENT_LENGTH"})


def stored_environ(request: StoredRequest) -> Environ:
    """Make the environ of a stored request.

    Nobody is authenticated in it until the application restores the principal.
    """
    path, _, query = request.target.partition(b"?")
    environ: Environ = {
        "REQUEST_METHOD": request.method,
        "SCRIPT_NAME": "",
        "PATH_INFO": unquote_to_bytes(path).decode("latin-1"),
        "RAW_URI": request.target.decode("latin-1"),
        "QUERY_STRING": query.decode("latin-1"),
        "SERVER_NAME": "localhost",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": "",
        "CONTENT_LENGTH": str(len(request.body)),
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(request.body),
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
    }
    for name, value in request.headers:
        variable = name.decode("latin-1").upper().replace("-", "_")
        environ.setdefault(variable if variable in _UNPREFIXED else f"HTTP_{variable}", value.decode("latin-1"))
    return environ


def nowhere(_status: str, _headers: Headers, _exc_info: object = None) -> Write:
    """Respond to nobody: no client waits for a recovered operation."""
    return _forget


def _forget(_: bytes) -> None:
    """Drop what an application writes."""
