"""A connection of one event loop: what is asked is answered, or nothing is known about it.

The client does not connect again by itself. It would send later what was already given up, and nobody would know until
when; so a connection that is lost fails whatever waits for an answer, and the next use makes a new one.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from itertools import count
from typing import Any, Final, cast

import msgspec
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.errors import Error as NatsError

from retrysafe.errors import StoreUnavailable

Connect = Callable[[], Awaitable[Client]]
"""Makes a connected client of the running event loop, which does not connect again by itself."""

_NO_RESPONDERS = "503"
_STATUS = "Status"
# There is nothing, or nothing any more.
_NO_MORE = frozenset({"404", "408"})
_LOST = "NATS: the connection was lost"
# Questions are looked at together, so that none costs a timer of its own: an answer is missed at most so much later.
_LOOK_EVERY = 1 / 5


class ApiError(msgspec.Struct, frozen=True):
    """What JetStream says when it does not do as it is told."""

    code: int = 0
    err_code: int = 0
    description: str = ""


class Ack(msgspec.Struct, frozen=True):
    """The answer to a write."""

    seq: int = 0
    error: ApiError | None = None


_acks = msgspec.json.Decoder(Ack)


class Wire:
    """A client that is connected, and the questions that wait for their answers.

    Attributes:
        client: the library's.
        is_open: whether it can still be used.
    """

    def __init__(self, client: Client, timeout_seconds: float) -> None:
        self.client: Final = client
        self.is_open = True
        self._timeout_seconds = timeout_seconds
        self._prefix: str = client.new_inbox()
        self._tokens = count()
        self._loop = asyncio.get_running_loop()
        # In the order in which they were asked, each with the loop's time at which it was.
        self._answers: dict[str, tuple[asyncio.Future[Msg], float]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._closing: asyncio.Task[None] | None = None
        self._queues: set[asyncio.Queue[Msg | None]] = set()

    @classmethod
    async def open(cls, connect: Connect, timeout_seconds: float) -> Wire:
        """Connect.

        Raises:
            StoreUnavailable: nobody answers, or not to us.
        """
        wire: Wire | None = None
        try:
            async with asyncio.timeout(timeout_seconds):
                wire = cls(await connect(), timeout_seconds)
                wire.client._closed_cb = wire._on_closed  # noqa: SLF001 - the one way to hear of it for any client
                await wire._listen(f"{wire._prefix}.*", wire._on_answer)
        except BaseException as error:
            if wire is not None:
                await wire.close()
            if not isinstance(error, NatsError | OSError | ValueError):
                raise
            reason = f"no connection after {timeout_seconds:g} s" if isinstance(error, TimeoutError) else error
            raise StoreUnavailable(f"NATS: {reason}") from error
        return wire

    async def close(self, reason: str = _LOST) -> None:
        """Close the connection; what waits for an answer gets none."""
        self.is_open = False
        self._fail(reason)
        with suppress(NatsError, OSError, TimeoutError):
            # It writes what is left first, to a server that may not read any more.
            async with asyncio.timeout(self._timeout_seconds):
                await self.client.close()

    def disown(self) -> None:
        """Let go of the connection in a forked child, so that the server hears when its owner ends."""
        transport = getattr(self.client, "_transport", None)
        writer = getattr(transport, "_io_writer", None)
        socket = None if writer is None else writer.get_extra_info("socket")
        if socket is not None and socket.fileno() >= 0:
            # Not closed: whoever still has the number would close somebody else's.
            nowhere = os.open(os.devnull, os.O_RDWR)
            os.dup2(nowhere, socket.fileno())
            os.close(nowhere)

    async def send(
        self, subject: str, payload: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> asyncio.Future[Msg]:
        """Send a question, behind all that were sent before; the future is its answer.

        Raises:
            StoreUnavailable: it was not sent. The future raises it when no answer came.
        """
        token = str(next(self._tokens))
        answer: asyncio.Future[Msg] = self._loop.create_future()
        self._answers[token] = answer, self._loop.time()
        if self._timer is None:
            self._timer = self._loop.call_later(self._timeout_seconds * _LOOK_EVERY, self._look)
        try:
            await self._publish(subject, payload, f"{self._prefix}.{token}", headers)
        except BaseException:
            self._answers.pop(token, None)
            raise
        return answer

    async def tell(self, subject: str, payload: bytes, headers: Mapping[str, str] | None = None) -> None:
        """Send something whose answer changes nothing."""
        await self._publish(subject, payload, "", headers)

    async def answered(self, answer: asyncio.Future[Msg]) -> Msg:
        """Wait for an answer.

        Raises:
            StoreUnavailable: none came in time, the connection was lost, or nobody is there who could answer.
        """
        message = await answer
        if message.headers is not None and message.headers.get(_STATUS) == _NO_RESPONDERS:
            raise StoreUnavailable("NATS: JetStream does not answer: it is not enabled, or has no leader just now")
        return message

    async def ask(self, subject: str, payload: bytes = b"", headers: Mapping[str, str] | None = None) -> Msg:
        """Send a question and wait for its answer.

        Raises:
            StoreUnavailable: nothing is known about what became of it.
        """
        return await self.answered(await self.send(subject, payload, headers))

    async def flood(self, subject: str, payload: bytes, most: int) -> list[Msg]:
        """Ask for many answers, and return those that came until one says that there are no more.

        Raises:
            StoreUnavailable: they did not come in time.
        """
        queue: asyncio.Queue[Msg | None] = asyncio.Queue()
        found: list[Msg] = []
        inbox: str = self.client.new_inbox()
        self._queues.add(queue)
        try:
            # One of its own: what is delivered has the subject under which it was stored.
            subscription = await self._listen(inbox, queue.put)
            await self._publish(subject, payload, inbox, None)
            while len(found) < most:
                async with asyncio.timeout(self._timeout_seconds):
                    message = await queue.get()
                if message is None:
                    raise StoreUnavailable(_LOST)
                status = None if message.headers is None else message.headers.get(_STATUS)
                if status in _NO_MORE:
                    break
                if status is not None:
                    raise StoreUnavailable(f"NATS: not all that was asked for has come: status {status}")
                found.append(message)
            await subscription.unsubscribe()
        except TimeoutError:
            await self.close(self._overdue)
            raise StoreUnavailable(self._overdue) from None
        except (NatsError, OSError) as error:
            raise StoreUnavailable(f"NATS: {error}") from error
        finally:
            self._queues.discard(queue)
        return found

    @asynccontextmanager
    async def listening(self, subject: str) -> AsyncGenerator[asyncio.Queue[Msg | None]]:
        """Subscribe to a subject: what comes is in the queue; None says that the connection was lost."""
        queue: asyncio.Queue[Msg | None] = asyncio.Queue()
        self._queues.add(queue)
        try:
            subscription = await self._listen(subject, queue.put)
            try:
                yield queue
            finally:
                if self.is_open:
                    await subscription.unsubscribe()
        except (NatsError, OSError) as error:
            raise StoreUnavailable(f"NATS: {error}") from error
        finally:
            self._queues.discard(queue)

    async def _publish(self, subject: str, payload: bytes, reply: str, headers: Mapping[str, str] | None) -> None:
        if not self.is_open:
            raise StoreUnavailable(_LOST)
        told: Any = None if headers is None else dict(headers)
        try:
            await self.client.publish(subject, payload, reply=reply, headers=told)
        except (NatsError, OSError) as error:
            self.is_open = not self.client.is_closed
            raise StoreUnavailable(f"NATS: {error}") from error

    async def _listen(self, subject: str, act: Callable[[Msg], Awaitable[None]]) -> Subscription:
        subscription: Subscription = await cast(Any, self.client).subscribe(subject, cb=act)
        return subscription

    @property
    def _overdue(self) -> str:
        return f"NATS: not answered after {self._timeout_seconds:g} s"

    def _look(self) -> None:
        """Give the connection up when the first question has waited for too long: another server may know more."""
        self._timer = None
        if not self._answers:
            return
        _, asked_at = next(iter(self._answers.values()))
        if self._loop.time() - asked_at < self._timeout_seconds:
            self._timer = self._loop.call_later(self._timeout_seconds * _LOOK_EVERY, self._look)
        else:
            self._closing = self._loop.create_task(self.close(self._overdue))

    async def _on_answer(self, message: Msg) -> None:
        token = message.subject.rpartition(".")[2]
        asked = self._answers.pop(token, None)
        if asked is not None and not asked[0].done():
            asked[0].set_result(message)

    async def _on_closed(self) -> None:
        self.is_open = False
        self._fail(_LOST)

    def _fail(self, reason: str) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        answers, self._answers = self._answers, {}
        for answer, _ in answers.values():
            if not answer.done():
                answer.set_exception(StoreUnavailable(reason))
                # Whoever asked may have gone.
                answer.exception()
        for queue in self._queues:
            queue.put_nowait(None)


def ack_of(message: Msg) -> Ack:
    """Decode the answer to a write.

    Raises:
        StoreUnavailable: it is none, so nothing is known.
    """
    try:
        return _acks.decode(message.data)
    except msgspec.DecodeError as error:
        raise StoreUnavailable(f"NATS: an answer can't be read: {error}") from error
