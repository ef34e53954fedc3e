"""One guarded request and its response, seen from inside the operation's own task.

The application talks to :meth:`Exchange.receive` and :meth:`Exchange.send` as to a server. Its response is held until
the protocol says what may leave: persist, then send (S1). What it does after its last message, such as background
tasks, runs on afterwards, once (S7).
"""

from __future__ import annotations

import asyncio
from enum import Enum, auto
from typing import TYPE_CHECKING, Any

from retrysafe.adapters.asgi.body import declared_length
from retrysafe.errors import RetrySafeError
from retrysafe.http.replay import stamped
from retrysafe.protocol import effects as fx
from retrysafe.protocol.model import Final, Mode, NoEffect, Response
from retrysafe.protocol.steps import Halted
from retrysafe.runtime.context import conclude, enter, leave, step_in, step_out
from retrysafe.runtime.replies import began, is_own, raised, response_to, returned

if TYPE_CHECKING:
    from weakref import ref

    from retrysafe.adapters.asgi.types import App, Message, Scope, Send
    from retrysafe.http.profiles import Profile
    from retrysafe.protocol.model import Claim
    from retrysafe.runtime.context import Presence
    from retrysafe.runtime.runs import AsyncRun

_WHOLE_BODY = frozenset({"http.response.pathsend", "http.response.zerocopysend"})


class Stage(Enum):
    """How far the response is."""

    HELD = auto()
    """Nothing has left; the application's messages are held."""
    FORWARDING = auto()
    """The stream leaves as it comes."""
    ENDED = auto()
    """Everything has left, or the application's own response must not; further messages are dropped."""


