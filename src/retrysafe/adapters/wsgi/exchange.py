"""One guarded WSGI request: run the application, hold its response until the protocol says what may leave (S1)."""

from __future__ import annotations

import traceback
from contextvars import copy_context
from http import HTTPStatus
from itertools import islice
from typing import TYPE_CHECKING

from retrysafe.errors import RetrySafeError
from retrysafe.http.replay import stamped
from retrysafe.protocol import effects as fx
from retrysafe.protocol.model import Final, Mode, NoEffect, Response
from retrysafe.protocol.steps import Halted
from retrysafe.runtime.context import conclude, enter, leave
from retrysafe.runtime.replies import began, is_own, raised, response_to, returned

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from retrysafe.adapters.wsgi.types import App, Environ, Headers, StartResponse, Write
    from retrysafe.http.profiles import Profile
    from retrysafe.runtime.runs import Run

# Frameworks answer these with an iterable like any other, and with no length.
_WITHOUT_BODY = frozenset({"204", "304"})


class Whole:
    """A response that is complete.

    What the application does in ``close``, such as background work, runs after it was sent (S7).
    """

    def __init__(self, body: Sequence[bytes], close: Callable[[], object] | None = None) -> None:
        """Hold the body's parts and the application's own ``close``."""
        self._body = body
        self._close = close

    def __iter__(self) -> Iterator[bytes]:
        """Give the body."""
        return iter(self._body)

    def __len__(self) -> int:
        """Count the parts: servers add a Content-Length to a response of one part."""
        return len(self._body)

    def close(self) -> None:
        """Close what the application returned."""
        if self._close is not None:
            self._close()


class Stream:
    """A response that leaves as it comes; DONE is durable before the client can know that it is complete (S5)."""

    def __init__(
        self,
        first: Sequence[bytes],
        rest: Iterator[bytes],
        run: Run[fx.Answer],
        *,
        length: int | None,
        close: Callable[[], object] | None,
    ) -> None:
        """Give ``first``, then ``rest``, then end the run; with its last byte if ``length`` tells which one that is."""
        self._first = list(first)
        self._rest = rest
        self._run = run
        self._left = length
        self._close = close
        self._exhausted = False
        self._ended = False
        # The operation's own context: code that streams may still ask for its operation.
        self._context = copy_context()

    def __iter__(self) -> Iterator[bytes]:
        """Iterate over the response."""
        return self

    def __next__(self) -> bytes:
        """Give the next part."""
        part = self._first.pop(0) if self._first else self._make()
        if self._left is not None:
            self._left -= len(part)
            if self._left <= 0:
                self._end(None)
        return part

    def close(self) -> None:
        """Run the operation to its end even if nobody listens (S1), then close what the application returned."""
        try:
            if not self._exhausted:
                for _ in self:
                    pass
        finally:
            if self._close is not None:
                self._context.run(self._close)

    def _make(self) -> bytes:
        try:
            return self._context.run(next, self._rest)
        except StopIteration:
            self._exhausted = True
            self._end(None)
            raise
        except Exception as error:
            self._exhausted = True
            self._end(error)
            raise
        except BaseException:
            # The server ends this thread: a crash (C7). Nothing more is written, and the lease is left to run out.
            self._exhausted = self._ended = True
            self._run.abandon()
            raise

    def _end(self, error: Exception | None) -> None:
        if not self._ended:
            self._ended = True
            self._context.run(conclude)
            self._run.advance(fx.Ended(error))


