"""Requests of a WSGI server.

Reading the body whole, within a limit, and never beyond what the client declared (PEP 3333).
"""

from __future__ import annotations

import io
from contextlib import suppress
from typing import TYPE_CHECKING
from urllib.parse import quote

from retrysafe.errors import RequestTooLarge
from retrysafe.http.request import HttpRequest

if TYPE_CHECKING:
    from retrysafe.adapters.wsgi.types import Environ

_CHUNK_BYTES = 64 * 1024
_DRAIN_BYTES = 1024 * 1024
_UNPREFIXED = ("CONTENT_TYPE", "CONTENT_LENGTH")


def request_of(environ: Environ) -> HttpRequest:
    """Describe a request without its body."""
    headers = [
        (name[5:].replace("_", "-").lower().encode("latin-1"), value.encode("latin-1"))
        for name, value in environ.items()
        if name.startswith("HTTP_")
    ]
    headers.extend(
        (name.replace("_", "-").lower().encode("latin-1"), environ[name].encode("latin-1"))
        for name in _UNPREFIXED
        if environ.get(name)
    )
    return HttpRequest(
        method=environ["REQUEST_METHOD"],
        path=_raw_path(environ),
        query=environ.get("QUERY_STRING", "").encode("latin-1"),
        headers=tuple(headers),
        body=b"",
        native=environ,
    )


def path_of(environ: Environ) -> str:
    """Return the decoded path as the client sees it, with the mount point."""
    path = environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")
    return path.encode("latin-1").decode("utf-8", "replace") or "/"


def _raw_path(environ: Environ) -> bytes:
    """Return the path as sent, if the server tells it; else encoded again from what WSGI decoded."""
    for name in ("RAW_URI", "REQUEST_URI"):
        raw = environ.get(name)
        if raw and raw.startswith("/"):
            return str(raw).partition("?")[0].encode("latin-1")
    decoded = environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")
    return quote(decoded.encode("latin-1")).encode("ascii")


def has_unknown_end(environ: Environ) -> bool:
    """Tell whether there is a body that cannot be read to its end: taken as empty, all such requests would be alike."""
    chunked = "chunked" in environ.get("HTTP_TRANSFER_ENCODING", "").lower()
    return chunked and _declared_length(environ) is None and not environ.get("wsgi.input_terminated")


def read_body(environ: Environ, limit: int) -> bytes | None:
    """Read the whole body; None when the client went away before it was complete, and nothing may be claimed.

    Raises:
        RequestTooLarge: the body is larger than ``limit`` bytes (S8).
    """
    declared = _declared_length(environ)
    if declared is None and not environ.get("wsgi.input_terminated"):
        # Without either, reading would wait for bytes that never come.
        return b""
    if declared is not None and declared > limit:
        raise RequestTooLarge(limit)
    try:
        body = _read_at_most(environ, limit + 1 if declared is None else declared)
    except OSError:
        return None
    if declared is not None and len(body) < declared:
        return None
    if len(body) > limit:
        raise RequestTooLarge(limit)
    return body


def give_body(environ: Environ, body: bytes) -> None:
    """Let the application read a body that was read already."""
    environ["wsgi.input"] = io.BytesIO(body)
    environ["CONTENT_LENGTH"] = str(len(body))


def drain_body(environ: Environ) -> None:
    """Read and forget what the client still sends, up to 1 MiB, so that it hears an early answer."""
    declared = _declared_length(environ)
    if declared:
        with suppress(OSError):
            _read_at_most(environ, min(declared, _DRAIN_BYTES))


def _declared_length(environ: Environ) -> int | None:
    declared = environ.get("CONTENT_LENGTH") or ""
    return int(declared) if declared.isascii() and declared.isdigit() else None


def _read_at_most(environ: Environ, size: int) -> bytes:
    chunks: list[bytes] = []
    while size > 0:
        chunk = environ["wsgi.input"].read(min(size, _CHUNK_BYTES))
        if not chunk:
            break
        chunks.append(chunk)
        size -= len(chunk)
    return b"".join(chunks)
