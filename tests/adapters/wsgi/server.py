"""A WSGI server in this process, as strict as PEP 3333 on both sides (``wsgiref.validate``)."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast
from wsgiref.validate import validator

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from retrysafe.adapters.wsgi.types import App, Environ, Headers


class Input:
    """A request's body on a connection that stays open: reading beyond it would hang, so that it fails here."""

    def __init__(self, body: bytes, *, cut_off: bool = False, ends: bool = False) -> None:
        self._body = io.BytesIO(body)
        self._left = len(body)
        self._cut_off = cut_off
        self._ends = ends
        self.reads = 0

    def read(self, size: int) -> bytes:
        self.reads += 1
        if self._cut_off and not self._left:
            return b""
        if not self._ends:
            assert 0 <= size <= self._left, f"read {size} bytes where {self._left} are left"
        data = self._body.read(size)
        self._left -= len(data)
        return data

    def readline(self, size: int = -1) -> bytes:
        return self._body.readline(size)

    def readlines(self, hint: int = -1) -> list[bytes]:
        return self._body.readlines(hint)

    def __iter__(self) -> Any:
        return iter(self._body)


def environ_of(
    path: str = "/once/1", *, key: str | None = "k", method: str = "POST", body: bytes = b"{}", **more: Any
) -> Environ:
    """Make the environ of a request."""
    environ: Environ = {
        "REQUEST_METHOD": method,
        "SCRIPT_NAME": "",
        "PATH_INFO": path,
        "QUERY_STRING": "",
        "SERVER_NAME": "localhost",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "CONTENT_TYPE": "application/json",
        "CONTENT_LENGTH": str(len(body)),
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": Input(body),
        "wsgi.errors": io.StringIO(),
        "wsgi.multithread": True,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
    }
    if key is not None:
        environ["HTTP_IDEMPOTENCY_KEY"] = key
    environ.update(more)
    return {name: value for name, value in environ.items() if value is not None}


@dataclass
class Exchange:
    """One request and what came of it.

    Attributes:
        gone_after: the client is gone after so many parts; the server stops and closes the response.
    """

    environ: Environ = field(default_factory=environ_of)
    gone_after: int | None = None
    strict: bool = True
    status_line: str = ""
    headers: Headers = field(default_factory=list["tuple[str, str]"])
    parts: list[bytes] = field(default_factory=list[bytes])
    order: list[str] = field(default_factory=list[str])

    def __post_init__(self) -> None:
        self._errors: io.StringIO = self.environ["wsgi.errors"]

    @property
    def errors(self) -> str:
        """What was written to the server's log."""
        return self._errors.getvalue()

    def start_response(self, status: str, headers: Headers, exc_info: Any = None) -> Callable[[bytes], object]:
        if exc_info is not None and self.parts:
            raise exc_info[1].with_traceback(exc_info[2])
        assert not self.status_line or exc_info is not None
        self.status_line, self.headers = status, headers
        self.order.append("start")
        return self.parts.append

    def through(self, app: App) -> Exchange:
        """Send the request through an application, as a server does."""
        strict = cast("App", validator(cast("Any", app))) if self.strict else app
        result: Iterable[bytes] = strict(self.environ, self.start_response)
        try:
            for part in result:
                if self.gone_after is not None and len(self.parts) >= self.gone_after:
                    break
                self.parts.append(part)
                self.order.append("part")
        finally:
            self.order.append("close")
            close = getattr(result, "close", None)
            if close is not None:
                close()
        return self

    @property
    def status(self) -> int:
        return int(self.status_line[:3])

    @property
    def content(self) -> bytes:
        return b"".join(self.parts)

    @property
    def replayed(self) -> bool:
        return ("idempotent-replayed", "true") in self.headers

    @property
    def code(self) -> str:
        return self.content.partition(b'"code":"')[2].partition(b'"')[0].decode()