class Exchange:
    """One guarded request and its response.

    Attributes:
        environ: the request, as the application gets it.
    """

    def __init__(
        self, environ: Environ, start_response: StartResponse, *, response_limit: int, profile: Profile
    ) -> None:
        """Hold a request whose body was read whole.

        Args:
            environ: the request.
            start_response: the server's own.
            response_limit: largest response body in bytes that is kept (S5).
            profile: how refusals look.
        """
        self.environ = environ
        self._start_response = start_response
        self._limit = response_limit
        self._profile = profile
        self._status = ""
        self._has_left = False
        self._headers: Headers = []
        self._written: list[bytes] = []
        self._close: Callable[[], object] | None = None
        self._rest: Iterator[bytes] = iter(())

    def untouched(self, app: App) -> Iterable[bytes]:
        """Let the application answer the server directly."""
        return app(self.environ, self._start_response)

    def execute(
        self, app: App, run: Run[fx.Answer], step: fx.Execute, digest: bytes, *, recovering: bool = False
    ) -> Iterable[bytes]:
        """Run the application as the operation, and answer the client as the protocol decides.

        It runs again inside the same claim when its transaction met another one (R11).
        """
        while True:
            token, _ = enter(run.in_hand(step, recovering=recovering), digest)
            try:
                answer = self._settle(run, self._run_once(app, step))
            finally:
                leave(token)
            if not isinstance(answer, fx.Execute):
                return answer
            self._start_over()
            step = answer

    def _run_once(self, app: App, step: fx.Execute) -> fx.Reply:
        # Applications write into their environ.
        again = step.claim is not None and step.claim.mode is Mode.TRANSACTION
        try:
            return self._reply(app(dict(self.environ) if again else self.environ, self._capture))
        except Exception as error:  # noqa: BLE001 - the protocol decides what it means
            return self._raised(error)
        except Halted:
            if step.trail is None or step.trail.halt is None:
                raise
            return fx.Cut()

    def _start_over(self) -> None:
        """Forget what an earlier run of the operation said."""
        if self._close is not None:
            self._close()
        body = self.environ["wsgi.input"]
        body.seek(0)
        self._status, self._headers, self._written, self._close, self._rest = "", [], [], None, iter(())

    def answer(self, answer: fx.Answer | RetrySafeError) -> Iterable[bytes]:
        """Send what the protocol answered, in place of anything the application said."""
        try:
            response = response_to(answer, self._profile)
        except Exception:
            if self._close is not None:
                self._close()
            raise
        return Whole((), self._close) if response is None else self._respond(response)

    def _settle(self, run: Run[fx.Answer], reply: fx.Reply) -> Iterable[bytes] | fx.Execute:
        """Tell the protocol what the operation did, then do what it says."""
        step: fx.Execute | fx.Forward | fx.Answer | RetrySafeError
        try:
            step = run.advance(reply)
        except RetrySafeError as error:
            step = error
        if not isinstance(step, fx.Forward | fx.Execute):
            conclude()
        match step:
            case fx.Forward(claim, stored):
                head, protected = self._response(b""), claim is not None
                stamp = stamped(head, stored=stored or not protected, protected=protected)
                self._start_response(self._status, self._headers if stamp is head else _text(stamp))
                self._has_left = True
                return Stream(self._written, self._rest, run, length=self._declared_length(), close=self._close)
            case fx.Execute():
                return step
            case _ if is_own(step, reply):
                self._start_response(self._status, self._headers)
                return Whole(self._written, self._close)
            case _:
                return self.answer(step)

    def _capture(self, status: str, headers: Headers, exc_info: object = None) -> Write:
        """Take the application's status and headers instead of the server."""
        if self._has_left:
            # The server knows whether anything was sent, and raises what it is told if so (PEP 3333).
            return self._start_response(status, headers, exc_info)
        if self._status and exc_info is None:
            message = "start_response was called twice without exc_info"
            raise AssertionError(message)
        self._status, self._headers = status, headers
        return self._written.append

    def _reply(self, chunks: Iterable[bytes]) -> fx.Reply:
        self._close = getattr(chunks, "close", None)
        self._rest = iter(chunks)
        if isinstance(chunks, list | tuple) or self._is_bounded():
            self._written.extend(self._rest)
        elif not self._status:
            # A generator may call start_response only when its first part is asked for.
            self._written.extend(islice(self._rest, 1))
            if self._is_bounded():
                self._written.extend(self._rest)
            else:
                return began(self._response(b""))
        else:
            return began(self._response(b""))
        return returned(self._response(b"".join(self._written)), self._limit)

    def _raised(self, error: Exception) -> fx.Raised:
        if not isinstance(error, NoEffect | Final):
            # Where the server would have shown it.
            traceback.print_exception(error, file=self.environ["wsgi.errors"])
        return raised(error, self._limit, self._profile)

    def _is_bounded(self) -> bool:
        """Tell whether the body is known to be small enough to be kept."""
        if self._status[:3] in _WITHOUT_BODY:
            return True
        length = self._declared_length()
        return length is not None and length <= self._limit

    def _declared_length(self) -> int | None:
        for name, value in self._headers:
            if name.lower() == "content-length":
                return int(value) if value.isascii() and value.isdigit() else None
        return None

    def _response(self, body: bytes) -> Response:
        if not self._status:
            message = "the application returned without calling start_response"
            raise RuntimeError(message)
        headers = tuple((name.encode("latin-1"), value.encode("latin-1")) for name, value in self._headers)
        return Response.raw(int(self._status.partition(" ")[0]), headers, body)

    def _respond(self, response: Response) -> Iterable[bytes]:
        self._start_response(_status_line(response.status), _text(response))
        return Whole((response.body,) if response.body else (), self._close)


def _text(response: Response) -> Headers:
    return [(name.decode("latin-1"), value.decode("latin-1")) for name, value in response.headers]


def _status_line(status: int) -> str:
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        return f"{status} Unknown"
