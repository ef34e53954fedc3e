"""A WSGI application that does what its requests say, guarded and, with ``X-Plain``, the same without a guard."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from retrysafe.adapters.wsgi import RetrySafeMiddleware
from tests.servers.apps import flask_app, guards
from tests.servers.apps.steps import decode, mark, pass_gate, raised

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from retrysafe.adapters.wsgi.types import App, Environ, Headers, StartResponse
    from tests.servers.apps.steps import Step


class Parts:
    """A whole response; what is left to do is done in ``close``."""

    def __init__(self, body: list[bytes], rest: Iterator[Step]) -> None:
        self._body = body
        self._rest = rest

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._body)

    def __len__(self) -> int:
        return len(self._body)

    def close(self) -> None:
        """Do the background work."""
        for step in self._rest:
            _work(step)


class Streamed:
    """A response that is made while it leaves."""

    def __init__(self, rest: Iterator[Step]) -> None:
        self._rest = rest
        self._parts = self._generate()

    def _generate(self) -> Iterator[bytes]:
        for step in self._rest:
            match step:
                case ["chunk", text]:
                    yield text.encode("latin-1")
                case ["fill", size]:
                    yield b"x" * size
                case ["end"]:
                    return
                case _:
                    _work(step)

    def __iter__(self) -> Iterator[bytes]:
        return self._parts

    def close(self) -> None:
        """Do the background work, unless the stream was cut off."""
        if next(self._parts, None) is None:
            for step in self._rest:
                _work(step)


def scripted(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """Do the request's steps."""
    body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    steps = iter(decode(environ.get("HTTP_X_STEPS")))
    for step in steps:
        match step:
            case ["respond", status, headers, text]:
                content = text.encode("latin-1")
                start_response(_line(status), [*_pairs(headers), ("Content-Length", str(len(content)))])
                return Parts([content] if content else [], steps)
            case ["bodyless", status]:
                start_response(_line(status), [])
                return Streamed(steps)
            case ["start", status, headers]:
                start_response(_line(status), _pairs(headers))
                return Streamed(steps)
            case ["path", path]:
                start_response("200 OK", [("Content-Type", "text/plain")])
                # The server closes the file.
                return environ["wsgi.file_wrapper"](open(path, "rb"))  # type: ignore[no-any-return]  # noqa: PTH123
            case ["echo"]:
                return _answer(start_response, {"body": body.decode("latin-1"), "path": environ["PATH_INFO"]})
            case _:
                _work(step)
    raise RuntimeError("the steps have no response")


def _work(step: Step) -> None:
    match step:
        case ["effect", label]:
            mark(label)
        case ["gate", path]:
            pass_gate(path)
        case ["raise", kind]:
            raise raised(kind)
        case _:
            raise ValueError(f"unknown step {step}")


def _line(status: int) -> str:
    known = status in HTTPStatus.__members__.values()
    return f"{status} {HTTPStatus(status).phrase if known else 'Special'}"


def _pairs(headers: list[list[str]]) -> Headers:
    return [(name, value) for name, value in headers]


def _answer(start_response: StartResponse, content: Any) -> list[bytes]:
    body = json.dumps(content).encode()
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]


guard = guards.make_guard()
guarded = RetrySafeMiddleware(scripted, guard=guard)
ROOMS: dict[str, tuple[App, App]] = {
    "brief": (RetrySafeMiddleware(scripted, guard=guards.make_brief_guard()), scripted),
    "storeless": (RetrySafeMiddleware(scripted, guard=guards.make_storeless_guard()), scripted),
    "shared": (RetrySafeMiddleware(scripted, guard=guards.make_shared_guard()), scripted),
    "nested": (RetrySafeMiddleware(guarded, guard=guard), scripted),
    "flask": flask_app.room(guard),
}


def app(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """Choose the application by the first segment of the path."""
    with_guard, without = ROOMS.get(environ["PATH_INFO"].split("/")[1], (guarded, scripted))
    chosen: Callable[..., Iterable[bytes]] = without if "HTTP_X_PLAIN" in environ else with_guard
    return chosen(environ, start_response)