class Exchange:
    """One guarded request and its response.

    Attributes:
        client_gone: nobody listens any more; the operation goes on (S1).
        presence: dead once nothing runs inside the operation any more.
        answered: something has left for the client.
        claim: the claim under which the operation runs.
        run: drives it.
        task: its own.
        over: done when the task is; whoever serves the client waits for it.
    """

    def __init__(self, scope: Scope, body: bytes, send: Send, *, response_limit: int, profile: Profile) -> None:
        """Hold a request whose body was read whole.

        Args:
            scope: the request's ASGI scope.
            body: its whole body.
            send: the server's ``send``.
            response_limit: largest response body in bytes that is kept (S5).
            profile: how refusals look.
        """
        self._scope = scope
        self._body: bytes | None = body
        self._send = send
        self._limit = response_limit
        self._profile = profile
        self._stage = Stage.HELD
        self._ending: asyncio.Event | None = None
        self._all_left = False
        self._start: Message | None = None
        self._held: list[Message] = []
        self._size = 0
        self._left: int | None = None
        self._done = False
        self._sending: asyncio.Task[object] | None = None
        self._refused: Exception | None = None
        self._next: fx.Execute | None = None
        self.client_gone = False
        self.answered = False
        self.claim: Claim | None = None
        self.run: AsyncRun[Any] | None = None
        self.task: asyncio.Task[None] | None = None
        self.over: asyncio.Future[None] | None = None
        self.presence: ref[Presence] | None = None

    async def execute(
        self, app: App, run: AsyncRun[fx.Answer], step: fx.Execute, digest: bytes, *, recovering: bool = False
    ) -> None:
        """Run the application as the operation, and answer the client as the protocol decides.

        It runs again inside the same claim when its transaction met another one (R11).
        """
        self.run = self._run = run
        whole = self._body
        await self._execute(app, step, digest, recovering=recovering)
        while self._next is not None:
            step, self._next = self._next, None
            self._start_over(whole)
            await self._execute(app, step, digest, recovering=recovering)

    async def _execute(self, app: App, step: fx.Execute, digest: bytes, *, recovering: bool) -> None:
        token, self.presence = enter(self._run.in_hand(step, recovering=recovering), digest)
        # Applications write into their scope.
        scope = self._scope if step.claim is None or step.claim.mode is not Mode.TRANSACTION else dict(self._scope)
        try:
            await app(scope, self.receive, self.send)
            if self._stage is not Stage.ENDED:
                message = "the application returned without completing its response"
                raise RuntimeError(message)  # noqa: TRY301 - treated like any exception of the application
            self._tell_refused()
        except Exception as error:
            if not await self._failed(error) and self._next is None:
                raise
        except (Halted, BaseExceptionGroup):
            # Frameworks with task groups wrap it.
            if step.trail is None or step.trail.halt is None:
                raise
            if self._stage is Stage.HELD:
                await self._settle(fx.Cut())
        finally:
            leave(token)

    def _start_over(self, body: bytes | None) -> None:
        """Forget what an earlier run of the operation said."""
        self._body = body
        self._stage = Stage.HELD
        self._ending, self._all_left = None, False
        self._start = None
        self._held = []
        self._size = 0
        self._left = None

    async def answer(self, answer: fx.Answer | RetrySafeError) -> None:
        """Send what the protocol answered; nothing of the application's own follows."""
        await self._answer(answer)
        if self._refused is not None:
            self._tell_refused()

    def stop(self) -> None:
        """Cancel the operation's task, from another thread: it lost its claim, or ran too long (C3)."""
        task = self.task
        if task is not None and not (loop := task.get_loop()).is_closed():
            loop.call_soon_threadsafe(task.cancel)

    def hang_up(self) -> None:
        """Nobody listens any more: the operation goes on, and does not wait for what it was just sending (S1)."""
        self.client_gone = True
        if self._sending is not None:
            self._sending.cancel()

    async def _answer(self, answer: fx.Answer | RetrySafeError) -> None:
        self._stage = Stage.ENDED
        try:
            response = response_to(answer, self._profile)
            if response is not None:
                await self._to_client(
                    {"type": "http.response.start", "status": response.status, "headers": list(response.headers)},
                    {"type": "http.response.body", "body": response.body, "more_body": False},
                )
        finally:
            self._end()

    async def receive(self) -> Message:
        """Give the application its request, then nothing until the response has left.

        A disconnect does not cancel it (S1).
        """
        if self._body is not None:
            body, self._body = self._body, None
            return {"type": "http.request", "body": body, "more_body": False}
        # Nearly no application asks for more than its request.
        if not self._all_left:
            self._ending = self._ending or asyncio.Event()
            await self._ending.wait()
        return {"type": "http.disconnect"}

    def _end(self) -> None:
        """Let those go on who listen for the end."""
        self._all_left = True
        if self._ending is not None:
            self._ending.set()

    async def send(self, message: Message) -> None:
        """Take a message of the application's response."""
        if self._stage is Stage.FORWARDING:
            await self._forward(message)
        elif self._stage is Stage.HELD:
            match message["type"]:
                case "http.response.start":
                    self._start = message
                case "http.response.body":
                    self._held.append(message)
                    if message.get("more_body", False) or self._trailers:
                        await self._hold_part(message)
                    else:
                        await self._settle(self._returned())
                case kind if kind in _WHOLE_BODY:
                    self._held.append(message)
                    self._left = self._declared()
                    await self._settle(began(self._head()))
                case _:
                    await self._pass_on(message)

    async def _hold_part(self, message: Message) -> None:
        """Wait for the rest, if it is known to be small; else the response is a stream."""
        if self._size == 0:
            self._left = self._declared()
        self._size += len(message.get("body", b""))
        if self._left is None or self._left > self._limit or self._size > self._limit:
            await self._settle(began(self._head()))

    def _declared(self) -> int | None:
        """Return the length that the response says it has; with trailers it tells no end."""
        return None if self._start is None or self._trailers else declared_length(self._start.get("headers", ()))

    async def _settle(self, reply: fx.Reply) -> None:
        """Tell the protocol what the operation did, then do what it says."""
        step: fx.Execute | fx.Forward | fx.Answer | RetrySafeError
        try:
            step = await self._run.advance(reply)
        except RetrySafeError as error:
            step = error
        if not isinstance(step, fx.Forward | fx.Execute):
            conclude()
        match step:
            case fx.Forward(claim, stored):
                self._stage = Stage.FORWARDING
                protected = claim is not None
                await self._to_client(self._stamped_start(stored=stored or not protected, protected=protected))
                held, self._held = self._held, []
                for message in held:
                    await self._forward(message)
            case fx.Execute():
                self._next = step
                self._stage = Stage.ENDED
                self._end()
            case _ if is_own(step, reply):
                await self._release_held()
            case _:
                await self._answer(step)

    async def _release_held(self) -> None:
        """Send the application's own messages, as they are."""
        self._stage = Stage.ENDED
        held = self._held
        await self._to_client(*(held if self._start is None else (self._start, *held)))
        # Only now: to the application a disconnect in the middle of a send means that nobody reads on.
        self._end()

    async def _forward(self, message: Message) -> None:
        if self._left is not None:
            self._left -= len(message.get("body", b""))
        last = self._is_last(message)
        if last:
            self._stage = Stage.ENDED
        if last or (self._left is not None and self._left <= 0):
            # DONE is durable before the client can know that the stream is complete: its length may tell as well.
            await self._end_stream(None)
        await self._to_client(message)
        if last:
            self._end()

    async def _end_stream(self, error: Exception | None) -> None:
        if not self._done:
            self._done = True
            conclude()
            await self._run.advance(fx.Ended(error))

    async def _failed(self, error: Exception) -> bool:
        """Settle after an exception of the application; False when it must go on to the server."""
        if self._stage is Stage.HELD:
            await self._settle(raised(error, self._limit, self._profile))
            return isinstance(error, NoEffect | Final)
        if self._stage is Stage.FORWARDING:
            self._stage = Stage.ENDED
            self._end()
            await self._end_stream(error)
        return False

    async def _to_client(self, *messages: Message) -> None:
        """Send parts of the response; whatever becomes of them, the operation goes on (S1)."""
        if self.client_gone:
            return
        presence = step_out()
        self.answered = True
        self._sending = task = asyncio.current_task()
        try:
            for message in messages:
                await self._send(message)
        except asyncio.CancelledError:
            # By hang_up alone, or is the attempt itself told to stop?
            if not self.client_gone or task is None or task.uncancel() > 0:
                raise
        except OSError:
            # What ASGI servers raise when the client has gone (spec 2.4).
            self.client_gone = True
        except Exception as error:  # noqa: BLE001 - told to the server once the operation is over
            if not self.client_gone:
                self.client_gone, self._refused = True, error
        finally:
            self._sending = None
            if presence is not None:
                step_in(presence)

    async def _pass_on(self, message: Message) -> None:
        """Send what is no part of the response: early hints, pushes, a test client's debug message.

        A server that does not know it says so to the application.
        """
        await self._to_client(message)
        if self._refused is not None:
            refused, self._refused, self.client_gone = self._refused, None, False
            raise refused

    def _tell_refused(self) -> None:
        """Give the server back what it raised when it was given the response."""
        if self._refused is not None:
            raise self._refused

    @property
    def _trailers(self) -> bool:
        return self._start is not None and bool(self._start.get("trailers", False))

    def _is_last(self, message: Message) -> bool:
        match message["type"]:
            case "http.response.body" | "http.response.zerocopysend":
                return not message.get("more_body", False) and not self._trailers
            case "http.response.pathsend":
                return not self._trailers
            case "http.response.trailers":
                return not message.get("more_trailers", False)
            case _:
                return False

    def _head(self) -> Response:
        return self._whole(b"")

    def _whole(self, body: bytes) -> Response:
        start = self._start or {"status": 500}
        pairs = tuple([(bytes(name), bytes(value)) for name, value in start.get("headers", ())])
        return Response.raw(start["status"], pairs, body)

    def _returned(self) -> fx.Returned:
        parts = [message.get("body", b"") for message in self._held]
        return returned(self._whole(b"".join(parts)), self._limit)

    def _stamped_start(self, *, stored: bool, protected: bool) -> Message:
        start = self._start or {"type": "http.response.start", "status": 500}
        head = self._head()
        stamp = stamped(head, stored=stored, protected=protected)
        return start if stamp is head else {**start, "headers": list(stamp.headers)}
